"""A few examples go through the model and its SAE to tell what encoding will cost where nothing was encoded yet.

Nothing of it is kept. Weights that are not on this machine, or are large, are not opened: nothing is known then.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sae_assets import ops
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples, describe_labels
from sae_assets.commands.session import Planned, Session
from sae_assets.commands.sizes import sized
from sae_assets.datasets.records import Record
from sae_assets.errors import SaeAssetsError
from sae_assets.pipeline.forecast import Cost
from sae_assets.pipeline.measuring import PassMeter
from sae_assets.pipeline.stage import Pass, Sources, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.rows.loaded import weight_bytes
from sae_assets.rows.truth import row_truth
from sae_assets.saes import locate_sae
from sae_assets.settings import memory_budget_mb
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored

ENCODING, TRUTH = "sparse_activations", "ground_truth"
SECONDS = 5.0  # of CPU at most for the examples, each of two times; of all stages for twice as many
FEWEST, MOST = 2, 128  # examples
LARGEST = 2 * 10**9  # bytes of weights that are opened to say what a plan costs
Costs = Mapping[tuple[str, str], list[Cost]]  # by stage and token kind


@dataclass(frozen=True)
class Calibration:
    """A calibration holds what was measured.

    Attributes:
        costs: of encoding; empty if it cannot be said.
        opening: CPU seconds that the first pass of a process takes beside those of its examples, by stage and token
            kind: of truth that is made before anything is encoded.
    """

    costs: Costs = field(default_factory=dict)
    opening: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Measured:
    """CPU seconds of encoding some examples and of what is done once for all, peak memory, and sizes of files."""

    seconds: float
    once: float
    peak_bytes: int | None
    sizes: Costs


def calibrated(session: Session, planned: Planned, addresses: Collection[Address]) -> Calibration:
    """Return costs of what one pass makes of a few examples and of as many as some seconds allow.

    Args:
        addresses: what the pass of a chunk is to make, all of one model.
    """
    first = next(iter(addresses))
    model = session.catalog.models[str(first.model)]
    weights = 0 if model.transformer is None else weight_bytes(model.transformer)
    absent = model.transformer is not None and not weights
    if absent or weights > LARGEST or locate_sae(model.sae, download=False) is None:
        return Calibration()
    try:
        with tempfile.TemporaryDirectory() as folder:
            opening = _opening_of_truth(session, planned, str(first.model))
            return Calibration(_encoded(session, planned, addresses, folder), opening)
    except (SaeAssetsError, OSError):  # whoever encodes is told
        return Calibration()


def spread(records: Sequence[Record], count: int) -> tuple[str, ...]:
    """Return ids of so many of these, evenly from first to last: those that come first may be of one sort."""
    count = min(count, len(records))
    return tuple(records[number * len(records) // count].example_id for number in range(count))


def few_of(past: Sequence[Cost], examples: int) -> int:
    """Return how many of so many examples are rehearsed, by what others took to encode; none where nothing tells."""
    each = [cost.cpu_seconds / cost.examples for cost in past if cost.cpu_seconds and cost.examples and not cost.first]
    return min(MOST, examples, int(2 * SECONDS / min(each))) if each else 0


def _opening_of_truth(session: Session, planned: Planned, model: str) -> dict[tuple[str, str], float]:
    """Return what truth of the first image takes more at first, libraries and all, than once more.

    Other truth is made after rows are encoded, which have then opened all of it: Dagster goes by the names of steps.
    """
    truths = (each for each in planned.plan.addresses if (each.stage, each.token_kind) == (TRUTH, "patch"))
    address = next((each for each in truths if each.model == model), None)
    if address is None:
        return {}
    ops.device.resolve_device(session.resources["compute"].device)  # loads torch, which is no stage's
    target = Target(session.catalog, address)
    reader = Sources(session.store.root).reader(target.dataset)
    labels = describe_labels(Manifest(target.chunk, 0, (reader.records[0].example_id,)), reader)
    seconds = []
    for _ in range(2):
        with PassMeter() as meter:
            row_truth(labels, "patch", target.dataset, target.model, reader)
        seconds.append(meter.cpu_seconds)
    return {(TRUTH, "patch"): max(0.0, seconds[0] - seconds[1])}


def _encoded(session: Session, planned: Planned, addresses: Collection[Address], folder: str) -> Costs:
    """Return costs of encoding by some passes over a few examples, in which opening is told from what examples take.

    The first one opens the model, and the first large one what small ones do without: compiled loops, and the choice
    of how rows are screened.
    """
    cold = _pass(session, planned, addresses, folder, 1)
    few = _pass(session, planned, addresses, folder, FEWEST)
    count = max(FEWEST + 1, min(MOST, int(SECONDS / few.seconds * FEWEST), sum(planned.examples.values())))
    first_many = _pass(session, planned, addresses, folder, count)
    many = _pass(session, planned, addresses, folder, count)
    opening = max(0.0, cold.seconds - few.seconds) + cold.once + max(0.0, first_many.seconds - many.seconds)
    taken = list[Cost]()
    for n_examples, measured in ((FEWEST, few), (count, many)):  # two points: nothing is scaled that is constant
        cost = Cost(n_examples, cpu_seconds=measured.seconds, peak_bytes=measured.peak_bytes)
        taken += [cost, cost.at_first(opening)]
    return {key: [*taken, *sizes] for key, sizes in many.sizes.items()}


def _pass(
    session: Session, planned: Planned, addresses: Collection[Address], folder: str, n_examples: int
) -> _Measured:
    first = next(iter(addresses))
    stage, scratch = STAGES[ENCODING], ArtifactStore(folder, session.store.file_format)
    sources, options = Sources(session.store.root), planned.outlook.staleness.options.of(stage.options)
    target = Target(session.catalog, first)
    reader = sources.reader(target.dataset)
    ids = spread(reader.records, n_examples)
    manifest = Manifest(target.chunk, 0, ids)
    device = ops.device.resolve_device(session.resources["compute"].device)
    examples = stored(describe_examples(manifest, reader), Provenance("examples", first.dataset, None, None, None, "0"))
    kinds = tuple(dict.fromkeys(str(address.token_kind) for address in addresses))
    due = frozenset((address.stage, str(address.token_kind)) for address in addresses)
    budget = ops.device.memory_budget(memory_budget_mb(), device)
    with PassMeter() as meter:
        results = stage.make(
            Pass(target, {"examples": examples}, options, sources, kinds, due, device, budget, lambda _: None, scratch)
        )
    sizes: dict[tuple[str, str], list[Cost]] = {}
    for name, kind in due:
        address = STAGES[name].address(first.dataset, kind, first.model, first.chunk)
        made_by = Provenance(name, first.dataset, kind, first.model, first.chunk, "0")
        artifact = results[name, kind].artifact
        path = scratch.write(address, stored(artifact, made_by)).path
        sizes[name, kind] = sized(artifact, path, len(ids), planned.examples.values(), target.dataset)
    once = max((result.measured.get("once_cpu_seconds", 0.0) for result in results.values()), default=0.0)
    return _Measured(meter.cpu_seconds - once, once, meter.peak_bytes, sizes)
