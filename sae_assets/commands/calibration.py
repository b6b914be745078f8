"""What encoding will cost where nothing was encoded yet: a few examples go through the model and its SAE, now.

Nothing of it is kept. Weights that are not on this machine, or are large, are not opened: nothing is known then.
"""

import tempfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sae_assets import ops, storage
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.commands.session import Planned, Session
from sae_assets.errors import SaeAssetsError
from sae_assets.pipeline.forecast import Cost
from sae_assets.pipeline.measuring import PassMeter
from sae_assets.pipeline.stage import Pass, Sources, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.rows.loaded import weight_bytes
from sae_assets.saes import locate_sae
from sae_assets.settings import memory_budget_mb
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored

ENCODING = "sparse_activations"
SECONDS = 5.0  # of CPU at most for the examples, once everything is open
FEWEST, MOST = 2, 64  # examples
LARGEST = 2 * 10**9  # bytes of weights that are opened to say what a plan costs
Measured = tuple[float, float, float | None, dict[tuple[str, str], tuple[int | None, int | None]]]
Costs = Mapping[tuple[str, str], list[Cost]]  # by stage and token kind


def calibrated(session: Session, planned: Planned, addresses: Collection[Address]) -> Costs:
    """Costs of what one pass makes of a few examples and of as many as some seconds allow; empty if it cannot be said.

    Args:
        addresses: what the pass of a chunk is to make, all of one model.
    """
    first = next(iter(addresses))
    model = session.catalog.models[str(first.model)]
    weights = 0 if model.transformer is None else weight_bytes(model.transformer)
    absent = model.transformer is not None and not weights
    if absent or weights > LARGEST or locate_sae(model.sae, download=False) is None:
        return {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _encoded(session, planned, addresses, folder)
    except (SaeAssetsError, OSError):  # whoever encodes is told
        return {}


def few_of(past: Sequence[Cost], examples: int) -> int:
    """How many of so many examples are encoded within ``SECONDS``, by what others took; none where nothing tells."""
    each = [cost.cpu_seconds / cost.examples for cost in past if cost.cpu_seconds and cost.examples and not cost.first]
    return min(MOST, examples, int(SECONDS / min(each))) if each else 0


def _encoded(session: Session, planned: Planned, addresses: Collection[Address], folder: str) -> Costs:
    costs: dict[tuple[str, str], list[Cost]] = {}

    def note(n_examples: int, seconds: float, measured: Measured, *, first: bool) -> None:
        for made, (rows, n_bytes) in measured[3].items():
            costs.setdefault(made, []).append(Cost(n_examples, rows, n_bytes, seconds, measured[2], first))

    cold = _pass(session, planned, addresses, folder, 1)
    few = _pass(session, planned, addresses, folder, FEWEST)
    count = max(FEWEST + 1, min(MOST, int(SECONDS / few[0] * FEWEST), sum(planned.examples.values())))
    many = _pass(session, planned, addresses, folder, count)
    opening = max(0.0, cold[0] - few[0]) + cold[1]
    # Two points, by which nothing is scaled that is constant.
    for n_examples, measured in ((FEWEST, few), (count, many)):
        note(n_examples, measured[0], measured, first=False)
        note(n_examples, measured[0] + opening, measured, first=True)
    return costs


def _pass(session: Session, planned: Planned, addresses: Collection[Address], folder: str, n_examples: int) -> Measured:
    """CPU seconds of encoding the first examples and of what is done once for all, peak memory, and of each artifact
    its rows and bytes.
    """

    first = next(iter(addresses))
    stage, scratch = STAGES[ENCODING], ArtifactStore(folder, session.store.file_format)
    sources, options = Sources(session.store.root), planned.outlook.staleness.options.of(stage.options)
    target = Target(session.catalog, first)
    reader = sources.reader(target.dataset)
    ids = tuple(record.example_id for record in reader.records[:n_examples])
    manifest = Manifest(target.chunk, 0, ids)
    device = ops.device.resolve_device(session.resources["compute"].device)

    def written(artifact: Any, kind: str | None) -> int:
        address = stage.address(first.dataset, kind, first.model, first.chunk)
        made_by = Provenance(stage.name, first.dataset, kind, first.model, first.chunk, "0")
        return int(scratch.write(address, stored(artifact, made_by)).n_bytes)

    examples = stored(describe_examples(manifest, reader), Provenance("examples", first.dataset, None, None, None, "0"))
    kinds = tuple(dict.fromkeys(str(address.token_kind) for address in addresses))
    due = frozenset((address.stage, str(address.token_kind)) for address in addresses)
    budget = ops.device.memory_budget(memory_budget_mb(), device)
    with PassMeter() as meter:
        made = stage.make(
            Pass(target, {"examples": examples}, options, sources, kinds, due, device, budget, lambda _: None, scratch)
        )
    sizes: dict[tuple[str, str], tuple[int | None, int | None]] = dict.fromkeys(due, (None, None))
    for (name, kind), result in made.items():
        if name == ENCODING and (name, kind) in due:  # the rows of control inputs are drawn: these do not grow evenly
            rows = len(storage.parquet.to_table(result.artifact)[0])
            sizes[name, kind] = rows, written(result.artifact, kind)
    once = max((result.measured.get("once_cpu_seconds", 0.0) for result in made.values()), default=0.0)
    return meter.cpu_seconds - once, once, meter.peak_bytes, sizes
