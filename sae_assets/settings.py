"""Each environment variable says where something lies (home folder, store, catalog) or what runs on what.

No other module reads these variables. What a data set or a model is stands in the catalog, not here.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from sae_assets.errors import CatalogError

HOME_VARIABLE = "SAE_ASSETS_HOME"
STORE_VARIABLE = "SAE_ASSETS_STORE"
CATALOG_VARIABLE = "SAE_ASSETS_CATALOG"
FORMAT_VARIABLE = "SAE_ASSETS_FORMAT"
DEVICE_VARIABLE = "SAE_ASSETS_DEVICE"
BUDGET_VARIABLE = "SAE_ASSETS_MEMORY_BUDGET_MB"
KEPT_VARIABLE = "SAE_ASSETS_KEEP_LOADED"
WEBHOOK_VARIABLE = "SAE_ASSETS_WEBHOOK_URL"
HOSTS_VARIABLE = "SAE_ASSETS_UI_HOSTS"
PIXELS_VARIABLE = "SAE_ASSETS_MOST_PIXELS"
DAGSTER_VARIABLE = "DAGSTER_HOME"

FORMATS = ("parquet", "pt")


@dataclass(frozen=True)
class Variable:
    """An environment variable sets this; the default holds where it is not set (``<home>`` is the home folder)."""

    description: str
    default: str = ""


VARIABLES = {
    HOME_VARIABLE: Variable("folder of history and files", "~/.sae_assets"),
    STORE_VARIABLE: Variable("root of the files, a path or an fsspec URL", "<home>/store"),
    CATALOG_VARIABLE: Variable("your catalog file, merged over the packaged one"),
    FORMAT_VARIABLE: Variable("`parquet` or `pt`: how new files are written", FORMATS[0]),
    DEVICE_VARIABLE: Variable("`auto`, `cpu`, `cuda` or `cuda:<number>`: where numerics run", "auto"),
    BUDGET_VARIABLE: Variable(
        "MiB for the largest block of intermediate values; `auto`: 256, on a GPU a sixteenth of its memory", "auto"
    ),
    KEPT_VARIABLE: Variable("transformers, and SAEs, that a process keeps open for its next chunk; 0: none", "2"),
    WEBHOOK_VARIABLE: Variable("address that failed runs are posted to, once the sensor is switched on"),
    HOSTS_VARIABLE: Variable(
        "names, separated by commas, by which browsers reach the UI through a proxy of yours", "this machine alone"
    ),
    PIXELS_VARIABLE: Variable(
        "pixels of the largest picture that is read, which takes 8 bytes each; larger ones are refused by name",
        "178956970",
    ),
    DAGSTER_VARIABLE: Variable("an existing Dagster instance to use", "<home>/dagster"),
}


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
            DAGSTER_VARIABLE: os.environ.get(DAGSTER_VARIABLE) or str(self.dagster_home),
        }
        if self.catalog:
            variables[CATALOG_VARIABLE] = str(self.catalog)
        return variables


def load_settings(home: Path | str | None = None, catalog: Path | str | None = None) -> Settings:
    """Arguments first, then the environment, then the defaults (``~/.sae_assets``).

    Raises:
        CatalogError: the home folder is a file.
    """
    source = "--home" if home else HOME_VARIABLE
    home = Path(home or _value(HOME_VARIABLE)).expanduser().absolute()
    if home.is_file():
        raise CatalogError(f"{source}: {home} is a file, expected a folder (it is made where there is none).")
    store = os.environ.get(STORE_VARIABLE) or str(home / "store")
    chosen = catalog or os.environ.get(CATALOG_VARIABLE)
    return Settings(home=home, store=store, catalog=Path(chosen).expanduser().absolute() if chosen else None)


def device_name(option: str | None = None) -> str:
    """Return where numerics run; whether this machine has it is not looked at.

    Raises:
        CatalogError: no name of a device.
    """
    source, name = _chosen("--device", option, DEVICE_VARIABLE)
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", name):
        raise CatalogError(f"{source}: found {name!r}, expected auto, cpu, cuda or cuda:<number>.")
    return name


def format_name(option: str | None = None) -> str:
    """Return the format that new artifacts are written in.

    Raises:
        CatalogError: an unknown one.
    """
    source, name = _chosen("--format", option, FORMAT_VARIABLE)
    if name not in FORMATS:
        raise CatalogError(f"{source}: found {name!r}, expected one of {', '.join(FORMATS)}.")
    return name


def memory_budget_mb() -> int | None:
    """MiB for the largest block of intermediate values; None: what suits the device.

    Raises:
        CatalogError: neither ``auto`` nor a whole number from 1.
    """
    text = _value(BUDGET_VARIABLE)
    if text == "auto":
        return None
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise CatalogError(f"{BUDGET_VARIABLE}: found {text!r}, expected auto or a whole number of MiB, at least 1.")
    return int(text)


def kept_loaded() -> int:
    """Return how many models, and how many SAEs, a process keeps for its next chunk; 0: none.

    Raises:
        CatalogError: not a whole number.
    """
    text = _value(KEPT_VARIABLE)
    if not re.fullmatch(r"[0-9]+", text):
        raise CatalogError(f"{KEPT_VARIABLE}: found {text!r}, expected a whole number (0 keeps nothing).")
    return int(text)


def most_pixels() -> int | None:
    """Pixels of the largest picture that is read; None: what the library of images takes.

    Raises:
        CatalogError: not a whole number from 1.
    """
    text = os.environ.get(PIXELS_VARIABLE) or ""
    if text and (not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1):
        raise CatalogError(f"{PIXELS_VARIABLE}: found {text!r}, expected a whole number of pixels, at least 1.")
    return int(text) if text else None


def ui_hosts() -> list[str]:
    """Names by which browsers may ask for the UI, beside those of this machine's loopback."""
    return [name.strip() for name in (os.environ.get(HOSTS_VARIABLE) or "").split(",") if name.strip()]


def _value(variable: str) -> str:
    """Return what a variable is set to; an empty one counts as not set."""
    return os.environ.get(variable) or VARIABLES[variable].default


def _chosen(flag: str, option: str | None, variable: str) -> tuple[str, str]:
    """Return where a value comes from, as messages name it, and the value."""
    return (flag, option) if option is not None else (variable, _value(variable))
