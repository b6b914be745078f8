"""Materialize a range of stages through Dagster, one run per partition, skipping what is up to date.

The command line and the demo call this; the UI and the daemon need none of it. Every run is an ordinary Dagster run
of the instance, with its events, checks and metadata.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.errors import MissingChunksError, SaeAssetsError
from sae_assets.orchestration.history import failed_checks, first_cause, is_of_data, partitions_with_failed_checks
from sae_assets.orchestration.instance.launcher import HOST_TAG
from sae_assets.orchestration.partitions import multi_key
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.staleness import Freshness, Options
from sae_assets.storage.address import Address

MOST_SHOWN = 20  # failures that a message names


class RunFailedError(SaeAssetsError, RuntimeError):
    """A Dagster run failed; the message is that of the step's own error.

    Attributes:
        of_data: the chunk's own data is at fault, so other chunks are worth trying.
        cause: the message without the step's and the run's names.
    """

    def __init__(self, message: str, problems: Sequence[str] = (), *, of_data: bool = False, cause: str = ""):
        super().__init__(message, problems)
        self.of_data, self.cause = of_data, cause


@dataclass(frozen=True)
class Step:
    """One Dagster run: some stages of one partition."""

    dataset: str
    model: str | None
    chunk: str | None
    stages: tuple[str, ...]
    token_kinds: tuple[str, ...]

    @property
    def label(self) -> str:
        return " ".join(part for part in (self.dataset, self.model, self.chunk, "+".join(self.stages)) if part)

    @property
    def partition(self) -> str | None:
        if self.model and self.chunk:
            return multi_key(self.model, self.chunk)
        return self.model or self.chunk

    def needs(self, other: "Step") -> bool:
        """Whether this step reads what the other one makes, itself or through a step between."""
        if self.dataset != other.dataset or (other.model and self.model != other.model):
            return False
        return not (self.chunk and other.chunk) or self.chunk == other.chunk

    def addresses(self) -> Iterator[Address]:
        for stage in self.stages:
            if STAGES[stage].level == "dataset-chunk":
                yield Address(self.dataset, stage, chunk=self.chunk)
            else:
                for kind in self.token_kinds:
                    yield Address(self.dataset, stage, kind, self.model, self.chunk)


def asset_key(address: Address) -> dg.AssetKey:
    return dg.AssetKey([part for part in (address.dataset, address.token_kind, address.stage) if part])


def op_name(address: Address) -> str:
    """Name of the step that makes an asset, as the assets modules name it."""
    if address.stage == "sparse_activations":
        return f"{address.dataset}__sparse_activations"
    stage = STAGES[address.stage].op or address.stage
    return "__".join(part for part in (address.dataset, address.token_kind, stage) if part)


def plan(
    dataset: str, models: Sequence[str], token_kinds: Sequence[str], chunks: Sequence[str], stages: Sequence[str]
) -> list[Step]:
    """The runs that make these stages, in an order in which every input is there."""
    steps: list[Step] = []
    for level, group in groupby(stages, key=lambda name: STAGES[name].level):
        names = tuple(group)
        if level == "dataset-chunk":
            steps += [Step(dataset, None, chunk, names, ()) for chunk in chunks]
        elif level == "chunk":
            steps += [Step(dataset, m, chunk, names, tuple(token_kinds)) for m in models for chunk in chunks]
        else:
            steps += [Step(dataset, model, None, names, tuple(token_kinds)) for model in models]
    return steps


class Materializer:
    """Runs steps against an instance.

    Args:
        on_step: told before each run (step, number, total) and whether it will run or is up to date.
        on_warning: told of every check that failed and blocks nothing (partition, what it found).
    """

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        freshness: Freshness,
        *,
        options: Options,
        on_step: Callable[[Step, int, int, bool], None] = lambda *_: None,
        on_warning: Callable[[str, str], None] = lambda *_: None,
        force: bool = False,
        debug: bool = False,
    ):
        self._job = definitions.resolve_implicit_global_asset_job_def()
        self._instance, self._freshness, self._options = instance, freshness, options
        self._on_step, self._on_warning, self._force, self._debug = on_step, on_warning, force, debug
        self._known: dict[dg.AssetKey, set[str]] = {}

    def run(self, steps: Sequence[Step]) -> tuple[int, int]:
        """Run what is not up to date; (runs made, steps skipped).

        A chunk whose data is at fault holds up what is made from it and no other chunk; any other error, which would
        meet other chunks too, holds up its model (its data set, where no model is in play). Everything else is made.

        Raises:
            RunFailedError: the runs that failed, when everything else is done. What was done stays.
        """
        made = skipped = 0
        failed: list[RunFailedError] = []
        stopped: list[tuple[Step, bool]] = []  # a step that was not made, and whether only its own data is at fault
        for number, step in enumerate(steps, start=1):
            # Each stage may make the next one of the same run stale, so the first stale one takes the rest along.
            stale = self._stale(step)
            due = replace(step, stages=tuple(dict.fromkeys(address.stage for address in stale))) if stale else step
            if stale and any(self._blocks(earlier, of_data, due) for earlier, of_data in stopped):
                stopped.append((due, True))
                continue
            self._on_step(due, number, len(steps), bool(stale))
            if not stale:
                skipped += 1
                continue
            try:
                self._spare_imported(stale)
                self._execute(due, stale)
                made += 1
            except RunFailedError as error:
                # Said of two chunks in the same words, it is not the chunk's.
                alone = error.of_data and error.cause not in {earlier.cause for earlier in failed}
                failed.append(error)
                stopped.append((due, alone))
        if len(failed) == 1:
            raise failed[0]
        if failed:
            what = f"{len(failed)} runs failed; {made} that do not need them were made, {skipped} were up to date."
            more = [f"… and {len(failed) - MOST_SHOWN} more"] if len(failed) > MOST_SHOWN else []
            raise RunFailedError(what, [*(str(error) for error in failed[:MOST_SHOWN]), *more])
        return made, skipped

    def _spare_imported(self, stale: Iterable[Address]) -> None:
        fresh = self._freshness
        imported = [address for address in stale if fresh.is_imported(address) and not fresh.is_current(address)]
        if imported and not self._force:
            raise RunFailedError(
                f"{imported[0]} was imported and its examples have changed since. Import it again (sae-assets import), "
                "or add --force to encode it anew."
            )

    def _blocks(self, stopped: Step, of_data: bool, step: Step) -> bool:
        if not of_data:  # it would meet this model's other chunks too
            return step.dataset == stopped.dataset and stopped.model in (None, step.model)
        if not step.needs(stopped) or step.chunk or not stopped.chunk:
            return step.needs(stopped)
        return not self._options.aggregate.allow_missing_chunks and self._reads(step, stopped)

    def _reads(self, step: Step, stopped: Step) -> bool:
        """Whether an aggregate reads what was not made of a chunk: one of these stages, and a split that it holds."""
        if "labels" in stopped.stages:  # which splits it holds is not known
            return True
        return any(
            set(STAGES[name].chunk_inputs) & set(stopped.stages)
            and self._freshness.has_any(stopped.dataset, stopped.chunk or "", STAGES[name].splits)
            for name in step.stages
        )

    def record(self, step: Step) -> None:
        """Run a step over files that are there already, so that Dagster's history and checks tell of them.

        Raises:
            RunFailedError: the run failed.
        """
        self._execute(step, list(step.addresses()))

    def _stale(self, step: Step) -> list[Address]:
        if self._force:
            return list(step.addresses())
        found: list[Address] = []
        for kind in step.token_kinds or (None,):
            taken = False
            for address in step.addresses():
                if address.token_kind == kind:
                    follows = taken and self._follows(address, found)
                    if follows or not self._is_recorded(address, step) or not self._freshness.is_current(address):
                        found.append(address)
                        taken = True
        return found

    @staticmethod
    def _follows(address: Address, stale: Iterable[Address]) -> bool:
        stage = STAGES[address.stage]
        return bool({other.stage for other in stale} & {*stage.chunk_inputs, *stage.model_inputs})

    def _is_recorded(self, address: Address, step: Step) -> bool:
        """Whether the instance knows of the materialization and no check of it failed.

        A new instance over old files shows them again; what failed a blocking check is made and checked again.
        """
        key = asset_key(address)
        if key not in self._known:
            known = set(self._instance.get_materialized_partitions(key))
            failed = partitions_with_failed_checks(self._instance, {key: [*known]})
            self._known[key] = known - failed.get(key, set())
        return step.partition in self._known[key]

    def _execute(self, step: Step, addresses: Sequence[Address]) -> None:
        ops = {
            op_name(address): {"config": options.model_dump(exclude_none=True)}
            for address in addresses
            if (options := self._options.of(address.stage)) is not None
        }
        console = "DEBUG" if self._debug else "CRITICAL"
        result = self._job.execute_in_process(
            instance=self._instance,
            asset_selection=[asset_key(address) for address in addresses],
            partition_key=step.partition,
            run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": console}}}},
            tags={"dataset": step.dataset, "stages": "+".join(step.stages), HOST_TAG: socket.gethostname()},
            raise_on_error=False,
        )
        events = result.all_events
        for warning in failed_checks(events, dg.AssetCheckSeverity.WARN):
            self._on_warning(step.partition or "", warning)
        if not result.success:
            cause = first_cause(events) or "Dagster gave no reason; see the run in the UI"
            raise RunFailedError(
                f"{step.label} failed (run {result.run_id}): {cause}",
                of_data=step.chunk is not None and is_of_data(events),
                cause=cause,
            )
        for address in addresses:
            if asset_key(address) in self._known:  # else asked for, whole, when it is needed
                self._known[asset_key(address)].add(step.partition or "")


def calibration_missing(dataset: str, catalog: Catalog, stages: Sequence[str]) -> None:
    """Refuse to start hours of work that must fail at its first aggregate.

    Raises:
        MissingChunksError: the data set has no calibration examples, and a stage that needs them was asked for.
    """
    from sae_assets.datasets import open_dataset
    from sae_assets.datasets.records import split_advice

    if not any(STAGES[stage].level == "model" for stage in stages):
        return
    splits = [record.split for record in open_dataset(dataset, catalog.datasets[dataset]).records]
    if "cal" not in splits:
        counts = ", ".join(f"{split} {splits.count(split)}" for split in ("train", "cal", "test"))
        raise MissingChunksError(
            f"Data set {dataset!r} has no calibration examples ({counts}), which statistics and thresholds are fitted "
            f"on: {split_advice(catalog.datasets[dataset])}. Or end with --to sparse_activations."
        )
