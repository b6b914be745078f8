"""A home folder opened with its catalog, and what is asked of it: registering, and materializing a scope of it.

Nothing is printed here. What the other commands do stands in modules of their own beside this one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from sae_assets.catalog import Catalog, load_catalog, match_name
from sae_assets.chunks.manifests import read_manifests
from sae_assets.chunks.registering import Registered, register, to_be_registered
from sae_assets.commands.requests import (
    Asked,
    calibration_missing,
    chunk_keys,
    chunks_among,
    models_among,
    token_kinds_among,
)
from sae_assets.errors import CatalogError
from sae_assets.orchestration.remembered import remembered, renew
from sae_assets.pipeline.options import EncodeOptions, MappingOptions, RunOptions
from sae_assets.pipeline.planning import Outlook, Plan, Scope
from sae_assets.pipeline.stages import stage_range, stages_of
from sae_assets.pipeline.stages.unit_mapping import pruning_rules
from sae_assets.pipeline.staleness import Staleness
from sae_assets.settings import Settings, device_name, format_name, load_settings, memory_budget_mb
from sae_assets.storage.atomic import remove_leftovers
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    from sae_assets.orchestration.instance.home import Instance
    from sae_assets.orchestration.runs import OnBatch, Runner


@dataclass(frozen=True)
class Planned:
    """A plan names what would be made of one data set.

    Attributes:
        fresh: chunks that would be registered first.
        examples: how many each chunk holds, those that would be registered too.
    """

    fresh: Sequence[str]
    examples: Mapping[str, int]
    outlook: Outlook
    plan: Plan


@dataclass(frozen=True)
class Session:
    """An open home folder with its catalog. Dagster is loaded by what asks for its instance or resources."""

    settings: Settings
    catalog: Catalog
    device: str | None = None
    file_format: str | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def store(self) -> ArtifactStore:
        return ArtifactStore(self.settings.store, format_name(self.file_format))

    @cached_property
    def resources(self) -> dict[str, Any]:
        """Return what Dagster's assets are given."""
        from sae_assets.orchestration.build import default_resources  # noqa: PLC0415 - loads Dagster

        return default_resources(self.settings, device=self.device, file_format=self.file_format)

    @cached_property
    def instance(self) -> "Instance":
        """Return Dagster's history of this home; it is opened when it is first asked for."""
        from sae_assets.orchestration.instance.home import open_instance  # noqa: PLC0415 - loads Dagster

        return self._open.enter_context(open_instance(self.settings))

    def dataset_names(self, names: Sequence[str] | None) -> list[str]:
        """Return catalog names of these data sets (any case), all of them if None.

        Raises:
            CatalogError: an unknown one, with a suggestion.
        """
        if not names:
            return list(self.catalog.datasets)
        return [match_name(name, self.catalog.datasets, "data set") for name in names]

    def register(self, dataset: str, *, close_tail: bool = True) -> Registered:
        """Register new examples as chunks; without ``close_tail`` by the rules of the data set's ``arrivals``."""
        registered = register(self.catalog.datasets[dataset], self.store.root, close_tail=close_tail)
        self._told_of(dataset, registered.keys)
        return registered

    def _told_of(self, dataset: str, chunks: list[str]) -> "Instance":
        """Return Dagster's instance, which knows these chunks: it has no history of one whose partition somebody
        deleted."""
        from sae_assets.orchestration.automation.sensors import announce  # noqa: PLC0415 - loads Dagster

        announce(dataset, chunks, self.instance)
        return self.instance

    def chunks_of(self, dataset: str) -> list[str]:
        """Return keys of the registered chunks."""
        return [manifest.key for manifest in read_manifests(self.store.root, dataset)]

    def outlook(self, dataset: str, options: RunOptions | None = None) -> Outlook:
        """Return what the data set's artifacts are now; what these options would not make again as it is counts as
        stale."""
        chunks = self.chunks_of(dataset)
        staleness = Staleness(self.catalog, StoreSnapshot(self.store), {dataset: chunks}, options)
        entry = self.catalog.datasets[dataset]
        history = remembered(self.settings, entry, lambda: self._told_of(dataset, chunks))
        return Outlook(Scope.whole(self.catalog, dataset, chunks), staleness, history)

    def materialize(
        self,
        datasets: Sequence[str] | None = None,
        *,
        on_batch: "OnBatch" = lambda *_: None,
        on_warning: Callable[[str, str], None] = lambda *_: None,
        on_wait: Callable[[str], None] = lambda _: None,
        told_to_end: Callable[[], bool] = lambda: False,
        debug: bool = False,
        **asked: Unpack[Asked],
    ) -> tuple[int, int]:
        """Register and materialize; (runs made, runs not needed). Everything asked for is checked before the first run.

        What killed commands left of half-written files goes first.

        Raises:
            CatalogError: unknown names or chunks; DeviceError: a device that is not there; DatasetError: unreadable
                data; RunFailedError: a run failed.
        """
        self._expect_device()
        registered, scopes = self._scopes(datasets, asked, self._registered)
        told: dict[str, Any] = {"on_batch": on_batch, "on_warning": on_warning, "on_wait": on_wait,
                                "told_to_end": told_to_end}  # fmt: skip
        n_runs, skipped = self._runner(registered, asked, debug=debug, **told).run(scopes)
        renew(self.settings, self.catalog.datasets.values(), lambda: self.instance)
        return n_runs, skipped

    def _registered(self, name: str) -> list[str]:
        """Return keys of a data set's chunks, new ones among them; what killed commands left of half-written files
        goes."""
        remove_leftovers(self.store.root / name)
        return self.register(name).keys

    def plans(self, datasets: Sequence[str] | None = None, **asked: Unpack[Asked]) -> list[Planned]:
        """Return what :meth:`materialize` would begin with, by the same plan; nothing is registered, made or recorded.

        Raises:
            CatalogError, DatasetError: as :meth:`materialize`.
        """
        fresh, examples = dict[str, list[str]](), dict[str, dict[str, int]]()

        def keys(name: str) -> list[str]:
            registered, new = to_be_registered(self.catalog.datasets[name], self.store.root)
            fresh[name] = [manifest.key for manifest in new]
            examples[name] = {manifest.key: len(manifest.example_ids) for manifest in (*registered, *new)}
            return [*examples[name]]

        registered, scopes = self._scopes(datasets, asked, keys)
        runner = self._runner(registered, asked)
        return [Planned(tuple(fresh[scope.dataset]), examples[scope.dataset], *runner.plan(scope)) for scope in scopes]

    def _scopes(
        self, datasets: Sequence[str] | None, asked: Asked, keys_of: Callable[[str], list[str]]
    ) -> tuple[dict[str, list[str]], list[Scope]]:
        """Return chunk keys by data set, and a scope for each; all is checked before ``keys_of`` is called."""
        chunks, models, options = asked.get("chunks"), asked.get("models"), asked.get("options") or RunOptions()
        keys = None if not chunks or [part.lower() for part in chunks] == ["all"] else chunk_keys(chunks)
        names, stages = self.dataset_names(datasets), stage_range(asked.get("first"), asked.get("last"))
        kinds = {name: token_kinds_among(self.catalog, name, asked.get("token_kinds")) for name in names}
        chosen = {name: models_among(self.catalog, name, models) for name in names}
        if models and not any(chosen.values()):
            raise CatalogError(f"None of {', '.join(names)} uses {', '.join(models)} (`models` in the catalog).")
        for name in names:
            calibration_missing(self.catalog.datasets[name], stages)
            for model in chosen[name]:
                pruning_rules(self.catalog.models[model], options.of(MappingOptions))
        registered = {name: keys_of(name) for name in names}
        return registered, [
            Scope(
                name, chosen[name], kinds[name], chunks_among(name, registered[name], keys),
                stages_of(self.catalog.datasets[name], stages),
            )
            for name in names
        ]  # fmt: skip

    def _runner(self, chunks: Mapping[str, Sequence[str]], asked: Asked, **settings: Any) -> "Runner":
        """Return the runner of what is asked for; where all is forced, the pass that keeps what is current is told so,
        too."""
        options, force = asked.get("options") or RunOptions(), asked.get("force", False)
        if force:
            encode = options.of(EncodeOptions).model_copy(update={"force": True})
            options = RunOptions({**options.values, EncodeOptions: encode})
        return self.runner(chunks, options=options, force=force, **settings)

    def runner(self, chunks: Mapping[str, Sequence[str]], **settings: Any) -> "Runner":
        """Return what carries plans out over these registered chunks (keys by data set); ``settings`` are
        :class:`Runner`'s."""
        from sae_assets.orchestration.build import build_definitions  # noqa: PLC0415 - loads Dagster
        from sae_assets.orchestration.runs import Runner  # noqa: PLC0415

        definitions = build_definitions(self.catalog, self.resources)
        return Runner(self.catalog, definitions, self.instance, self.store, chunks, **settings)

    def _expect_device(self) -> None:
        """See that the device is there, before anything is made on it.

        Raises:
            DeviceError: it is not.
        """
        compute = self.resources["compute"]
        if compute.device not in ("auto", "cpu"):  # these are everywhere: no need to import torch
            _ = compute.torch_device


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
    _ = device_name(device), format_name(file_format), memory_budget_mb()  # what is wrong is said before anything else
    session = Session(settings, entries, device, file_format)
    with session._open:
        yield session
