"""Whether a stored artifact is what its stage would make now, from headers alone: no torch, nothing computed.

The expected fingerprint is built by the same function that the assets use (``lineage``), from what is in the store.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Catalog, Model
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.config import (
    AggregateConfig,
    DetectionConfig,
    EncodeConfig,
    MappingConfig,
    ThresholdsConfig,
)
from sae_assets.pipeline.recipes import (
    chunks_read,
    encoder_hash,
    examples_hash,
    is_as_made_now,
    labels_hash,
    provenance_of,
    truth_config,
)
from sae_assets.pipeline.stages import FROZEN_STAGES, STAGES
from sae_assets.storage.address import Address

if TYPE_CHECKING:
    from sae_assets.chunks.chunking import Manifest
    from sae_assets.datasets.reader import Reader
    from sae_assets.storage.provenance import Provenance
    from sae_assets.storage.store import ArtifactStore, ChunkReader


@dataclass(frozen=True)
class Options:
    """Configuration of every configurable stage, as the assets take it."""

    encode: EncodeConfig = field(default_factory=lambda: EncodeConfig())
    aggregate: AggregateConfig = field(default_factory=lambda: AggregateConfig())
    mapping: MappingConfig = field(default_factory=lambda: MappingConfig())
    thresholds: ThresholdsConfig = field(default_factory=lambda: ThresholdsConfig())
    detection: DetectionConfig = field(default_factory=lambda: DetectionConfig())

    def of(self, stage: str) -> dg.Config | None:
        return {
            "sparse_activations": self.encode,
            "unit_stats": self.aggregate,
            "unit_mapping": self.mapping,
            "thresholds": self.thresholds,
            "detection_stats": self.detection,
            "best_pairs": self.detection,
        }.get(stage)


def _examples_of(address: Address) -> Address:
    return Address(address.dataset, "examples", chunk=address.chunk)


class Freshness:
    """Whether an artifact in the store is what its stage would make now.

    Args:
        chunks: registered chunk keys by data set.
    """

    def __init__(self, catalog: Catalog, store: "ArtifactStore", options: Options, chunks: Mapping[str, Sequence[str]]):
        self._catalog, self._store, self._options, self._chunks = catalog, store, options, chunks
        self._readers: dict[str, Any] = {}  # one look at a data set's table serves all its chunks
        self._counts: dict[tuple[str, str], Mapping[str, int] | None] = {}

    def is_current(self, address: Address) -> bool:
        """True iff the file is there and its fingerprint is the one the stage would write."""
        if self._store.find(address) is None:
            return False
        try:
            provenance = self._store.header(address).provenance
            if provenance.config.get("imported"):
                return is_as_made_now(provenance, None, self._store.header(_examples_of(address)))
            if self._is_frozen(address):
                return self._still_fits(address, provenance)
            return provenance.fingerprint == self._expected(address)
        except SaeAssetsError:  # an input is missing, damaged or does not fit: the stage itself will say so
            return False

    def is_imported(self, address: Address) -> bool:
        """Whether what is there was imported, so that making it would replace what nothing here can make again."""
        if address.stage != "sparse_activations" or self._store.find(address) is None:
            return False
        try:
            return bool(self._store.header(address).provenance.config.get("imported"))
        except SaeAssetsError:
            return False

    def has_any(self, dataset: str, chunk: str, splits: Collection[str]) -> bool:
        """Whether a chunk holds examples of some of these splits; True also while its ``labels`` do not say."""
        if (dataset, chunk) not in self._counts:
            try:
                header = self._store.header(Address(dataset, "labels", chunk=chunk))
                self._counts[dataset, chunk] = header.scalars.get("n_by_split")
            except SaeAssetsError:
                return True
        counts = self._counts[dataset, chunk]
        return counts is None or any(counts[split] for split in splits)

    def _is_frozen(self, address: Address) -> bool:
        entry = self._catalog.datasets[address.dataset]
        return entry.calibration == "freeze" and address.stage in FROZEN_STAGES

    def _still_fits(self, address: Address, made: "Provenance") -> bool:
        """Whether a frozen artifact belongs to the chunks there are: same code, configuration and encoder."""
        current = self._chunks_of(address, "sparse_activations")
        encoder = current.header(next(iter(current))).provenance.identity.get("encoder") if current else None
        config = self._config(address)
        same = made.code_version == STAGES[address.stage].code_version and dict(made.config) == config
        return same and encoder in (None, made.identity.get("encoder"))

    def _config(self, address: Address) -> dict[str, Any]:
        """What is configured for a model-level stage, as it stands in provenance."""
        options = self._options.of(address.stage)
        if isinstance(options, MappingConfig):
            return options.result_with(*self._model(address), address.token_kind or "")
        entry = self._catalog.datasets[address.dataset]
        return options.result_for(entry) if isinstance(options, AggregateConfig) else {}

    def _expected(self, address: Address) -> str | None:
        stage = STAGES[address.stage]
        entry = self._catalog.datasets[address.dataset]
        options = self._options.of(address.stage)
        inputs: dict[str, Any] = {
            name: self._store.header(Address(address.dataset, name, address.token_kind, address.model))
            for name in stage.model_inputs
        }
        gaps = isinstance(options, AggregateConfig) and options.allow_missing_chunks
        if stage.level == "model":
            readers = {name: self._chunks_of(address, name) for name in stage.chunk_inputs}
            inputs |= chunks_read(stage, address.dataset, readers, allow_missing=gaps)
        else:
            for name in stage.chunk_inputs:
                inputs[name] = self._store.header(self._input(address, name, address.chunk))
        config: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        if address.stage == "examples":
            extra["outside"] = {"manifest": examples_hash(*self._manifest(address))}
        elif address.stage == "labels":
            extra["outside"] = {"manifest": labels_hash(*self._manifest(address))}
        elif address.stage == "ground_truth":
            config = truth_config(entry, self._model(address), address.token_kind or "")
        elif isinstance(options, EncodeConfig):
            config = options.result_for(self._model(address)[1])
            encoder = encoder_hash(entry, self._model(address), address.token_kind or "", config)
            if encoder is None:
                return None
            extra["identity"] = {"encoder": encoder}
            extra["outside"] = self._embeddings(address)
        else:
            config = self._config(address)
        return provenance_of(stage, address, inputs, config, **extra).fingerprint

    @staticmethod
    def _input(address: Address, stage: str, chunk: str | None) -> Address:
        if STAGES[stage].level == "dataset-chunk":
            return Address(address.dataset, stage, chunk=chunk)
        return Address(address.dataset, stage, address.token_kind, address.model, chunk)

    def _chunks_of(self, address: Address, stage: str) -> "ChunkReader":
        from sae_assets.storage.store import ChunkReader

        keys = self._chunks[address.dataset]
        return ChunkReader(self._store, {key: self._input(address, stage, key) for key in keys})

    def _model(self, address: Address) -> tuple[str, Model]:
        return address.model or "", self._catalog.models[address.model or ""]

    def _embeddings(self, address: Address) -> dict[str, str]:
        from sae_assets.chunks.manifests import read_manifest
        from sae_assets.rows.identity import outside_hashes

        entry = self._catalog.datasets[address.dataset]
        if address.token_kind not in entry.embeddings.get(address.model or "", {}):
            return {}
        ids = read_manifest(self._store.root, address.dataset, address.chunk or "").example_ids
        return outside_hashes((address.dataset, entry), address.model or "", address.token_kind or "", ids)

    def _manifest(self, address: Address) -> tuple["Manifest", "Reader"]:
        from sae_assets.chunks.manifests import read_manifest
        from sae_assets.datasets import open_registered

        if address.dataset not in self._readers:
            self._readers[address.dataset] = open_registered(address.dataset, self._catalog.datasets[address.dataset])
        return read_manifest(self._store.root, address.dataset, address.chunk or ""), self._readers[address.dataset]
