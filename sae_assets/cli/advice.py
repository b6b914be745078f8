"""Commands that messages name, as they work here: with the home and the catalog of the command that names them.

A message is written where the problem is found, which may be a stage that knows of neither. What a person copies from
the terminal has to do what it says there.
"""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

from sae_assets.errors import CatalogError
from sae_assets.settings import load_settings

HOME, CATALOG = "home", "catalog"
COMMAND = re.compile(r"\bsae-assets (?P<name>[a-z]+(?:-[a-z]+)*)(?![\w./-])")
WITHOUT_PLACE = ("detect",)
WITHOUT_CATALOG = ("demo",)

_given: dict[str, Path | None] = {}


def forget_places() -> None:
    """A command begins that was told nothing yet."""
    _given.clear()


def told(name: str) -> Callable[[Path | None], Path | None]:
    """Return what takes an option of this name, and keeps it for :func:`advice`."""

    def keep(value: Path | None) -> Path | None:
        _given[name] = value
        return value

    return keep


def advice(text: str) -> str:
    """The same text, each command in it with ``--home`` and ``--catalog`` unless they are the defaults.

    A command that takes no catalog itself, such as ``demo``, names none.
    """
    if HOME not in _given:
        return text
    try:
        settings, usual = load_settings(_given[HOME], _given.get(CATALOG)), load_settings("~/.sae_assets")
    except CatalogError:  # a home that is a file: that is the message
        return text
    home = "" if settings.home == usual.home else f" --home {shlex.quote(str(settings.home))}"
    named = CATALOG in _given and settings.catalog is not None
    catalog = f" --catalog {shlex.quote(str(settings.catalog))}" if named else ""

    def here(match: re.Match[str]) -> str:
        name = match["name"]
        places = "" if name in WITHOUT_PLACE else home + ("" if name in WITHOUT_CATALOG else catalog)
        return match[0] + places

    return COMMAND.sub(here, text)
