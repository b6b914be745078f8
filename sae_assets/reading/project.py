"""A home folder, and the data sets, models and token kinds in it: ``project["clevr_mini"]["clip-mini"]["patch"]``."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from upath import UPath

from sae_assets.catalog import Catalog, load_catalog, match_name
from sae_assets.errors import NotMaterializedError
from sae_assets.reading.run import Run
from sae_assets.settings import load_settings
from sae_assets.storage.store import ArtifactStore


def open_project(home: Path | str | None = None, catalog: Path | str | None = None) -> "Project":
    """A home folder, to be read.

    Args:
        home: default: ``SAE_ASSETS_HOME``, else ``~/.sae_assets``.
        catalog: merged over the packaged one, as everywhere; needed for data sets of one's own.

    Raises:
        CatalogError: a catalog that cannot be read.
        NotMaterializedError: a home in which nothing was made.
    """
    settings = load_settings(home, catalog)
    store = ArtifactStore(settings.store)
    if not store.root.exists():
        raise NotMaterializedError(
            f"{store.root} does not exist: nothing has been made in {settings.home}. Name the home folder that "
            "`sae-assets materialize` was given, or run `sae-assets demo`."
        )
    return Project(store, load_catalog(settings.catalog))


class Project(Mapping[str, "DatasetFigures"]):
    """Data sets of a home by name."""

    def __init__(self, store: ArtifactStore, catalog: Catalog):
        self._store, self._catalog = store, catalog

    @cached_property
    def _names(self) -> list[str]:
        there = _folders(self._store.root)
        return [name for name in self._catalog.datasets if name in there]

    def __getitem__(self, name: str) -> "DatasetFigures":
        """A data set, whatever the case of its name. Raises: CatalogError, with a suggestion."""
        return DatasetFigures(self._store, self._catalog, match_name(name, self._names, "data set"))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"Project({str(self._store.root)!r}: {', '.join(self) or 'nothing'})"


class DatasetFigures(Mapping[str, "ModelFigures"]):
    """What was made of a data set, by model."""

    def __init__(self, store: ArtifactStore, catalog: Catalog, name: str):
        self._store, self._catalog, self.name = store, catalog, name
        entry = catalog.datasets[name]
        kinds = {kind: _folders(store.root / name / kind) for kind in entry.token_kinds}
        self._kinds = {
            model: [kind for kind, models in kinds.items() if model in models]
            for model in entry.models
            if any(model in models for models in kinds.values())
        }

    def __getitem__(self, model: str) -> "ModelFigures":
        """What was made with a model. Raises: CatalogError, with a suggestion."""
        chosen = match_name(model, self._kinds, "model")
        return ModelFigures(self._store, self._catalog, self.name, chosen, self._kinds[chosen])

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __repr__(self) -> str:
        return f"{self.name}: {', '.join(self) or 'nothing'}"


class ModelFigures(Mapping[str, Run]):
    """What was made of a data set with a model, by token kind."""

    def __init__(self, store: ArtifactStore, catalog: Catalog, dataset: str, model: str, kinds: Sequence[str]):
        self._store, self._catalog, self.dataset, self.name, self._kinds = store, catalog, dataset, model, kinds

    def __getitem__(self, kind: str) -> Run:
        """What was made of a token kind. Raises: CatalogError, with a suggestion."""
        chosen = match_name(kind, self._kinds, "token kind")
        return Run(self._store, self._catalog.datasets[self.dataset], self.name, chosen)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def __repr__(self) -> str:
        return f"{self.dataset}/{self.name}: {', '.join(self)}"


def _folders(folder: UPath) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()
