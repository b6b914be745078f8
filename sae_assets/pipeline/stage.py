"""A stage is one object that says its inputs, what else it depends on, how it is made, checked and shown.

Each stage is one module of ``stages``. Provenance (``recipes``), staleness, planning, Dagster's assets and the
documentation all read this object; nothing here or there knows Dagster.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from upath import UPath

from sae_assets.catalog import Catalog, Dataset, Model
from sae_assets.chunks.manifests import read_manifest
from sae_assets.datasets import open_registered
from sae_assets.datasets.records import Record
from sae_assets.errors import DatasetError, UnreadableDatasetError
from sae_assets.pipeline.checks import NOTHING_MORE, Check, Expected
from sae_assets.pipeline.options import Options
from sae_assets.storage.address import Address
from sae_assets.storage.ahead import chunk_by_chunk

if TYPE_CHECKING:
    from sae_assets.artifacts import Artifact
    from sae_assets.chunks.chunking import Manifest
    from sae_assets.datasets import Reader
    from sae_assets.storage.store import ArtifactStore, Stored

Level = Literal["dataset-chunk", "chunk", "model"]


@dataclass(frozen=True)
class Target:
    """One artifact that is to be made or judged: its address with the catalog's entries for it."""

    catalog: Catalog
    address: Address

    @property
    def dataset(self) -> Dataset:
        return self.catalog.datasets[self.address.dataset]

    @property
    def model(self) -> Model:
        """Return the model's entry; of artifacts without a model there is none to ask for."""
        assert self.address.model is not None
        return self.catalog.models[self.address.model]

    @property
    def token_kind(self) -> str:
        return self.address.token_kind or ""

    @property
    def chunk(self) -> str:
        return self.address.chunk or ""


class Sources:
    """Stages read data sets and manifests from outside the store, each opened once per run or look.

    Args:
        root: of the store, where manifests lie.
    """

    def __init__(self, root: UPath):
        self._root = root
        self._readers: dict[str, Reader] = {}
        self._manifests: dict[tuple[str, str], Manifest] = {}

    def reader(self, dataset: Dataset) -> "Reader":
        """Return the data set's reader.

        Raises:
            UnreadableDatasetError: as ``open_registered``; of all chunks, then, and not of one.
        """
        if dataset.name not in self._readers:
            try:
                self._readers[dataset.name] = open_registered(dataset)
            except DatasetError as error:
                raise UnreadableDatasetError(str(error)) from error
        return self._readers[dataset.name]

    def manifest(self, target: Target) -> "Manifest":
        """Return the chunk's manifest. Raises: StoredFileError, as ``read_manifest``."""
        key = (target.address.dataset, target.chunk)
        if key not in self._manifests:
            self._manifests[key] = read_manifest(self._root, *key)
        return self._manifests[key]


@dataclass(frozen=True)
class Pass:
    """One run of a stage's ``make``: what is to be made, from what, and where it computes.

    Attributes:
        inputs: by stage name one artifact (``Stored``) or, of a model-level stage, a lazy reader of many chunks.
        token_kinds: those whose artifacts are to be made; several only of a stage that makes all in one pass.
        due: stage and token kind of each artifact that is to be made; of others that share the pass nothing is taken.
        device: a torch device; memory_budget: bytes for the largest block of intermediate values.
        log: takes a line for the run's log.
        store: where artifacts of other chunks can be looked at.
    """

    target: Target
    inputs: Mapping[str, Any]
    options: Options
    sources: Sources
    token_kinds: tuple[str, ...]
    due: frozenset[tuple[str, str]]
    device: Any
    memory_budget: int
    log: Callable[[str], None]
    store: "ArtifactStore"

    def artifact(self, stage: str) -> Any:
        """Return the artifact of an input that is one."""
        return self.inputs[stage].artifact

    def pairs(self, stage: str, other: str = "labels") -> "Rereadable":
        """Return artifacts of two chunk-level inputs, chunk by chunk; each time it is gone through they are read
        anew."""
        return Rereadable(lambda: chunk_by_chunk(self.inputs[stage], self.inputs[other]))


class Rereadable:
    """An iterable that can be gone through again: each time, the chunks are read anew."""

    def __init__(self, make: Callable[[], Iterator[Any]]):
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        return self._make()


@dataclass(frozen=True)
class Result:
    """A pass made this of one stage under one token kind.

    Attributes:
        plot: makes a large picture of it, as Markdown, which the UI has behind a link; called once it is to be shown.
        measured: what its parts cost, for the history; no file holds it.
    """

    artifact: "Artifact"
    expected: Expected = NOTHING_MORE
    plot: Callable[[], str] | None = None
    measured: Mapping[str, float] = field(default_factory=dict)


Made = Mapping[tuple[str, str], Result]  # by stage name and token kind ("" of stages without one)


def no_settings(_target: Target, _options: Options) -> dict[str, Any]:
    """Return settings of a stage whose result no catalog key and no option changes."""
    return {}


def every_dataset(_dataset: Dataset) -> bool:
    """Return True: every data set has the stage."""
    return True


def nothing_outside(_target: Target, _sources: Sources, _options: Options) -> dict[str, str]:
    """Return outside contents of a stage that reads the store alone."""
    return {}


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        level: ``dataset-chunk`` (no model), ``chunk`` (model × chunk) or ``model``.
        description: one sentence, shown in the UI and in the README.
        make: one pass over its inputs; gives the results of every stage that shares the pass.
        chunk_inputs: stages read for the same chunk if the stage is chunk-level, for every chunk if it is model-level.
        model_inputs: model-level stages read for the same model.
        optional_inputs: the same, of which a data set may have none (``applies``, ``of_encoded``).
        code_version: raised when the same inputs and settings give another result.
        settings: what of the catalog and of the options changes the result, as plain values.
        outside: hashes of what is read from outside the store, by name.
        catalog_keys: what of the catalog it depends on, where that is more than the settings with default options.
        identity: hashes that files used together must share (the encoder), by name; None while something that they
            need is not on this machine.
        options: what a person can set for one run.
        splits: a model-level stage reads the chunks that hold an example of one of these, and no others.
        frozen: kept as first fitted where the data set's ``calibration`` is ``freeze``.
        shared: name of the pass that makes it together with other stages; empty if it has one of its own.
        every_kind: one pass makes it for all token kinds of the data set, with those that share the pass.
        kept_if_current: a pass that finds the file current hands it on and computes nothing; expected_of_kept: what
            such a file has to satisfy.
        after: a stage that stands before it in every list though it reads nothing of it.
        applies: whether a data set has it; where it has not, it is neither an asset nor planned.
        seconds_offset: what a pass takes whatever it reads, in examples that take as long, so that seconds over one
            number of examples are foretold for another; file_offset: the same of its file, infinite where it is as
            large whatever was read; None for the usual: of a model-level stage so, until two sizes show how it grows,
            of a chunk it grows with the examples.
        effort: how much work an example is, over these examples, beside others: for seconds that are foretold; None:
            as much over any.
        of_encoded: it needs the rows behind activations, so there is none where these were imported.
        pool: name of the limited resource that its passes need.
        checks: asked of the file that was written.
        counts: figures of an artifact for the UI and for ``show``, numbers wherever possible.
        glance: a picture of an artifact that the UI shows at once, as Markdown (``pipeline.glances``); None if there is
            nothing to see.
    """

    name: str
    level: Level
    description: str
    make: Callable[[Pass], Made]
    chunk_inputs: tuple[str, ...] = ()
    model_inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    code_version: str = "1"
    settings: Callable[[Target, Any], dict[str, Any]] = no_settings
    outside: Callable[[Target, Sources, Any], dict[str, str]] = nothing_outside
    catalog_keys: Callable[[Target], dict[str, Any]] | None = None
    identity: Callable[[Target, Any], dict[str, str] | None] = field(default=lambda *_: {})
    options: type[Options] = Options
    splits: tuple[str, ...] = ("cal",)
    frozen: bool = False
    shared: str = ""
    every_kind: bool = False
    kept_if_current: bool = False
    expected_of_kept: "Callable[[Target, Stored, Sources, ArtifactStore], Expected]" = field(
        default=lambda *_: NOTHING_MORE
    )
    after: str = ""
    applies: Callable[[Dataset], bool] = every_dataset
    seconds_offset: float = 0
    file_offset: float | None = None
    effort: Callable[[Target, Sequence[Record]], float] | None = None
    of_encoded: bool = False
    pool: str | None = None
    checks: tuple[Check, ...] = ()
    counts: Callable[[Any], dict[str, Any]] = field(default=lambda *_: {})
    glance: Callable[[Any], str] | None = None

    @property
    def configured(self) -> Callable[[Target], dict[str, Any]]:
        """Return what of the catalog alone it depends on, as plain values; nothing is read or hashed for it."""
        return self.catalog_keys or (lambda target: self.settings(target, self.options()))

    @property
    def inputs(self) -> tuple[str, ...]:
        return (*self.model_inputs, *self.optional_inputs, *self.chunk_inputs)

    @property
    def has_token_kind(self) -> bool:
        return self.level != "dataset-chunk"

    def address(
        self, dataset: str, token_kind: str | None = None, model: str | None = None, chunk: str | None = None
    ) -> Address:
        """Return the address of one of its artifacts; parts that do not apply at its level are left out."""
        if self.level == "dataset-chunk":
            return Address(dataset, self.name, chunk=chunk)
        return Address(dataset, self.name, token_kind, model, chunk if self.level == "chunk" else None)

    def beside(self, address: Address, chunk: str | None = None) -> Address:
        """Return the address of its artifact for the data set, token kind and model of another one, and that one's
        chunk."""
        return self.address(address.dataset, address.token_kind, address.model, chunk or address.chunk)

    def only(self, work: Pass, result: Result) -> Made:
        """Return what a pass gives that makes one artifact."""
        return {(self.name, work.target.token_kind): result}
