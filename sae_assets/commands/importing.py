"""Import of older sparse activation files: their rows, cut into this data set's chunks, as ``sparse_activations``.

The rows stand in the data set's order. What is written is an ordinary artifact whose provenance says that it was
imported; it is up to date as long as its examples are, and ``materialize`` does not encode it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sae_assets.artifacts import SparseActivations, offsets_of
from sae_assets.catalog import match_name
from sae_assets.datasets import open_dataset
from sae_assets.errors import CatalogError, CheckpointError, SaeAssetsError, StoredFileError
from sae_assets.orchestration.runs import Runner
from sae_assets.pipeline.planning import Batch
from sae_assets.pipeline.recipes import provenance_of
from sae_assets.pipeline.stages import STAGES
from sae_assets.rows.images import open_geometry
from sae_assets.rows.opening import token_spans
from sae_assets.saes import locate_sae, open_sae
from sae_assets.storage.address import Address
from sae_assets.storage.older_files import OlderFiles
from sae_assets.storage.provenance import digest
from sae_assets.storage.store import stored

if TYPE_CHECKING:
    from sae_assets.commands.session import Session

STAGE = "sparse_activations"


@dataclass(frozen=True)
class Imported:
    """An import made these chunks, with so many rows, entries and bytes."""

    chunks: list[str]
    rows: int
    entries: int
    stored_bytes: int


def import_activations(
    session: "Session",
    path: Path,
    dataset: str,
    model: str,
    token_kind: str,
    *,
    n_units: int | None = None,
    on_chunk: Callable[[str, int, int], None] = lambda *_: None,
) -> Imported:
    """Register the data set's chunks and write the files' rows as their sparse activations.

    Args:
        path: a file, a chunk set or a folder, as ``storage.older_files.OlderFiles`` takes it.
        n_units: width of the SAE; default: read from the model's SAE checkpoint.

    Raises:
        CatalogError: unknown names, or no such file; DatasetError: an unreadable data set.
        StoredFileError: files that cannot be imported, or whose rows do not fit the data set (both counts are named).
    """
    dataset = match_name(dataset, session.catalog.datasets, "data set")
    entry = session.catalog.datasets[dataset]
    model = match_name(model, entry.models, f"model of {dataset}")
    kind = match_name(token_kind, entry.token_kinds, f"token kind of {dataset}")
    if not path.exists():
        raise CatalogError(f"{path} does not exist; expected a .pt file, one chunk of a set, or a folder.")
    files = OlderFiles(path)
    n_units = n_units or _width(session, model)
    starts = _row_starts(session, dataset, model, kind, files.n_rows)
    session.materialize([dataset], models=[model], token_kinds=[kind], last="examples")
    chunks, entries, stored = session.chunks_of(dataset), 0, 0
    runner = session.runner({dataset: chunks})
    for number, chunk in enumerate(chunks, start=1):
        on_chunk(chunk, number, len(chunks))
        written = _write_chunk(session, runner, Address(dataset, STAGE, kind, model, chunk), files, starts, n_units)
        entries, stored = entries + written[0], stored + written[1]
    return Imported(chunks, files.n_rows, entries, stored)


def _width(session: "Session", model: str) -> int:
    sae = session.catalog.models[model].sae
    if locate_sae(sae, download=False) is None:
        raise SaeAssetsError(
            f"The SAE of model {model!r} is not on this machine, so its width is not known. Give it: --units N."
        )
    return open_sae(sae).n_units


def _patches(session: "Session", dataset: str, model: str, otherwise: int) -> int:
    """Return patches of an image under the model's transform; ``otherwise`` where nothing here says how many there
    are."""
    transformer = session.catalog.models[model].transformer
    if transformer is None or "patch" in session.catalog.datasets[dataset].embeddings.get(model, {}):
        return otherwise
    try:
        return open_geometry(transformer).n_patches
    except CheckpointError:  # its files need not be here for an import
        return otherwise


def _row_starts(session: "Session", dataset: str, model: str, kind: str, n_rows: int) -> dict[str, tuple[int, int]]:
    """Return row range of every example, by id.

    Raises:
        StoredFileError: the files hold another number of rows than the data set's examples have.
    """
    entry = session.catalog.datasets[dataset]
    reader = open_dataset(entry)
    ids = [record.example_id for record in reader.records]
    if kind == "token":
        spans_of = token_spans(reader, entry, session.catalog.models[model])
        lengths = [len(spans_of(example)) for example in ids]
        expectation = f"{sum(lengths):,}: what the tokenizer of {model} gives for the {len(ids):,} texts"
        cause = "rows of padding or special tokens are counted, or the tokenizer or `max_tokens` is another"
    else:
        each = 1 if kind == "cls" else _patches(session, dataset, model, n_rows // len(ids))
        lengths = [each] * len(ids)
        expectation = f"{each * len(ids):,}: {len(ids):,} examples of {each:,} row(s) each"
        cause = "images were added or left out since, or CLS rows are among the patches"
    if sum(lengths) != n_rows or not n_rows:
        raise StoredFileError(
            f"The files hold {n_rows:,} rows, expected {expectation}. Nothing was imported.",
            [
                f"See that the files were made from --dataset {dataset}, --model {model}, --token-kind {kind}",
                "See that every file of the set is there",
                f"Or {cause}: rows cannot be matched to examples then; materialize instead",
            ],
        )
    row_ranges, start = {}, 0
    for example, length in zip(ids, lengths, strict=True):
        row_ranges[example], start = (start, start + length), start + length
    return row_ranges


def _write_chunk(
    session: "Session", runner: Runner, address: Address, files: Any, starts: dict[str, tuple[int, int]],
    n_units: int,
) -> tuple[int, int]:  # fmt: skip
    """Return entries and bytes of one chunk, written, recorded in the instance's history and checked."""
    examples = session.store.read(Address(address.dataset, "examples", chunk=address.chunk))
    ranges = [starts[example] for example in examples.artifact.example_ids]
    rows = files.read(ranges, n_units)
    artifact = SparseActivations(
        first_example=examples.artifact.first_index,
        example_offsets=offsets_of(
            torch.tensor([stop - start for start, stop in ranges], dtype=torch.int64, device="cpu")
        ),
        row_offsets=rows.row_offsets,
        unit_ids=rows.unit_ids,
        values=rows.values,
        n_units=n_units,
        # What the older script dropped beyond its topk is not in the file: L0 counts stored entries.
        l0=rows.row_offsets.diff().int(),
        k_stored=files.topk,
        total_mass=float(rows.values.double().sum()),
        dropped_mass=0.0,
    )
    source = {"imported": True, "k_stored": files.topk, "source": files.content_hash}
    identity = {"encoder": digest({"imported": source})}
    provenance = provenance_of(STAGES[STAGE], address, {"examples": examples}, source, identity=identity, outside={})
    item = stored(artifact, provenance, STAGES[STAGE].counts(artifact))
    written = session.store.write(address, item)
    # The asset finds the file current, keeps it, and tells Dagster's history of it, with its checks.
    runner.execute(Batch({address: frozenset()}))
    return artifact.n_entries, written.n_bytes
