"""A chunk of examples through a row source and an SAE to sparse activations, a batch of examples at a time.

Only one batch of dense rows is in memory at any time; which token kinds are wanted decides which rows are encoded.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts import Examples, SparseActivations, offsets_of
from sae_assets.artifacts.rows import FLOAT16
from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import TextReader
from sae_assets.errors import ArtifactError, CheckpointError, DatasetError
from sae_assets.progress import track
from sae_assets.rows.alternatives import EXAMPLES, better_alternatives
from sae_assets.rows.loaded import open_encoder
from sae_assets.rows.opening import open_sources
from sae_assets.rows.random_encoders import random_encoders
from sae_assets.rows.source import is_pooled
from sae_assets.rows.texts import doubt_of_texts
from sae_assets.rows.training import trained_elsewhere

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.artifacts.control_inputs import ControlInputs
    from sae_assets.datasets import Reader
    from sae_assets.ops.control_inputs import Collector
    from sae_assets.ops.pooling import Pooling
    from sae_assets.ops.reconstruction import Fit
    from sae_assets.ops.sparse_activations import Encoder
    from sae_assets.ops.sparse_code import SparseCode
    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.source import ExampleRows, RowSource


LIGHT = 2**31  # bytes of weights that are read once more, with their head, before a model's first chunk


@dataclass(frozen=True)
class RowsPerKind:
    """Sparse activations of each token kind, and how many rows each example must have in it (None: it differs).

    ``control_inputs`` are those of the kinds that they were asked for.
    ``elsewhere`` says where the SAE was trained if its checkpoint names a hook point that is not the catalog's,
    ``blank`` names the examples whose image is one colour or whose text is empty (of embeddings made elsewhere, none is
    opened). ``one_by_one`` says that examples were to go through the transformer together and cannot, because its rows
    depend on what goes with them. ``once_cpu_seconds`` is what looking for better alternatives took.
    """

    artifacts: dict[str, SparseActivations]
    rows_per_example: "dict[str, int | None]"
    elsewhere: str = ""
    blank: tuple[str, ...] = ()
    one_by_one: bool = False
    control_inputs: "dict[str, ControlInputs]" = field(default_factory=dict)
    once_cpu_seconds: float = 0.0


@dataclass
class _Collected:
    """An encoding collects these parts of one token kind.

    ``k_stored`` entries are kept of a row, None: all. ``fit`` collects how well rows are reconstructed; None where
    there is no decoder, and of rows that are pooled.
    """

    k_stored: int | None
    fit: "Fit | None" = None
    codes: "list[SparseCode]" = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)


def encode_chunk(
    chunk: Examples,
    token_kinds: Sequence[str],
    *,
    dataset: Dataset,
    model: Model,
    reader: "Reader",
    k_stored: int | None,
    precision: str,
    batch_size: int,
    device: Any,
    memory_budget: int,
    forward_batch: int | None = 1,
    stored_values: str = "float32",
    control_kinds: Collection[str] = (),
    control_pooling: "Pooling | None" = None,
    sae: "OpenedSae | None" = None,
    try_alternatives: bool = False,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> RowsPerKind:
    """Encode every example of a chunk.

    Args:
        reader: the opened data set.
        token_kinds: ``patch`` or ``token``, and/or ``cls``.
        k_stored: entries kept of a row, None: all; a row that is pooled is kept whole.
        batch_size: examples whose rows are encoded together; the result does not depend on it.
        forward_batch: examples that go through the transformer together, None: as many as the device takes. The last
            bits of embeddings depend on it, as those of any matrix product do on its shape; not on the other examples.
        stored_values: what values are rounded to (``ops.rounding``); control inputs are made from those before.
        control_kinds: token kinds whose control inputs are made, as the data set's ``controls`` say.
        control_pooling: of rows to the scores of random SAEs; of ``cls``, whose row is the example, and None: maximum.
        sae: in place of the model's own, such as one of a few of its units.
        try_alternatives: also say whether another activation function or normalisation than the model's suits the SAE
            better, by the first examples; each way to try takes as long as they do. Of texts, and a model that is not
            large, also whether it makes anything of them in the tokens that they come in.
        step: called after every batch with the number of examples done and their total.

    Raises:
        CheckpointError: weights that cannot be had, or an SAE of another width than the hook point (both are named).
        DatasetError: an example that cannot be read, or whose embedding is not finite (it is named).
    """
    with ops.process_state.plain_arithmetic():
        sae = sae or open_encoder(model.sae, device, memory_budget)
        sources = open_sources(reader, dataset, model, token_kinds, device, precision, forward_batch)
        for _, source in sources:
            _expect_width(source, sae.d_model, sae.name)
        pooled = {kind for kind in token_kinds if is_pooled(dataset, model, kind)}
        doubts = [doubt for _, source in sources for doubt in source.doubts]
        ids = chunk.example_ids
        once = 0.0
        if try_alternatives:
            start = time.process_time()
            doubts += _better_alternatives(sources, pooled, sae, ids[:EXAMPLES])
            if isinstance(reader, TextReader) and any(source.network is not None for _, source in sources):
                doubts += filter(None, [doubt_of_texts(reader, ids, model, LIGHT)])
            once = time.process_time() - start
        results = {
            kind: _Collected(
                None if kind in pooled else k_stored,
                None if kind in pooled or sae.decoder is None else ops.reconstruction.Fit(sae.decoder),
            )
            for kind in token_kinds
        }
        blank: set[str] = set()
        collectors: dict[str, Collector] = {}
        largest = ops.pooling.MAXIMUM
        pooling_of = {kind: largest if kind == "cls" else control_pooling or largest for kind in token_kinds}
        for kinds, source in sources:
            rows_of = {kind: "token" if kind in pooled else kind for kind in kinds}
            encoded = tuple(dict.fromkeys(rows_of.values()))
            controlled = [kind for kind in kinds if kind in control_kinds]
            watching: dict[str, Collector] = {}  # by the kind of the rows
            if controlled and dataset.controls is not None:
                random = random_encoders(dataset, model, sae.encoder, source, ids, encoded)
                most = dataset.controls.rows_per_chunk
                width = (sae.d_model, sae.encoder.n_units)
                for rows in {rows_of[kind] for kind in controlled}:
                    ways = {pooling_of[kind] for kind in controlled if rows_of[kind] == rows}
                    watching[rows] = ops.control_inputs.Collector(random, most, *width, ways)
                collectors |= {kind: watching[rows_of[kind]] for kind in controlled}
            queue: list[tuple[str, ExampleRows]] = []
            embedded = source.embed(ids)
            for done, example in enumerate(track(ids, "encode"), start=1):
                queue.append((example, next(embedded)))
                if len(queue) >= batch_size or done == len(ids):
                    for kind in encoded:
                        into = results[kind] if kind in kinds else None
                        pool = next((results[each] for each in kinds if each in pooled), None)
                        _encode(queue, kind, sae.encoder, into, pool if kind == "token" else None, dataset.name)
                        if kind in watching:
                            _collect(queue, kind, watching[kind])
                    blank |= {example for example, rows in queue if rows.blank}
                    queue.clear()
                    step(done, len(ids))
        artifacts = {kind: _artifact(results[kind], chunk, sae.encoder.n_units, stored_values) for kind in token_kinds}
        return RowsPerKind(
            artifacts,
            {kind: source.rows_per_example(kind) for kinds, source in sources for kind in kinds},
            trained_elsewhere(
                sae,
                model.model_copy(update={"precision": precision}),
                next((source.final_norm for _, source in sources if source.final_norm), ""),
                lambda limit: _beyond([source.longest for _, source in sources], limit),
                dict.fromkeys(doubts),
            ),
            tuple(example for example in ids if example in blank),
            any(source.one_by_one for _, source in sources),
            {
                kind: collectors[kind].result_of_pooled(chunk.first_index)
                if kind in pooled
                else collectors[kind].result(chunk.first_index, artifacts[kind].example_offsets, pooling_of[kind])
                for kind in control_kinds
            },
            once,
        )


def _beyond(longest: Sequence[int | None], limit: int) -> Iterable[int] | None:
    lengths = [length for length in longest if length is not None]
    return [length for length in lengths if length > limit] if lengths else None


def _better_alternatives(
    sources: "Sequence[tuple[tuple[str, ...], RowSource]]", pooled: Collection[str], sae: "OpenedSae",
    example_ids: Sequence[str],
) -> list[str]:  # fmt: skip
    """Return what suits the SAE better than the network's own configuration, by rows of its first token kind."""
    kinds, source = next(((kinds, source) for kinds, source in sources if source.network is not None), ((), None))
    if source is None:
        return []
    return better_alternatives(source, "token" if kinds[0] in pooled else kinds[0], sae, example_ids)


def _expect_width(source: "RowSource", d_model: int, sae: str) -> None:
    if source.d_model != d_model:
        raise CheckpointError(
            f"SAE {sae} takes rows of width {d_model}, but {source.origin} gives width {source.d_model}: "
            "they do not belong together."
        )


def _encode(
    batch: "Sequence[tuple[str, ExampleRows]]", kind: str, encoder: "Encoder", into: _Collected | None,
    pool: _Collected | None, dataset: str,
) -> None:  # fmt: skip
    """Encode the rows of a batch, for themselves (``into``) and for one row per example that is pooled from them."""
    import torch

    for example, rows in batch:
        if not bool(rows.rows[kind].isfinite().all()):
            raise DatasetError(f"Data set {dataset!r}: the embedding of {example!r} holds values that are not finite.")
    lengths = [len(rows.rows[kind]) for _, rows in batch]
    counts = torch.tensor(lengths, dtype=torch.int64, device="cpu")
    spoken = torch.tensor([kind not in rows.silent for _, rows in batch], dtype=torch.bool, device="cpu")
    spoken = spoken.repeat_interleave(counts)
    every = torch.cat([rows.rows[kind] for _, rows in batch])
    examples = torch.arange(len(batch), device="cpu").repeat_interleave(counts)
    pooled: list[SparseCode] = []
    # A block at a time, so that a whole code never takes more memory than its screen.
    size = encoder.rows_at_once
    for block, is_row, of_example in zip(every.split(size), spoken.split(size), examples.split(size), strict=True):
        rows_of_block = block if bool(is_row.all()) else block[is_row.to(block.device)]
        code = encoder.encode(rows_of_block)
        if pool is not None:
            of_rows = of_example[is_row]
            pooled = [ops.pooling.merge_pooled([*pooled, ops.pooling.pool_codes(code, of_rows, len(batch))])]
        if into is None:
            continue
        if into.fit is not None:
            into.fit.add(rows_of_block, code)
        code = ops.sparse_code.truncated(code, into.k_stored)
        into.codes.append(code if bool(is_row.all()) else _with_silent(code, ~is_row))
    if pool is not None:
        pool.codes += pooled
    for collected, n_rows in ((into, lengths), (pool, [1] * len(batch))):
        if collected is not None:
            collected.lengths += n_rows
            collected.cut += [rows.n_cut for _, rows in batch]


def _collect(batch: "Sequence[tuple[str, ExampleRows]]", kind: str, collector: "Collector") -> None:
    lengths = [len(rows.rows[kind]) for _, rows in batch]
    spoken = [rows.rows[kind][: 0 if kind in rows.silent else None] for _, rows in batch]
    collector.add([example for example, _ in batch], spoken, lengths)


def _with_silent(code: "SparseCode", silent: "Tensor") -> "SparseCode":
    """Return the code with rows put in, on which nothing is active, where ``silent`` says so; bool [n_rows] of all
    rows."""
    import torch

    def spread(values: "Tensor") -> "Tensor":
        return torch.zeros(len(silent), dtype=values.dtype, device="cpu").masked_scatter(~silent, values)

    return ops.sparse_code.SparseCode(
        row_offsets=offsets_of(spread(code.row_offsets.diff())),
        unit_ids=code.unit_ids,
        values=code.values,
        l0=spread(code.l0),
        row_mass=spread(code.row_mass),
        row_dropped=spread(code.row_dropped),
    )


def _artifact(result: _Collected, chunk: Examples, n_units: int, stored_values: str) -> SparseActivations:
    import torch

    lengths = torch.tensor(result.lengths, dtype=torch.int64, device="cpu")
    n_rows = sum(len(code.l0) for code in result.codes)
    if len(lengths) != len(chunk) or n_rows != int(lengths.sum()):
        raise ArtifactError(f"{n_rows} rows were encoded, expected {int(lengths.sum())} of {len(chunk)} examples.")
    code = ops.rounding.rounded(ops.sparse_code.joined(result.codes), stored_values)
    return SparseActivations(
        first_example=chunk.first_index,
        example_offsets=offsets_of(lengths),
        row_offsets=code.row_offsets,
        unit_ids=code.unit_ids,
        values=code.values,
        n_units=n_units,
        l0=code.l0,
        k_stored=result.k_stored,
        # fsum rounds once, so the total does not depend on how rows were cut into batches.
        total_mass=math.fsum(code.row_mass.tolist()),
        dropped_mass=math.fsum(code.row_dropped.tolist()),
        n_cut_examples=sum(cut > 0 for cut in result.cut),
        n_cut_tokens=sum(result.cut),
        fit=result.fit.sums() if result.fit is not None else None,
        stored_values=stored_values if stored_values == FLOAT16 else None,
    )
