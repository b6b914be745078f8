"""A chunk of examples through transformer and SAE to sparse activations, a batch of examples at a time.

Dense rows of one batch are all that is ever held; which token kinds are wanted decides which rows are encoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sae_assets.artifacts import Examples, SparseActivations, offsets_of
from sae_assets.catalog import Dataset, Model
from sae_assets.errors import ArtifactError, CheckpointError, DatasetError

if TYPE_CHECKING:
    from sae_assets.ops.sparse_activations import SparseCode


@dataclass(frozen=True)
class RowsPerKind:
    """Sparse activations of each token kind, and how many rows an example has in it."""

    artifacts: dict[str, SparseActivations]
    rows_per_example: dict[str, int]


def encode_chunk(
    chunk: Examples,
    token_kinds: Sequence[str],
    *,
    dataset: tuple[str, Dataset],
    model: Model,
    k_stored: int | None,
    precision: str,
    batch_size: int,
    device: Any,
    memory_budget: int,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> RowsPerKind:
    """Encode every example of a chunk.

    Args:
        token_kinds: ``patch`` and/or ``cls``.
        batch_size: examples whose rows are encoded together; the result does not depend on it.
        step: told after every batch how many examples are done.

    Raises:
        CheckpointError: weights that cannot be had, or an SAE of another width than the hook point (both are named).
        DatasetError: an image that cannot be read, or whose embedding is not finite (it is named).
    """
    from sae_assets.datasets import open_dataset
    from sae_assets.embedding.open_clip_vision import VisionTransformer
    from sae_assets.progress import track
    from sae_assets.saes.clipscope import read_clipscope
    from sae_assets.saes.files import locate_sae

    reader = open_dataset(*dataset)
    path = locate_sae(model.sae, download=True)
    assert path is not None
    checkpoint = read_clipscope(path)
    vision = VisionTransformer(model.transformer, model.layer, device, precision)
    if vision.d_model != checkpoint.d_model:
        raise CheckpointError(
            f"SAE {path.name} takes rows of width {checkpoint.d_model}, but block {model.layer} of "
            f"{model.transformer.name or model.transformer.path} gives width {vision.d_model}: "
            "they do not belong together."
        )
    encoder = checkpoint.encoder(device, memory_budget)
    span = {"cls": slice(0, 1), "patch": slice(1, None)}
    count = {"cls": 1, "patch": vision.geometry.n_patches}
    codes: dict[str, list[SparseCode]] = {kind: [] for kind in token_kinds}
    held: list[Any] = []
    for done, image in enumerate(track(chunk.paths, "encode"), start=1):
        rows = vision.embed(vision.geometry.tensor(reader.image(image)))
        if not bool(rows.isfinite().all()):
            raise DatasetError(f"Data set {dataset[0]!r}: the embedding of {image!r} holds values that are not finite.")
        held.append(rows)
        if len(held) == batch_size or done == len(chunk):
            for kind in token_kinds:
                batch = _cat([rows[span[kind]] for rows in held])
                codes[kind].append(encoder.encode(batch, k_stored))
            held.clear()
            step(done, len(chunk))
    return RowsPerKind(
        {kind: _artifact(codes[kind], chunk, count[kind], encoder.n_units, k_stored) for kind in token_kinds},
        {kind: count[kind] for kind in token_kinds},
    )


def _cat(parts: Sequence[Any]) -> Any:
    import torch

    return torch.cat(list(parts))


def _artifact(
    codes: "Sequence[SparseCode]", chunk: Examples, rows_per_example: int, n_units: int, k_stored: int | None
) -> SparseActivations:
    import math

    import torch

    lengths = torch.full((len(chunk),), rows_per_example)
    n_rows = sum(len(code.l0) for code in codes)
    if n_rows != int(lengths.sum()):
        raise ArtifactError(f"{n_rows} rows were encoded, expected {int(lengths.sum())}.")
    return SparseActivations(
        first_example=chunk.first_index,
        example_offsets=offsets_of(lengths),
        row_offsets=offsets_of(torch.cat([code.row_offsets.diff() for code in codes])),
        unit_ids=_cat([code.unit_ids for code in codes]),
        values=_cat([code.values for code in codes]),
        n_units=n_units,
        l0=_cat([code.l0 for code in codes]),
        k_stored=k_stored,
        # fsum rounds once, so the total does not depend on how rows were cut into batches.
        total_mass=math.fsum(mass for code in codes for mass in code.row_mass.tolist()),
        dropped_mass=math.fsum(mass for code in codes for mass in code.row_dropped.tolist()),
    )
