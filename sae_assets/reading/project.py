"""A home folder, and the data sets, models and token kinds in it: ``project["clevr_mini"]["clip-mini"]["patch"]``."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import ClassVar, TypeVar

from upath import UPath

from sae_assets.catalog import Catalog, load_catalog, match_name
from sae_assets.errors import NotMaterializedError
from sae_assets.reading.results import Results
from sae_assets.settings import load_settings
from sae_assets.storage.store import ArtifactStore

V = TypeVar("V")


def open_project(home: Path | str | None = None, catalog: Path | str | None = None) -> "Project":
    """Return a home folder, to be read.

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


class _ByName(Mapping[str, V]):
    """Parts by name, whatever the case; what is not there is an error with a suggestion."""

    what: ClassVar[str]

    def __init__(self, store: ArtifactStore, catalog: Catalog, names: Sequence[str], label: str):
        self._store, self._catalog, self._names, self._label = store, catalog, names, label

    @abstractmethod
    def _part(self, name: str) -> V:
        """Return the part of a name that there is."""

    def __getitem__(self, name: str) -> V:
        """Return a part.

        Raises:
            NotMaterializedError: the catalog has it and nothing of it was made; the command that makes it is named.
            CatalogError: there is none of this name; the nearest is named.
        """
        for candidate, options in self._possible():
            if candidate.lower() == name.lower() and candidate not in self._names:
                raise NotMaterializedError(
                    f"Nothing has been made of {self.what} {candidate!r} in {self._label}. "
                    f"Run: sae-assets materialize {options}"
                )
        return self._part(match_name(name, self._names, self.what))

    @abstractmethod
    def _possible(self) -> Iterator[tuple[str, str]]:
        """Return every name of the catalog, and the options of the command that makes its part."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{self._label}: {', '.join(self) or 'nothing'}"

    def _repr_html_(self) -> str:
        """Return its parts, and the parts of each."""
        labels = [str(part) if isinstance(part, _ByName) else name for name, part in self.items()]
        names = "".join(f"<li>{escape(label)}</li>" for label in labels)
        return f"<p><b>{escape(self._label)}</b></p><ul>{names}</ul>"


class Project(_ByName["DatasetFigures"]):
    """Data sets of a home by name."""

    what = "data set"

    def __init__(self, store: ArtifactStore, catalog: Catalog):
        folders = _folders(store.root)
        super().__init__(store, catalog, [name for name in catalog.datasets if name in folders], str(store.root))

    def _part(self, name: str) -> "DatasetFigures":
        return DatasetFigures(self._store, self._catalog, name)

    def _possible(self) -> Iterator[tuple[str, str]]:
        return ((name, f"-d {name}") for name in self._catalog.datasets)


class DatasetFigures(_ByName["ModelFigures"]):
    """The figures of a data set are those of its models, by name."""

    what = "model"

    def __init__(self, store: ArtifactStore, catalog: Catalog, name: str):
        entry = catalog.datasets[name]
        folders = {kind: _folders(store.root / name / kind) for kind in entry.token_kinds}
        self._kinds = {model: [kind for kind in folders if model in folders[kind]] for model in entry.models}
        self.name = name
        super().__init__(store, catalog, [model for model, kinds in self._kinds.items() if kinds], name)

    def _part(self, name: str) -> "ModelFigures":
        return ModelFigures(self._store, self._catalog, self.name, name, self._kinds[name])

    def _possible(self) -> Iterator[tuple[str, str]]:
        return ((model, f"-d {self.name} -m {model}") for model in self._kinds)


class ModelFigures(_ByName[Results]):
    """The figures of a model are its results, by token kind."""

    what = "token kind"

    def __init__(self, store: ArtifactStore, catalog: Catalog, dataset: str, model: str, kinds: Sequence[str]):
        self.dataset, self.name = dataset, model
        super().__init__(store, catalog, kinds, f"{dataset}/{model}")

    def _part(self, name: str) -> Results:
        dataset, model = self._catalog.datasets[self.dataset], self._catalog.models[self.name]
        return Results(self._store, dataset, self.name, name, model)

    def _possible(self) -> Iterator[tuple[str, str]]:
        kinds = self._catalog.datasets[self.dataset].token_kinds
        return ((kind, f"-d {self.dataset} -m {self.name} --token-kind {kind}") for kind in kinds)


def _folders(folder: UPath) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.exists() else set()
