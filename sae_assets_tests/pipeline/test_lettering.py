"""Names of any script in pictures: fonts that are found draw them, code points stand for what no font has."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from sae_assets.pipeline import lettering
from sae_assets.pipeline.drawing import legend_below, markdown, name_rows, new_axes
from sae_assets.pipeline.lettering import Lettering, drawable, lettering_of

pytestmark = pytest.mark.slow  # pictures are drawn

CAT, DOG = "猫", "犬"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Files of fonts, at first none, which matplotlib finds on the machine."""
    fonts: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: fonts)
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    lettering._lettering.cache_clear()
    yield fonts
    lettering._lettering.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def font(path: Path, letters: str, *, outlines: bool = True, style: str = "Regular") -> str:
    """The file of a font with a square for each letter, or with nothing to see."""
    pen = TTGlyphPen(None)
    if outlines:
        pen.moveTo((0, 0))
        for corner in ((0, 700), (700, 700), (700, 0)):
            pen.lineTo(corner)
        pen.closePath()
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in letters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": style})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def picture(names: list[str]) -> str:
    """A picture with a row for each name; whatever matplotlib warns of, as of a letter without a font, is an error."""
    figure, axes = new_axes()
    axes[0, 0].scatter([0.5] * len(names), range(len(names)), label="F1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        name_rows(axes[0, 0], range(len(names)), names, ["unit 17"] * len(names), "F1")
        legend_below(figure, 1)
        return markdown(figure, "names", names)


def test_no_font_is_looked_for_where_matplotlibs_own_has_every_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise AssertionError("fonts were looked for")

    monkeypatch.setattr(font_manager, "findSystemFonts", refuse)
    names = ["joy", "Größe", "мир", "Ωmega", "שלום", "مرحبا"]
    assert lettering_of(names) == Lettering()
    assert [drawable(name) for name in names] == names
    assert picture(names).endswith(")")


def test_an_installed_font_draws_what_matplotlibs_own_lacks(tmp_path: Path, installed: list[str]) -> None:
    without = picture([CAT])
    installed += [font(tmp_path / "cats.ttf", CAT), font(tmp_path / "dogs.ttf", DOG + CAT)]
    lettering._lettering.cache_clear()
    letters = lettering_of(["joy", CAT + DOG])
    assert letters.families[-2:] == ("cats", "dogs") and not letters.missing
    assert drawable(f"{CAT}{DOG}s") == f"{CAT}{DOG}s"
    drawn = picture([CAT])
    assert drawn.endswith(")") and drawn != without


@pytest.mark.parametrize("useless", [{"outlines": False}, {"style": "Bold"}], ids=["no outlines", "bold"])
def test_a_font_that_would_draw_nothing_or_otherwise_is_left_out(
    tmp_path: Path, installed: list[str], useless: dict[str, Any]
) -> None:
    (tmp_path / "damaged.ttf").write_bytes(b"no font")
    installed += [str(tmp_path / "damaged.ttf"), font(tmp_path / "useless.ttf", CAT, **useless)]
    assert lettering_of([CAT]) == Lettering((), frozenset(CAT))


@pytest.mark.usefixtures("installed")
def test_code_points_stand_for_letters_that_no_font_has_and_the_picture_says_so_once() -> None:
    assert drawable(f"{CAT} (cat)") == r"\u732b (cat)"
    assert drawable(CAT * 9 + " " + DOG) == r"\u732b\u732b\u732b\u732b… …"
    for names in ([f"{CAT} cat", "joy"], [CAT, DOG]):
        shown, _, note = picture(names).partition("\n\n")
        assert shown.endswith(")") and note.count("No font of this machine draws") == 1
        assert CAT in note and ((DOG in note) is (DOG in names)) and "Install a font" in note
    assert lettering_of([chr(letter) for letter in range(0x4E00, 0x4E09)]).note.count("…") == 1


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["joy " * 60, CAT * 200, f"{CAT} " * 200], ids=["words", "one run", "many runs"])
def test_a_long_name_leaves_room_for_the_row(name: str) -> None:
    """matplotlib warns of axes that vanish, which is an error here."""
    picture([name, "joy"])
