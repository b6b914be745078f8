"""Dagster resources: the store that artifacts live in, and the device that numerics run on."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from sae_assets import ops
from sae_assets.storage.store import ArtifactStore

if TYPE_CHECKING:
    from sae_assets.storage.store import ArtifactStore


class StoreResource(dg.ConfigurableResource):
    """Artifacts lie in this store, and new ones are written in this format (both formats are always read)."""

    root: str = Field(description="a path or any fsspec URL")
    file_format: str = Field("parquet", description="parquet, or pt for activations and mappings")
    kept_mb: int = Field(0, ge=0, description="MiB of chunks that were read, kept for later passes of the same run")

    @cached_property
    def store(self) -> "ArtifactStore":
        """Return the store of one run: Dagster makes resources anew for each."""
        return ArtifactStore(self.root, self.file_format, self.kept_mb * 2**20)


class ComputeResource(dg.ConfigurableResource):
    """Numerics run on this device, and their blocks may take so much memory."""

    device: str = Field("auto", description="auto, cpu, cuda or cuda:<number>")
    memory_budget_mb: int | None = Field(
        None,
        ge=1,
        description="MiB for the largest block of intermediate values; where nothing is said, what suits the device",
    )

    @property
    def torch_device(self) -> Any:
        """Return the torch device.

        Raises:
            DeviceError: no such device here.
        """
        return ops.device.resolve_device(self.device)

    @property
    def memory_budget(self) -> int:
        return ops.device.memory_budget(self.memory_budget_mb, self.torch_device)
