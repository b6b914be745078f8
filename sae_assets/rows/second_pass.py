"""Rows of examples once more, for what can be asked of them only when all chunks are known: they are not stored."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Dataset, Model
from sae_assets.errors import MismatchError
from sae_assets.rows.opening import open_sources
from sae_assets.rows.passes import ROUNDING, ROUNDING_OF_HALVES
from sae_assets.rows.source import is_pooled

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader


def largest_scores(
    example_ids: Sequence[str],
    means: "Tensor",
    directions: "Tensor",
    kind: str,
    *,
    dataset: Dataset,
    model: Model,
    reader: "Reader",
    device: Any,
    precision: str,
    forward_batch: int | None,
) -> "tuple[Tensor, int]":
    """The largest score over the rows of each example in each direction, and how many rows there were.

    Only the rows of one pass of the model are in memory. Where ``kind`` is pooled from codes, rows are its tokens.

    Args:
        means: float32 [n_examples, d_model], mean of the rows of each when they were encoded.
        directions: float64 [d_model, n_concepts]; kind: token kind.
        precision, forward_batch: as rows were encoded.

    Returns:
        float64 [n_examples, n_concepts], −∞ of an example without rows, on the device of the directions.

    Raises:
        MismatchError: rows are others than those that were encoded; the first such example is named.
    """
    import torch

    of_rows = "token" if is_pooled(dataset, model, kind) else kind
    rounding = ROUNDING.get(precision, ROUNDING_OF_HALVES)
    scores, n_rows = [], 0
    with ops.process_state.plain_arithmetic():
        ((_, source),) = open_sources(reader, dataset, model, (kind,), device, precision, forward_batch)
        for example, mean, embedded in zip(example_ids, means, source.embed(example_ids), strict=True):
            rows = embedded.rows[of_rows][: 0 if of_rows in embedded.silent else None].to(directions.device)
            n_rows += len(rows)
            if len(rows):
                apart = (rows.double().mean(0) - mean.to(rows.device).double()).norm()
                if not bool(apart <= rounding * rows.double().norm(dim=1).max()):
                    raise MismatchError(
                        f"The rows of {example!r} are others than those that were encoded: their mean is off by "
                        f"{float(apart):.3g}. Materialize sparse_activations and control_inputs again (--force)."
                    )
            scores.append(ops.detectors.largest_scores(rows, directions))
    return torch.stack(scores) if scores else directions.new_zeros(0, directions.shape[1]), n_rows
