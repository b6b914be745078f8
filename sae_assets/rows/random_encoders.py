"""Random SAEs for the rows of a chunk, as sparse as the trained one; what they are is in ``ops.random_saes``."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sae_assets import ops
from sae_assets.catalog import Dataset, Model
from sae_assets.rows.loaded import open_random_encoders

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.ops.sparse_activations import Encoder
    from sae_assets.rows.source import RowSource

MATCHED_ROWS, MATCHED_EXAMPLES = 4096, 32  # on which the density of random units is matched, whichever is less


def random_encoders(
    dataset: Dataset, model: Model, encoder: "Encoder", source: "RowSource", ids: Sequence[str], kinds: Sequence[str]
) -> "list[Encoder]":
    """Return random SAEs as sparse as the trained one.

    A TopK SAE is by its k. Of others each unit's density is matched, on rows of a few examples of the chunk, those of
    the smallest hashes, which are embedded once more for it: so that the chunk's rows need not be held until the last
    of them is there. ``cls`` has the thresholds of patches or tokens, where these come from the same source.
    """
    import torch

    assert dataset.controls is not None
    random = open_random_encoders(model.sae, encoder, dataset.controls.n_seeds)
    if isinstance(encoder, ops.sparse_activations.TopKEncoder):
        return random
    kind = next((kind for kind in kinds if kind != "cls"), "cls")
    rows: list[Tensor] = []
    for example in sorted(ids, key=lambda example: hashlib.sha256(example.encode()).digest())[:MATCHED_EXAMPLES]:
        (embedded,) = source.embed([example])
        if kind not in embedded.silent:
            rows.append(embedded.rows[kind])
        if sum(map(len, rows)) >= MATCHED_ROWS:
            break
    x = torch.cat(rows) if rows else torch.zeros(0, encoder.d_model, dtype=torch.float32, device="cpu")
    if not len(x) or not bool(x.isfinite().all()):  # the example that it is of is named where rows are encoded
        return random
    counts = torch.bincount(encoder.encode(x).unit_ids, minlength=encoder.n_units)
    return [ops.random_saes.match_density(each, counts, x) for each in random]
