"""Orchestrated, sparse, exact statistics of sparse-autoencoder activations.

``sae_assets.open`` reads a finished home (``sae_assets.reading``), ``sae_assets.Detector`` applies what it found to new
pictures and texts. Otherwise start with ``sae_assets.definitions`` (Dagster), ``sae_assets.cli`` (command line) or
``sae_assets.ops`` (numerics, on a bare machine with torch alone). This head loads none of these before it is asked for.
No program that loads it sends usage statistics to anybody, unless the environment says so.
"""

import os
from typing import TYPE_CHECKING, Any

from sae_assets.package import VERSION as __version__  # noqa: N811

if TYPE_CHECKING:
    from sae_assets.reading.detector import Detector as Detector
    from sae_assets.reading.project import open_project as open  # noqa: A004  # as `tarfile.open`

for _variable in ("DAGSTER_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")

__all__ = ["Detector", "__version__", "open"]


def __getattr__(name: str) -> Any:
    """Load what reads a home when it is first named."""
    if name == "open":
        from sae_assets.reading.project import open_project  # noqa: PLC0415 - when it is asked for

        return open_project
    if name == "Detector":
        from sae_assets.reading.detector import Detector  # noqa: PLC0415 - when it is asked for

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
