"""What the command line does, without printing: a catalog, a store and a Dagster instance, opened together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import ValidationError

from sae_assets.catalog import Catalog, load_catalog, match_name, plain_message
from sae_assets.chunks.manifests import read_manifests
from sae_assets.chunks.registering import Registered, register
from sae_assets.commands.figures import plain, summarize
from sae_assets.errors import CatalogError, SaeAssetsError
from sae_assets.orchestration.automation.backfills import addresses, busy_partitions, failed_partitions, partition_of
from sae_assets.orchestration.automation.sensors import announce
from sae_assets.orchestration.build import build_definitions, default_resources
from sae_assets.orchestration.config import (
    AggregateConfig,
    DetectionConfig,
    EncodeConfig,
    MappingConfig,
    ThresholdsConfig,
)
from sae_assets.orchestration.instance.home import open_instance
from sae_assets.orchestration.partitions import chunk_keys
from sae_assets.orchestration.runs import (
    Materializer,
    Step,
    asset_key,
    calibration_missing,
    plan,
)
from sae_assets.pipeline.stages import STAGES, stage_range
from sae_assets.pipeline.staleness import Freshness, Options
from sae_assets.settings import Settings, load_settings
from sae_assets.storage.address import Address

OnStep = Callable[[Step, int, int, bool], None]


def parse_options(**given: Any) -> Options:
    """Stage configurations from what was given; None is "not given".

    Raises:
        CatalogError: values out of range; all of them are named.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if "tail_fractions" in given:
        try:
            given["tail_fractions"] = [float(part) for part in given["tail_fractions"]]
        except ValueError as error:
            raise CatalogError(f"Tail fractions must be numbers, separated by commas: {error}.") from None

    configs: dict[str, Any] = {
        "encode": EncodeConfig, "aggregate": AggregateConfig, "mapping": MappingConfig, "thresholds": ThresholdsConfig,
        "detection": DetectionConfig,
    }  # fmt: skip
    made: dict[str, Any] = {}
    problems: list[str] = []
    for name, config in configs.items():
        try:
            made[name] = config(**{field: given[field] for field in config.model_fields if field in given})
        except ValidationError as error:
            problems += [": ".join([*map(str, part["loc"][:1]), plain_message(part)]) for part in error.errors()]
    if problems:
        raise CatalogError("Some options have values that are not allowed:", problems)
    return Options(**made)


@dataclass(frozen=True)
class Session:
    """An open home folder with its catalog."""

    settings: Settings
    catalog: Catalog
    resources: dict[str, Any]
    instance: dg.DagsterInstance

    @property
    def store(self) -> Any:
        return self.resources["artifact_store"].store

    def dataset_names(self, names: Sequence[str] | None) -> list[str]:
        """Catalog names of these data sets (any case), all of them if None.

        Raises:
            CatalogError: an unknown one, with a suggestion.
        """
        if not names:
            return list(self.catalog.datasets)
        return [match_name(name, self.catalog.datasets, "data set") for name in names]

    def register(self, dataset: str, *, close_tail: bool = True) -> Registered:
        """Register new examples as chunks; without ``close_tail`` by the rules of the data set's ``arrivals``."""
        found = register(self.catalog.datasets[dataset], self.store.root, close_tail=close_tail)
        announce(dataset, found.keys, self.instance)
        return found

    def chunks_of(self, dataset: str) -> list[str]:
        return [manifest.key for manifest in read_manifests(self.store.root, dataset)]

    def materialize(
        self,
        datasets: Sequence[str] | None = None,
        *,
        models: Sequence[str] | None = None,
        token_kinds: Sequence[str] | None = None,
        chunks: Sequence[str] | None = None,
        first: str | None = None,
        last: str | None = None,
        options: Options | None = None,
        force: bool = False,
        on_step: OnStep = lambda *_: None,
        on_warning: Callable[[str, str], None] = lambda *_: None,
        debug: bool = False,
    ) -> tuple[int, int]:
        """Register and materialize; (runs made, steps skipped). Everything asked for is checked before the first run.

        Raises:
            CatalogError: unknown names or chunks; DeviceError: a device that is not there; DatasetError: unreadable
                data; RunFailedError: a run failed.
        """
        options = options or Options()
        if force:
            options = replace(options, encode=options.encode.model_copy(update={"force": True}))
        keys = None if not chunks or [part.lower() for part in chunks] == ["all"] else chunk_keys(chunks)
        self._expect_device()
        names, stages = self.dataset_names(datasets), stage_range(first, last)
        kinds = {name: self._token_kinds(name, token_kinds) for name in names}
        chosen = {name: self._models(name, models) for name in names}
        if models and not any(chosen.values()):
            raise CatalogError(f"None of {', '.join(names)} uses {', '.join(models)} (`models` in the catalog).")
        for name in names:
            calibration_missing(name, self.catalog, stages)
            for model in chosen[name]:
                options.mapping.limits(self.catalog.models[model])
        registered = {name: self.register(name).keys for name in names}
        steps: list[Step] = []
        for name in names:
            wanted = self._chunks(name, registered[name], keys)
            steps += plan(name, chosen[name], kinds[name], wanted, stages)
        more: dict[str, Any] = {"on_step": on_step, "on_warning": on_warning, "force": force, "debug": debug}
        return self.materializer(registered, options=options, **more).run(steps)

    def materializer(
        self, chunks: Mapping[str, Sequence[str]], *, options: Options | None = None, **more: Any
    ) -> Materializer:
        """What runs steps over these registered chunks (keys by data set); ``more`` is :class:`Materializer`'s."""
        options = options or Options()
        freshness = Freshness(self.catalog, self.store, options, chunks)
        definitions = build_definitions(self.catalog, self.resources)
        return Materializer(definitions, self.instance, freshness, options=options, **more)

    def _expect_device(self) -> None:
        """See that the device is there, before anything is made on it.

        Raises:
            DeviceError: it is not.
        """
        compute = self.resources["compute"]
        if compute.device not in ("auto", "cpu"):  # these are everywhere: no need to import torch
            _ = compute.torch_device

    def _token_kinds(self, dataset: str, wanted: Sequence[str] | None) -> list[str]:
        """The data set's kinds among these; None is all of them, an empty sequence its first (patch or token).

        Raises:
            CatalogError: the data set has none of them, with a suggestion.
        """
        there = self.catalog.datasets[dataset].token_kinds
        if not wanted:
            return list(there if wanted is None else there[:1])
        known = {kind for entry in self.catalog.datasets.values() for kind in entry.token_kinds}
        named = [match_name(kind, known, "token kind") for kind in wanted]
        return [kind for kind in there if kind in named] or [match_name(named[0], there, f"token kind of {dataset}")]

    def _models(self, dataset: str, wanted: Sequence[str] | None) -> list[str]:
        used = self.catalog.datasets[dataset].models
        if not wanted:
            return list(used)
        return [name for name in (match_name(model, self.catalog.models, "model") for model in wanted) if name in used]

    @staticmethod
    def _chunks(dataset: str, registered: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
        """These chunks, or all.

        Raises:
            CatalogError: some are not registered.
        """
        unknown = [key for key in wanted or () if key not in registered]
        if unknown:
            ends = f"{registered[0]} … {registered[-1]}" if registered else "none"
            raise CatalogError(f"Data set {dataset!r} has no chunk {', '.join(unknown)}; registered are {ends}.")
        return list(registered if wanted is None else wanted)

    def summary(self, datasets: Sequence[str], options: Options | None = None) -> dict[str, Any]:
        """Figures of what is there; what these options would not make again as it is counts as stale."""
        from sae_assets.storage.snapshot import StoreSnapshot

        found: dict[str, Any] = {}
        for name in datasets:
            chunks = self.chunks_of(name)
            freshness = Freshness(self.catalog, StoreSnapshot(self.store), options or Options(), {name: chunks})
            found |= summarize(self.catalog, self.store, self.instance, name, chunks, freshness)
        return found

    def status(self, datasets: Sequence[str]) -> dict[str, Any]:
        """``{dataset: {"chunks": […], "stages": {"kind/model/stage": {chunk or "all": state}}}}``.

        States are current, stale (its inputs, configuration or code have changed), missing, failed (the last attempt
        did; an older file may be there) and running.
        """
        from sae_assets.storage.snapshot import StoreSnapshot

        found: dict[str, Any] = {}
        for name in datasets:
            chunks = self.chunks_of(name)
            store = StoreSnapshot(self.store)
            freshness = Freshness(self.catalog, store, Options(), {name: chunks})
            failed = failed_partitions(self.instance, self.catalog, name)
            running = busy_partitions(self.instance, name)
            stages: dict[str, dict[str, str]] = {}
            for address in addresses(self.catalog, name, chunks, tuple(STAGES)):
                key, partition = asset_key(address), partition_of(address)
                if partition in running.get(key, ()):
                    state = "running"
                elif partition in failed.get(key, ()):
                    state = "failed"
                elif store.find(address) is None:
                    state = "missing"
                else:
                    state = "current" if freshness.is_current(address) else "stale"
                label = "/".join(part for part in (address.token_kind, address.model, address.stage) if part)
                stages.setdefault(label, {})[address.chunk or "all"] = state
            found[name] = {"chunks": chunks, "stages": stages}
        return found

    def show(
        self, dataset: str, model: str, stage: str, token_kind: str | None, chunk: str | None, rows: int
    ) -> dict[str, Any]:
        """Address, provenance, counts and first rows of one stored artifact."""
        from sae_assets.orchestration.metadata import counts
        from sae_assets.storage.parquet import to_table

        dataset = match_name(dataset, self.catalog.datasets, "data set")
        model = match_name(model, self.catalog.models, "model")
        stage = match_name(stage, STAGES, "stage")
        token_kind = self._token_kinds(dataset, [token_kind] if token_kind else ())[0]
        level, chunks = STAGES[stage].level, self.chunks_of(dataset)
        if level == "model" and chunk is not None:
            raise CatalogError(f"--chunk: {stage} is one table over all chunks; leave it out.")
        if level != "model":
            key = self._chunks(dataset, chunks, chunk_keys([chunk], "--chunk"))[0] if chunk is not None else None
            options: list[str | None] = [key] if key else [*chunks]
        else:
            options = [None]
        places = [
            Address(dataset, stage, chunk=key)
            if level == "dataset-chunk"
            else Address(dataset, stage, token_kind, model, key)
            for key in options
        ]
        there = [address for address in places if self.store.find(address) is not None]
        if not there:
            wanted = places[0] if places else Address(dataset, stage, token_kind, model)
            raise SaeAssetsError(f"{wanted} has not been materialized. Run: {wanted.making}")
        item = self.store.read(there[0])
        table, _ = to_table(item.artifact)
        return {
            "address": str(there[0]),
            "file": str(self.store.find(there[0])),
            "bytes": self.store.size(there[0]),
            "rows": len(table),
            "counts": plain(counts(item.artifact)),
            "fingerprint": item.provenance.fingerprint,
            "config": plain(dict(item.provenance.config)),
            "head": plain(table[:rows].to_pylist()),
        }

    def verify(self) -> tuple[int, dict[str, str]]:
        """Files read, and the problem of each damaged one by path."""
        damaged: dict[str, str] = {}
        checked = 0
        for path in self.store.files():
            checked += 1
            try:
                self.store.read_file(path)
            except SaeAssetsError as error:
                damaged[str(path)] = str(error)
        return checked, damaged


@contextmanager
def open_session(
    home: Path | None = None,
    catalog: Path | None = None,
    *,
    device: str | None = None,
    file_format: str | None = None,
    use_user_catalog: bool = True,
) -> Iterator[Session]:
    """Open a home folder.

    Args:
        use_user_catalog: False takes the packaged catalog alone, whatever the environment says (the demo).

    Raises:
        CatalogError: a catalog, or settings, with mistakes.
    """
    settings = load_settings(home, catalog)
    settings = settings if use_user_catalog else replace(settings, catalog=None)
    entries = load_catalog(settings.catalog)
    resources = default_resources(settings, device=device, file_format=file_format)
    with open_instance(settings) as instance:
        yield Session(settings, entries, resources, instance)
