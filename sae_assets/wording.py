"""Words on a screen: counts and intervals as people write them, and texts of others that steer no terminal.

A name in a table can move the cursor, change a window's title, or show a line's end before its beginning.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

# Controls but for tab and line feed, line and paragraph separators, marks, embeddings, overrides and isolates of
# direction, and halves of characters, which no encoding has.
STEERS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
STEERING = re.compile(f"[{STEERS}]")
# These as well as what has no width and changes nothing beside it, as joiners do in emoji and Persian.
HIDDEN = re.compile(rf"[{STEERS}\u200b\u2060-\u2064\u206a-\u206f\ufeff]")


def visible(text: str) -> str:
    """The text with such characters, and others that nobody sees, written as Python writes them (``\\x1b``)."""
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def is_plain(name: str) -> bool:
    """Return whether a name has none that steers, and is one line."""
    return STEERING.search(name) is None and "\n" not in name and "\t" not in name


def without_places(error: BaseException, folder: Path) -> str:
    """The first line of an error as a page may say it that others see: its paths begin at this folder, or at a home."""
    first, home = str(error).split("\n", 1)[0], Path.home()
    shown = first.replace(os.path.join(folder, ""), "").replace(str(folder), folder.name)
    return shown if home == home.parent else shown.replace(str(home), "~")


def shortened(text: str, most: int = 200) -> str:
    """The text, of which others decide how long it is, as far as a message has room for it."""
    return text if len(text) <= most else f"{text[:most]}…"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2,048 rows``; ``plural`` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


# Letters of other scripts that look like Latin ones: Cyrillic, then Greek.
LATIN = str.maketrans("авеікмнорстухѕјԁԛһ" + "αβεικνορτυχ", "abeikmhopctyxsjdqh" + "abeikvoptux")


def looks(name: str) -> str:
    """One spelling of all names that nobody tells apart at a glance: no case, no invisible characters, nothing around
    it, one blank for any white space, and Latin letters for those that look like them."""
    composed = unicodedata.normalize("NFKC", name).casefold()
    seen = "".join(sign for sign in composed if unicodedata.category(sign) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", seen.translate(LATIN)).split())


def alike(names: Iterable[str]) -> list[str]:
    """Those of different names that look like an earlier one, each with it, in words that show the difference."""
    first: dict[str, str] = {}
    return [
        f"{spelt(before)} and {spelt(name)}"
        for name in names
        if (before := first.setdefault(looks(name), name)) != name
    ]


def spelt(name: str) -> str:
    """The name quoted, with its code points where some of them are not ASCII and printable."""
    return repr(name) if name.isascii() and name.isprintable() else f"{name!r} ({name!a})"


def digits_apart(low: float, high: float, digits: int = 2, most: int = 6) -> int:
    """Digits after the point, at least so many, by which the ends of an interval differ: none is shown as a point."""
    while digits < most and low != high and f"{low:.{digits}f}" == f"{high:.{digits}f}":
        digits += 1
    return digits


def interval(low: float | None, high: float | None, digits: int = 2) -> str | None:
    """``0.84–0.98``, with ``to`` between ends of which one is below 0; None where it does not exist."""
    if low is None or high is None:
        return None
    digits = digits_apart(low, high, digits)
    return f"{low:.{digits}f}{' to ' if low < 0 else '–'}{high:.{digits}f}"
