"""Examples as pages show them: rows over the right pixels, truth around, tokens marked and texts kept as they are."""

import re

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from sae_assets.pages.charts import scatter
from sae_assets.pages.pictures import HUE, MOST, ON_PICTURES, TRUE, VEIL, VEILED, image_element, marked_tokens, overlaid

EDGES = {name: np.array(values, float) for name, values in
         {"left": [0, 50], "top": [0, 50], "right": [50, 100], "bottom": [50, 100]}.items()}  # fmt: skip


def test_patches_lie_on_their_pixels() -> None:
    """Half the size: the first patch, far above the threshold, is blue with a line around; what other patches reach is
    the picture, and what lies below them all, which the model does not see, is veiled."""
    image = Image.new("RGB", (100, 120), (200, 200, 200))
    shown = np.asarray(overlaid(image, 60, EDGES, np.array([9.0, 0.0], np.float32), 1.0))
    assert shown.shape == (60, 50, 3)
    most = ON_PICTURES * MOST
    inside = most * np.array(HUE) + (1 - most) * 200
    assert np.abs(shown[5:20, 5:20] - inside).max() < 1
    assert (shown[24, 3:20] == HUE).all() and (shown[25, 3:20] == 255).all()
    assert (shown[30:50, 30:] == 200).all()
    stripes = VEILED * np.array(VEIL) + (1 - VEILED) * 200
    assert sorted(np.unique(shown[50:])) == [round(grey) for grey in stripes]


def test_below_the_threshold_there_is_no_line() -> None:
    image = Image.new("RGB", (100, 100), (200, 200, 200))
    shown = np.asarray(overlaid(image, 100, EDGES, np.array([0.5, 0.0], np.float32), 1.0))
    assert len(np.unique(shown[:50, :50].reshape(-1, 3), axis=0)) == 1 and (shown[50:, 50:] == 200).all()


def test_truth_is_drawn_around() -> None:
    image, truth = Image.new("RGB", (100, 100), (200, 200, 200)), np.zeros((100, 100), bool)
    truth[20:80, 30:70] = True
    shown = np.asarray(overlaid(image, 100, truth=truth))
    orange = (shown == TRUE).all(-1)
    assert orange[20, 40] and orange[79, 40] and orange[40, 30] and orange[40, 69]
    assert (shown[30:70, 40:60] == 200).all() and (shown[:18] == 200).all()
    assert (shown[19, 40] < 100).all()  # the dark casing, so that it is seen on any picture


def test_texts_of_pictures_are_escaped() -> None:
    html = image_element(Image.new("RGB", (4, 3)), '"><script>')
    assert html.startswith(
        '<img loading="lazy" width="4" height="3" alt="&#34;&gt;&lt;script&gt;" src="data:image/webp;'
    )


def plain(html: Markup) -> str:
    return Markup(re.sub(r"<[^>]*>", "", html)).unescape()


def test_tokens_are_marked_and_the_text_stays() -> None:
    text = "a <b> שלום 🎈!"
    balloon = text.index("🎈")
    spans = [
        (0, 0),
        (0, 1),
        (2, 5),
        (6, 10),
        (balloon, balloon + 1),
        (balloon, balloon + 1),
        (balloon + 1, balloon + 2),
    ]
    values, truth = np.array([0, 2, 0.5, 0, 3, 3, 0.0]), np.array([0, 0, 1, 1, 0, 0, 0], bool)
    html = marked_tokens(text, spans, values, 1.0, truth)
    assert plain(html).replace("⟨⟩", "") == text and "<b>" not in html
    assert '<span class="says true" style="--a:0.17" title="0.5">&lt;b&gt;</span>' in html
    assert '<span class="true" style="--a:0.00" title="0">שלום</span>' in html
    assert html.count('class="says"') == 3  # the second token of a character stands for nothing of the text


def test_only_tokens_around_the_largest_are_shown() -> None:
    text = " ".join(f"w{number}" for number in range(60))
    spans = [(match.start(), match.end()) for match in re.finditer(r"w\d+", text)]
    values = np.zeros(60)
    values[30] = 5
    html = marked_tokens(text, spans, values, 1.0, around=2)
    assert plain(html) == "…w28 w29 w30 w31 w32…"
    assert plain(marked_tokens(text, spans, values, 1.0, around=1, peak=3)) == "…w2 w3 w4…"
    assert "w0 " in plain(marked_tokens(text, spans, values, 1.0, around=None))


@pytest.mark.parametrize(
    ("text", "direction"),
    [("She says שלום to all", "ltr"), ("שלום to all of them", "rtl"), ("«مرحبا» hello", "rtl"), ("1 2 3 4", "auto")],
)
def test_a_part_has_the_direction_of_the_whole(text: str, direction: str) -> None:
    """Though the part that is shown may begin with words of the other one."""
    words = [match.span() for match in re.finditer(r"\S+", text)]
    values = np.zeros(len(words), np.float32)
    for peak in range(len(words)):
        shown = marked_tokens(text, words, values, 1.0, around=0, peak=peak)
        assert shown.startswith(f'<bdi class="text" dir="{direction}">')


def test_space_is_seen_where_it_is_the_token() -> None:
    html = marked_tokens("a b\n", [(0, 1), (1, 2), (2, 3), (3, 4)], np.array([0, 1, 0, 1.0]), 1.0)
    # DejaVu, which browsers fall back on, has this character and not U+2420.
    assert "␣" in html and "⏎" in html and plain(html) == "a␣b⏎\n"


def test_names_of_points_lie_beside_each_other() -> None:
    """Many points in one place: names that there is room for, none over another one; every point stays."""
    named = [(0.01 * 1.01**n, 3.0, f"{1000 + n}", f"#unit-{n}") for n in range(60)]
    picture = str(scatter({"kept": [(0.0001, 0.1), (1.0, 50.0)]}, named, [], across="density", up="p99"))
    places = [(float(x), float(y)) for x, y in re.findall(r'<a href="[^"]*"><text x="([\d.]+)" y="([\d.]+)"', picture)]
    assert picture.count("<circle") == 60 > len(places) > 5
    for number, (x, y) in enumerate(places):
        assert all(abs(x - other) > 30 or abs(y - below) >= 13 for other, below in places[:number])
