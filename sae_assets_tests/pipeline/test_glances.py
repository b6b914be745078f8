"""Small pictures are short enough to be shown at once, say what artifacts say, and hold whatever names there are."""

import re
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest

from sae_assets.pipeline.glances import (
    MOST,
    ConceptFigure,
    glance_at_chosen_pairs,
    glance_at_thresholds,
    histogram,
    lines,
)
from sae_assets.pipeline.stages import STAGES
from sae_assets_tests.storage.small import SMALL

ODD = ["a & b <i> (x)", 'say "q" \\ `c` ]', "猫 ✓ عربى", "$x$ #1 50%", "z" * 90]


def drawn(markdown: str) -> ElementTree.Element:
    """The picture of an image in Markdown that Dagster's UI shows at once: its limit counts what JavaScript counts."""
    assert len(markdown.encode("utf-16-le")) / 2 <= MOST < 1000
    found = re.fullmatch(r"!\[[^]\[]+\]\(data:image/svg\+xml,([^\s()\\]+)\)", markdown)
    assert found, markdown
    return ElementTree.fromstring(unquote(found[1]))


def texts(markdown: str) -> list[str]:
    return [element.text or "" for element in drawn(markdown).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("stage", sorted(name for name, stage in STAGES.items() if stage.glance is not None))
def test_every_stage_is_seen_at_a_glance(stage: str) -> None:
    glance = STAGES[stage].glance
    assert glance is not None
    title, *_ = texts(glance(SMALL[stage]))
    assert title


def test_stages_that_have_a_large_picture_have_a_small_one() -> None:
    """And so have those that say how often something is: without one are lists, places, inputs and pages alone."""
    without = {name for name, stage in STAGES.items() if stage.glance is None}
    assert without == {"examples", "row_locations", "control_inputs", "report"}


def test_what_was_chosen_is_named_with_its_unit() -> None:
    """Concepts without a unit have no line; the title says what a threshold is a share of."""
    chosen = SMALL["chosen_pairs"]
    with_unit = [place for place, unit in enumerate(chosen.unit_ids.tolist()) if unit >= 0]
    title, *names = texts(glance_at_chosen_pairs(chosen))
    assert title.startswith("share of cal positives" if chosen.selection == "exact" else "share of values on")
    expected = [f"{chosen.tail_fractions[n]:.2f} #{chosen.unit_ids[n]} {chosen.concepts[n]}" for n in with_unit]
    assert names == expected and len(expected) > 0
    cutoffs = texts(glance_at_thresholds(SMALL["thresholds"]))[0]
    valid = (SMALL["thresholds"].n_positive[:-1] > 0).sum()
    assert cutoffs.startswith(f"{valid} cut-offs at tail")


def test_figures_stand_at_their_places() -> None:
    picture = lines(
        "F1",
        [
            ConceptFigure("one", 0.0, (0.0, 0.5), 1.0),
            ConceptFigure("no figure", float("nan")),
            ConceptFigure("two", 1.0),
        ],
        "chance",
    )
    assert texts(picture) == ["F1; | chance", "0.00 one", "1.00 two"]
    axis, interval, dots = [element.get("d", "") for element in drawn(picture).iter("{http://www.w3.org/2000/svg}path")]
    left, right = re.findall(r"M(\d+),\d+V", axis)
    assert interval == f"M{left},29H{(int(left) + int(right)) // 2}"
    assert dots == f"M{left},29h0M{right},46h0" and axis.endswith(f"M{right},23v12")


@pytest.mark.parametrize("count", [0, 1, 5, 400])
def test_of_many_concepts_there_are_those_that_there_is_room_for(count: int) -> None:
    rows = [ConceptFigure(ODD[number % len(ODD)], 0.5, (0.4, 0.6), 0.3) for number in range(count)]
    title, *names = texts(lines("F1", rows, "chance"))
    shown = len(names)
    assert title == f"F1; | chance{f', first {shown} of {count}' if shown < count else ''}"
    assert shown >= min(count, 3)
    for name, odd in zip(names, ODD, strict=False):
        assert name.removeprefix("0.50 ") in (odd, f"{odd[:21]}…")


@pytest.mark.parametrize("values", [[], [2.0], [2.0, 2.0], [0.001, 5.0, 7.0, 1e9]])
def test_histograms_have_all_values(values: list[float]) -> None:
    picture: Any = drawn(histogram("values; log scale", np.array(values, np.float32)))
    bars = [element.get("d", "") for element in picture.iter("{http://www.w3.org/2000/svg}path")]
    assert len(bars) == bool(values)
    if values:
        assert max(map(int, re.findall(r"v-(\d+)", bars[0]))) == 64 and bars[0].count("h") == 24
