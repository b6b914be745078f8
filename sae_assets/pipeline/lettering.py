"""Names in a picture are drawn in matplotlib's own font, and in installed ones for letters that it lacks.

matplotlib brings one font, of Latin, Greek, Cyrillic, Hebrew and Arabic letters. Others come out as boxes unless a font
that has them is named; none is shipped, for one of Chinese letters alone has megabytes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

REGULAR = ("Regular", "Book", "Normal", "Roman", "Medium")
MOST = 4  # letters that are written by their code points, so that a name stays short
NOTE = (
    "No font of this machine draws {letters}: code points stand for what is missing. "
    "Install a font that has them (one of Noto's, for example) and materialize the asset again."
)


@dataclass(frozen=True)
class Lettering:
    """Font families in the order in which they are tried, none where matplotlib's own font has every letter; and the
    letters that no installed font draws."""

    families: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()

    @property
    def note(self) -> str:
        """Return what to say below a picture of whose names some letters are not drawn; empty where all are."""
        shown = " ".join(sorted(self.missing)[:MOST])
        return NOTE.format(letters=f"{shown} …" if len(self.missing) > MOST else shown) if self.missing else ""


def lettering_of(names: Iterable[str]) -> Lettering:
    """Return fonts of this machine for these names."""
    return _lettering(frozenset(letter for name in names for letter in name if not letter.isascii()))


def drawable(name: str) -> str:
    """Return the name with code points (``\\u732b``) for the first letters that no font draws, and dots for others."""
    missing = lettering_of([name]).missing
    if not missing:
        return name
    stretches = re.compile(f"[{re.escape(''.join(missing))}]+")
    return stretches.sub("…", stretches.sub(_code_points, name, count=1))


def _code_points(letters: re.Match[str]) -> str:
    shown = letters[0][:MOST].encode("unicode_escape").decode()
    return shown if len(letters[0]) <= MOST else f"{shown}…"


@cache
def _lettering(letters: frozenset[str]) -> Lettering:
    if not letters:
        return Lettering()
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager
    from matplotlib.ft2font import FT2Font

    own = tuple(matplotlib.rcParams["font.family"])
    missing, added = set(letters), []
    for family in own:
        glyphs = FT2Font(findfont(FontProperties(family=[family]))).get_charmap()
        missing = {letter for letter in missing if ord(letter) not in glyphs}
    for path in sorted(findSystemFonts()) if missing else ():
        try:
            font = FT2Font(path)
            drawn = _drawn(font, missing) if font.style_name in REGULAR else frozenset()
            if drawn and all(entry.fname != path for entry in fontManager.ttflist):
                fontManager.addfont(path)  # installed since matplotlib listed them
        except Exception:  # of one font; matplotlib too passes over whatever it cannot list
            continue
        if drawn:
            added.append(font.family_name)
            missing -= drawn
    return Lettering((*own, *added) if added else (), frozenset(missing))


def _drawn(font: "FT2Font", letters: Iterable[str]) -> frozenset[str]:
    """Return those of the letters for which the font has outlines, which pixels and coloured emoji are not."""
    glyphs = font.get_charmap() if font.scalable else {}
    return frozenset(letter for letter in letters if ord(letter) in glyphs and _has_outline(font, letter))


def _has_outline(font: "FT2Font", letter: str) -> bool:
    font.load_char(ord(letter))
    return len(font.get_path()[0]) > 0
