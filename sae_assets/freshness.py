"""Whether a stored artifact is what its stage would make now, from headers alone: no torch, nothing computed.

The expected fingerprint is built by the same function that the assets use (``lineage``), from what is in the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.config import AggregateConfig, DetectionConfig, EncodeConfig, MappingConfig, ThresholdsConfig
from sae_assets.errors import SaeAssetsError
from sae_assets.lineage import encoder_hash, manifest_hash, provenance_of, truth_config
from sae_assets.stages import STAGES
from sae_assets.storage.layout import Address

if TYPE_CHECKING:
    from sae_assets.storage.store import ArtifactStore


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


class Freshness:
    """Whether an artifact in the store is what its stage would make now.

    Args:
        chunks: registered chunk keys by data set.
    """

    def __init__(self, catalog: Catalog, store: "ArtifactStore", options: Options, chunks: Mapping[str, Sequence[str]]):
        self._catalog, self._store, self._options, self._chunks = catalog, store, options, chunks

    def is_current(self, address: Address) -> bool:
        """True iff the file is there and its fingerprint is the one the stage would write."""
        if self._store.find(address) is None:
            return False
        try:
            return self._store.header(address).provenance.fingerprint == self._expected(address)
        except SaeAssetsError:  # an input is missing, damaged or does not fit: the stage itself will say so
            return False

    def _expected(self, address: Address) -> str | None:
        stage = STAGES[address.stage]
        entry = self._catalog.datasets[address.dataset]
        options = self._options.of(address.stage)
        inputs: dict[str, Any] = {
            name: self._store.header(Address(address.dataset, name, address.token_kind, address.model))
            for name in stage.model_inputs
        }
        gaps = isinstance(options, AggregateConfig) and options.allow_missing_chunks
        for position, name in enumerate(stage.chunk_inputs):
            dataset_level = STAGES[name].level == "dataset-chunk"
            kind, model = (None, None) if dataset_level else (address.token_kind, address.model)
            if stage.level == "model":
                from sae_assets.storage.store import ChunkReader

                reader = ChunkReader(
                    self._store,
                    {key: Address(address.dataset, name, kind, model, key) for key in self._chunks[address.dataset]},
                )
                first = stage.chunk_inputs[0]
                inputs[name] = reader.complete(gaps) if position == 0 else reader.only(inputs[first])
            else:
                inputs[name] = self._store.header(Address(address.dataset, name, kind, model, address.chunk))
        config: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        if address.stage == "examples":
            config = {"concepts": list(entry.concepts)}
            extra["outside"] = {"manifest": self._manifest(address)}
        elif address.stage == "ground_truth":
            config = truth_config(entry, self._catalog.models[address.model or ""], address.token_kind or "")
        elif isinstance(options, EncodeConfig):
            entry_of = self._catalog.models[address.model or ""]
            k_stored, precision = options.resolved(entry_of)
            encoder = encoder_hash(entry_of, address.token_kind or "", k_stored, precision)
            if encoder is None:
                return None
            config, extra["identity"] = {"k_stored": k_stored, "precision": precision}, {"encoder": encoder}
        elif isinstance(options, MappingConfig):
            config = options.result_for(self._catalog.models[address.model or ""], address.token_kind or "")
        elif isinstance(options, AggregateConfig):
            config = options.result()
        return provenance_of(stage, address, inputs, config, **extra).fingerprint

    def _manifest(self, address: Address) -> str:
        from sae_assets.datasets import open_dataset
        from sae_assets.datasets.manifested import hash_files
        from sae_assets.storage.manifests import read_manifest

        reader = open_dataset(address.dataset, self._catalog.datasets[address.dataset])
        manifest = read_manifest(self._store.root, address.dataset, address.chunk or "")
        return manifest_hash(manifest, reader.by_id, hash_files(manifest, reader))
