"""Stages are made of a few examples, in some folder, to tell what each will cost where it was never made.

Nothing of it is kept. How many examples that are says ``calibration``, which knows what encoding one takes.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sae_assets import ops, storage
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.manifests import write_anew
from sae_assets.commands.calibration import Costs, spread
from sae_assets.commands.session import Planned, Session
from sae_assets.commands.sizes import sized
from sae_assets.errors import SaeAssetsError
from sae_assets.pipeline.forecast import Cost, forecast, peak_of_more
from sae_assets.pipeline.measuring import READING, PassMeter
from sae_assets.pipeline.recipes import chunks_read, recipe
from sae_assets.pipeline.stage import Pass, Sources, Stage, Target
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.settings import memory_budget_mb
from sae_assets.storage.address import Address
from sae_assets.storage.chunk_reader import ChunkReader
from sae_assets.storage.html import KINDS as PAGES
from sae_assets.storage.kept_reads import bytes_of
from sae_assets.storage.store import ArtifactStore, stored

CHUNK = "0000"
FEWEST = 16  # examples from which on aggregates say anything of more
SHORT = 2.0  # CPU seconds of aggregates that are made twice, to see what of them loads libraries and compiled loops


def rehearsed(
    session: Session,
    planned: Planned,
    address: Address,
    kinds: Sequence[str],
    count: int,
    opening: Mapping[tuple[str, str], float],
) -> Costs:
    """Return costs of the stages of a data set and model, up to the last planned, of so many examples, where they can
    be made.

    Args:
        address: any of the model's; kinds: token kinds that are planned.
        count: examples, evenly of all of the data set.
        opening: of stages whose first pass opens something, its CPU seconds; by then everything is open.
    """
    if count < FEWEST:
        return {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            costs = _Rehearsal(session, planned, address, kinds, folder, count).costs()
    except (SaeAssetsError, OSError):  # whoever makes them is told
        return {}
    for key in opening.keys() & costs.keys():
        costs[key] += [cost.at_first(opening[key]) for cost in costs[key] if cost.cpu_seconds is not None]
    return costs


class _Rehearsal:
    """Stages of a data set and model, up to the last planned, made of one chunk of some examples in a store apart.

    Args:
        address: any of the model's; kinds: token kinds that are planned.
        folder: of the store; count: examples of the chunk.
    """

    def __init__(
        self, session: Session, planned: Planned, address: Address, kinds: Sequence[str], folder: str, count: int
    ):
        self._catalog, self._address, self._kinds, self._count = session.catalog, address, kinds, count
        self._entry, self._sizes = session.catalog.datasets[address.dataset], planned.examples.values()
        names, due = list(stages_of(self._entry)), {each.stage for each in planned.plan.addresses}
        self._names = names[: max(names.index(name) for name in due) + 1]
        self._peak_bytes = 0.0  # expected of the passes so far
        self._chunk_bytes, self._kept_bytes = 0.0, session.resources["artifact_store"].kept_mb * 2**20
        self._file_bytes: dict[tuple[str, str], tuple[float, float]] = {}  # of chunks here, and as many as planned
        self._store = ArtifactStore(folder, session.store.file_format)
        self._sources, self._options = Sources(self._store.root), planned.outlook.staleness.options
        self._device = ops.device.resolve_device(session.resources["compute"].device)
        ids = spread(self._sources.reader(self._entry).records, count)
        write_anew(self._store.root, address.dataset, Manifest(CHUNK, 0, ids))

    def costs(self) -> dict[tuple[str, str], list[Cost]]:
        costs: dict[tuple[str, str], list[Cost]] = {}
        for members in self._passes():
            try:
                costs |= dict(self._made(members))
            except (SaeAssetsError, OSError):  # what reads it has no input
                continue
        return costs

    def _passes(self) -> Iterator[list[Address]]:
        """Yield what each pass makes, inputs first."""
        passes: dict[tuple[str, str | None], list[Address]] = {}
        for stage in (STAGES[name] for name in self._names):
            for kind in self._kinds if stage.has_token_kind else (None,):
                address = stage.address(self._entry.name, kind, self._address.model, CHUNK)
                passes.setdefault((stage.shared or stage.name, None if stage.every_kind else kind), []).append(address)
        yield from passes.values()

    def _made(self, members: Sequence[Address]) -> Iterator[tuple[tuple[str, str], list[Cost]]]:
        stage = STAGES[members[0].stage]
        target, options = Target(self._catalog, members[0]), self._options.of(stage.options)
        inputs = self._inputs(members[0])
        kinds = tuple(dict.fromkeys(address.token_kind or "" for address in members))
        due = frozenset((address.stage, address.token_kind or "") for address in members)
        budget = ops.device.memory_budget(memory_budget_mb(), self._device)
        where = (self._device, budget, lambda _: None, self._store)
        one_pass = Pass(target, inputs, options, self._sources, kinds, due, *where)
        with PassMeter() as meter:
            results = stage.make(one_pass)
        opening = 0.0
        if stage.level == "model" and meter.cpu_seconds < SHORT:
            with PassMeter() as second_meter:
                stage.make(one_pass)
            opening = max(0.0, meter.cpu_seconds - second_meter.cpu_seconds)
        whole_bytes = max(result.measured.get(f"peak_bytes[{READING}]", 0.0) for result in results.values())
        times_read = self._times_read(members[0])
        self._peak_bytes = self._expected_peak(meter, stage, budget, whole_bytes, times_read)
        # What is held of all is not in proportion to the examples: as many rows are drawn of a chunk, however large.
        n_examples = max(1, round(sum(self._sizes) / times_read)) if whole_bytes else self._count
        for address in members:
            of_address, kind = STAGES[address.stage], address.token_kind or ""
            result = results[address.stage, kind]
            made_by = recipe(of_address, Target(self._catalog, address), inputs, options, self._sources)
            assert made_by is not None  # what it needs was just read
            item = stored(result.artifact, made_by, of_address.counts(result.artifact))
            written = self._store.write(address, item)
            seconds = max(0.0, meter.cpu_seconds - opening - result.measured.get("once_cpu_seconds", 0.0))
            # What is of no model comes before anything is open, which all is by now.
            peak = None if of_address.level == "dataset-chunk" else self._peak_bytes or None
            cost = Cost(n_examples, cpu_seconds=seconds, peak_bytes=peak)
            if of_address.level != "model":
                self._chunk_bytes += bytes_of(result.artifact)
                sizes = sized(result.artifact, written.path, self._count, self._sizes, self._entry)
                planned_bytes = sum(forecast(of_address, sizes, size).n_bytes or 0.0 for size in self._sizes)
                self._file_bytes[address.stage, kind] = written.n_bytes, planned_bytes
                yield (address.stage, kind), [cost, *sizes]
            else:
                rows = None if result.artifact.kind in PAGES else len(storage.parquet.to_table(result.artifact)[0])
                cost = replace(cost, rows=rows, n_bytes=written.n_bytes)
                yield (address.stage, kind), [cost, cost.at_first(opening)]

    def _times_read(self, address: Address) -> float:
        """Return how many times what a pass reads of chunks here it will read of those that are planned."""
        kinds, names = ("", address.token_kind), STAGES[address.stage].chunk_inputs
        read = [sizes for (name, kind), sizes in self._file_bytes.items() if name in names and kind in kinds]
        here, planned = sum(n_bytes for n_bytes, _ in read), sum(n_bytes for _, n_bytes in read)
        return planned / here if here else 1.0

    def _expected_peak(
        self, meter: PassMeter, stage: Stage, budget: int, whole_bytes: float = 0.0, times_read: float = 1.0
    ) -> float:
        """Return bytes at most, as many examples as are planned; no less than before: little is given back between
        passes.

        Aggregates hold the chunks besides that a run keeps for its later passes.

        Args:
            whole_bytes: what the pass held of all examples at once; times_read: as :meth:`_times_read` has it.
        """
        if meter.peak_bytes is None or meter.held_bytes is None:
            return self._peak_bytes
        times = (sum(self._sizes) if stage.level == "model" else max(self._sizes)) / self._count
        kept_bytes = min(self._kept_bytes, self._chunk_bytes * times) if stage.level == "model" else 0
        expected = peak_of_more(meter.held_bytes, meter.peak_bytes, times, budget, whole_bytes, times_read)
        return max(self._peak_bytes, kept_bytes + expected)

    def _inputs(self, address: Address) -> dict[str, Any]:
        """Return what a pass reads, of what was made before. Raises: StoredFileError: it could not be made."""
        stage, inputs = STAGES[address.stage], dict[str, Any]()
        names = stages_of(self._entry, stage.inputs)
        beside = {name: self._beside(name, address) for name in names}
        for name in names:
            if stage.level == "model" and STAGES[name].level != "model":
                inputs[name] = ChunkReader(self._store, {CHUNK: beside[name]})
            elif name not in stage.optional_inputs or self._store.find(beside[name]) is not None:
                inputs[name] = self._store.read(beside[name])
        if stage.level == "model":
            readers = {name: inputs[name] for name in stage.chunk_inputs}
            inputs |= chunks_read(stage, address.dataset, readers, allow_missing=False)
        return inputs

    @staticmethod
    def _beside(name: str, address: Address) -> Address:
        return STAGES[name].address(address.dataset, address.token_kind, address.model, CHUNK)
