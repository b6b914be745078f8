"""Where things lie: the home folder, the store and the catalog, each from one environment variable.

No other module reads these variables. What a data set or a model is stands in the catalog, not here.
"""

import os
from dataclasses import dataclass
from pathlib import Path

HOME_VARIABLE = "SAE_ASSETS_HOME"
STORE_VARIABLE = "SAE_ASSETS_STORE"
CATALOG_VARIABLE = "SAE_ASSETS_CATALOG"
FORMAT_VARIABLE = "SAE_ASSETS_FORMAT"
DEVICE_VARIABLE = "SAE_ASSETS_DEVICE"
BUDGET_VARIABLE = "SAE_ASSETS_MEMORY_BUDGET_MB"
WEBHOOK_VARIABLE = "SAE_ASSETS_WEBHOOK_URL"


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes:
        home: folder of the Dagster instance (``dagster/``) and, unless told otherwise, of the store (``store/``).
        store: root of all artifacts, a path or any fsspec URL (``s3://…``, ``gs://…``, ``memory://…``).
        catalog: the user's catalog file, or None for the packaged one alone.
    """

    home: Path
    store: str
    catalog: Path | None

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    def environment(self) -> dict[str, str]:
        """The variables that give a child process (webserver, daemon, run) the same settings."""
        variables = {
            HOME_VARIABLE: str(self.home),
            STORE_VARIABLE: self.store,
            "DAGSTER_HOME": os.environ.get("DAGSTER_HOME") or str(self.dagster_home),
        }
        if self.catalog:
            variables[CATALOG_VARIABLE] = str(self.catalog)
        return variables


def load_settings(home: Path | str | None = None, catalog: Path | str | None = None) -> Settings:
    """Arguments first, then the environment, then the defaults (``~/.sae_assets``)."""
    home = Path(home or os.environ.get(HOME_VARIABLE) or "~/.sae_assets").expanduser().absolute()
    store = os.environ.get(STORE_VARIABLE) or str(home / "store")
    chosen = catalog or os.environ.get(CATALOG_VARIABLE)
    return Settings(home=home, store=store, catalog=Path(chosen).expanduser().absolute() if chosen else None)
