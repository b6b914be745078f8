"""Headers alone say whether a stored artifact is what its stage would make now: nothing is computed.

The expected fingerprint comes from the recipe that the stage itself writes (``recipes``), over what is in the store.
Every decider asks this: the command, ``status``, backfills, automation and what Dagster's own marker is told.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Catalog
from sae_assets.errors import MissingChunksError, NotMaterializedError, SaeAssetsError
from sae_assets.pipeline.options import RunOptions
from sae_assets.pipeline.recipes import chunks_read, holds_any, identity_of, imported_still_fits, is_imported, recipe
from sae_assets.pipeline.stage import Sources, Stage, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets.storage.chunk_reader import ChunkReader

if TYPE_CHECKING:
    from sae_assets.storage.provenance import Provenance
    from sae_assets.storage.store import ArtifactStore


class Staleness:
    """An artifact in a store is stale unless it is what its stage would make now.

    Args:
        store: for a look over many addresses a ``StoreSnapshot``.
        chunks: registered chunk keys by data set.
        options: what was set for one run; what was made with others is then stale.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: "ArtifactStore",
        chunks: Mapping[str, Sequence[str]],
        options: RunOptions | None = None,
    ):
        self.catalog, self.store, self.options = catalog, store, options or RunOptions()
        self._chunks = chunks
        self._sources = Sources(store.root)  # one look at a data set's table serves all its chunks
        self._counts: dict[tuple[str, str], Mapping[str, int] | None] = {}

    def is_current(self, address: Address) -> bool:
        """Return whether the file is there and has the fingerprint that its stage would write."""
        return not self.reason(address)

    def reason(self, address: Address) -> str:
        """Return why an artifact is to be made, in a few words; empty if it is current."""
        if self.store.find(address) is None:
            return "missing"
        try:
            provenance = self.store.header(address).provenance
            if is_imported(provenance):
                examples = self.store.header(STAGES["examples"].beside(address))
                return (
                    ""
                    if imported_still_fits(provenance, examples)
                    else "its examples have changed since it was imported"
                )
            if self.is_frozen(address):
                return self._unfit(address, provenance)
            expected = self._expected(address)
        except (NotMaterializedError, MissingChunksError):
            return f"not there of what it reads: {', '.join(self._lacking(address))}"
        except SaeAssetsError as error:  # an input is damaged or does not fit: the stage itself will say so
            return str(error).splitlines()[0]
        if expected is None:
            return "its SAE is not on this machine"
        return "" if provenance.fingerprint == expected.fingerprint else _difference(provenance, expected)

    def is_imported(self, address: Address) -> bool:
        """Return whether what is there was imported, so that making it would replace what nothing here can make
        again."""
        if address.stage != "sparse_activations" or self.store.find(address) is None:
            return False
        try:
            return is_imported(self.store.header(address).provenance)
        except SaeAssetsError:
            return False

    def applies(self, address: Address) -> bool:
        """Return whether there can be such an artifact: not of the rows behind activations that were imported."""
        stage = STAGES[address.stage]
        if not stage.of_encoded:
            return True
        chunks = self._chunks[address.dataset] if stage.level == "model" else [address.chunk]
        return not any(self.is_imported(STAGES["sparse_activations"].beside(address, chunk)) for chunk in chunks)

    def model_inputs(self, address: Address) -> tuple[str, ...]:
        """Return the model-level stages that an artifact is made from: of the optional ones those that there can be."""
        stage, entry = STAGES[address.stage], self.catalog.datasets[address.dataset]
        optional = (
            name
            for name in stage.optional_inputs
            if STAGES[name].applies(entry) and self.applies(STAGES[name].beside(address))
        )
        return (*stage.model_inputs, *optional)

    def is_frozen(self, address: Address) -> bool:
        """Return whether an artifact is kept as first fitted, whatever becomes of what it read."""
        return STAGES[address.stage].frozen and self.catalog.datasets[address.dataset].calibration == "freeze"

    def allows_gaps(self, address: Address) -> bool:
        """Return whether an aggregate is asked for over the chunks there are, whatever else is registered."""
        return self.options.of(STAGES[address.stage].options).allows_gaps

    def has_any(self, dataset: str, chunk: str, splits: Collection[str]) -> bool:
        """Return whether a chunk holds examples of some of these splits; True also while its ``labels`` do not say."""
        if (dataset, chunk) not in self._counts:
            try:
                header = self.store.header(STAGES["labels"].address(dataset, chunk=chunk))
                self._counts[dataset, chunk] = header.scalars.get("n_by_split")
            except SaeAssetsError:
                return True
        counts = self._counts[dataset, chunk]
        return counts is None or holds_any(counts, splits)

    def inputs(self, address: Address) -> "dict[str, Any]":
        """Return headers of what an artifact is made from: of one chunk, or readers of the chunks an aggregate reads.

        Raises:
            StoredFileError, MissingChunksError, DatasetError: an input that is missing or cannot be read.
        """
        stage = STAGES[address.stage]
        names = self.model_inputs(address)
        inputs: dict[str, Any] = {name: self.store.header(STAGES[name].beside(address)) for name in names}
        if stage.level != "model":
            return inputs | {name: self.store.header(STAGES[name].beside(address)) for name in stage.chunk_inputs}
        readers = {name: self._chunks_of(address, STAGES[name]) for name in stage.chunk_inputs}
        return inputs | chunks_read(stage, address.dataset, readers, allow_missing=self.allows_gaps(address))

    def _lacking(self, address: Address) -> list[str]:
        """Return names of the stages that an artifact reads and of which something is missing."""
        stage = STAGES[address.stage]
        per_chunk = stage.chunk_inputs if stage.level == "model" else ()
        beside = (*self.model_inputs(address), *(() if per_chunk else stage.chunk_inputs))
        lacking = [name for name in beside if self.store.find(STAGES[name].beside(address)) is None]
        return lacking + [name for name in per_chunk if self._chunks_of(address, STAGES[name]).missing]

    def _expected(self, address: Address) -> "Provenance | None":
        stage = STAGES[address.stage]
        target, options = Target(self.catalog, address), self.options.of(stage.options)
        return recipe(stage, target, self.inputs(address), options, self._sources)

    def _unfit(self, address: Address, provenance: "Provenance") -> str:
        """Return why a frozen artifact does not fit what is there: other code, settings, encoder or mapping."""
        stage = STAGES[address.stage]
        if provenance.code_version != stage.code_version:
            return f"code version {provenance.code_version}, now {stage.code_version}"
        settings = stage.settings(Target(self.catalog, address), self.options.of(stage.options))
        if dict(provenance.config) != settings:
            return _changed("settings", provenance.config, settings)
        chunks = self._chunks_of(address, STAGES["sparse_activations"])
        beside = [STAGES[name].beside(address) for name in stage.model_inputs]
        parts = [self.store.header(each) for each in beside if self.store.find(each) is not None]
        parts += [chunks.header(next(iter(chunks)))] if chunks else []
        now = {
            name: value for part in parts for name, value in identity_of(part).items() if name in provenance.identity
        }
        now = {**provenance.identity, **now}
        return "" if now == dict(provenance.identity) else _changed("made with another", provenance.identity, now)

    def _chunks_of(self, address: Address, stage: Stage) -> "ChunkReader":
        keys = self._chunks[address.dataset]
        return ChunkReader(self.store, {key: stage.beside(address, key) for key in keys})


def _difference(actual: "Provenance", expected: "Provenance") -> str:
    """Return what of two provenances is not the same, in a few words."""
    if actual.code_version != expected.code_version:
        return f"code version {actual.code_version}, now {expected.code_version}"
    if dict(actual.config) != dict(expected.config):
        return _changed("settings", actual.config, expected.config)
    if dict(actual.inputs) != dict(expected.inputs):
        return _changed("inputs", actual.inputs, expected.inputs)
    return _changed("made with another", actual.identity, expected.identity)


def _changed(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f"{what}: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
