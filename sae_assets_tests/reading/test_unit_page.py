"""All about one unit, in the terminal, as JSON and as a page: the figures are those of the tables."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import sae_assets
from sae_assets.reading.activations import Activations, SparseChunk
from sae_assets.reading.page import figure, headline, unit_page
from sae_assets.reading.run import Run
from sae_assets.reading.summary import unit_summary
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.reading.test_reading import dense

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    return made_home(tmp_path_factory.mktemp("units"))


@pytest.fixture(scope="module")
def run(made: Places) -> Run:
    return sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]


@pytest.fixture(scope="module")
def busy(made: Places) -> int:
    """The unit that fires most often."""
    return int((dense(made) > 0).sum(0).argmax())


def test_co_active_units_share_most_rows(made: Places, run: Run, busy: int) -> None:
    fires = dense(made) > 0
    both = (fires & fires[:, busy : busy + 1]).sum(0)
    share = both / (fires.sum(0) + fires[:, busy].sum() - both).clamp(min=1)
    share[busy] = -1
    expected = sorted(range(fires.shape[1]), key=lambda unit: (-float(share[unit]), unit))[:5]
    found = run.unit(busy).co_active(5)
    assert [one.unit_id for one in found] == expected
    assert [one.n_rows for one in found] == [int(both[unit]) for unit in expected]
    assert [one.jaccard for one in found] == pytest.approx([float(share[unit]) for unit in expected])


def test_the_histogram_counts_every_value(made: Places, run: Run, busy: int) -> None:
    counts, edges = run.unit(busy).histogram(8)
    values = dense(made)[:, busy]
    expected = torch.histogram(values[values > 0], 8, range=(0, float(values.max()))).hist
    assert counts.tolist() == expected.tolist() and edges[0] == 0 and edges[-1] == pytest.approx(float(values.max()))


def test_the_peak_is_where_the_largest_value_stands(run: Run, busy: int) -> None:
    for one in unit_summary(run.unit(busy), 3)["examples"]:
        heat_map = run.unit(busy).heat_map(one["example_id"])
        x = int((one["peak"]["left"] + one["peak"]["right"]) / 2)
        y = int((one["peak"]["top"] + one["peak"]["bottom"]) / 2)
        assert heat_map.to_numpy()[y, x] == one["value"]


class Figures(HTMLParser):
    """Cells of statistics, what is loaded from where, and how many pictures there are."""

    def __init__(self) -> None:
        super().__init__()
        self.stats: dict[str, str] = {}
        self.pictures, self.elsewhere, self.open = 0, [], ""

    def handle_starttag(self, tag: str, attributes: list) -> None:
        given = dict(attributes)
        self.open = given.get("data-stat", "")
        self.pictures += tag == "img" and bool(given["alt"])
        source = given.get("src") or given.get("href") or ""
        self.elsewhere += [source] if source and not source.startswith("data:image/webp") else []

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.stats[self.open] = data.strip()


def test_the_page_says_what_the_tables_say(run: Run, busy: int) -> None:
    """Figures as in the summary, pictures with a text beside them, and nothing loaded from elsewhere."""
    page, summary = unit_page(run.unit(busy), 3), unit_summary(run.unit(busy), 3)
    read = Figures()
    read.feed(page)
    assert read.stats == {name: figure(value) for name, value in {**summary["stats"], "rows": summary["rows"]}.items()}
    assert read.pictures == 3 and read.elsewhere == [] and "http" not in re.sub(r"base64,[\w+/=]+", "", page)
    assert headline(summary).split("(")[0] in page


@pytest.mark.parametrize("by_unit", [True, False])
def test_activations_are_gone_through_twice_for_a_page(
    made: Places, busy: int, monkeypatch: pytest.MonkeyPatch, by_unit: bool
) -> None:
    """Once for the unit's rows and once for its neighbours, however many examples are shown; by unit only for them."""
    run = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    if not by_unit:
        run.__dict__["by_unit"] = None
    asked: list[str] = []
    whole = Activations.__iter__

    def counted(self: Activations) -> Iterator[SparseChunk]:
        asked.append("again")
        return whole(self)

    monkeypatch.setattr(Activations, "__iter__", counted)
    unit_page(run.unit(busy), 6)
    assert len(asked) == 2 - by_unit


def test_a_page_without_the_pictures(run: Run, busy: int, made: Places, tmp_path: Path) -> None:
    """Where the data set is not on this machine, figures are shown, and why pictures are not."""
    other = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    other.entry = other.entry.model_copy(update={"root": tmp_path / "gone"})
    page = unit_page(other.unit(busy), 2)
    assert page.count("It cannot be shown") == 2 and "<img" not in page


def test_names_are_text_and_no_markup(run: Run, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "<script>alert(1)</script>"
    pair = {"concept": bad, "test_f1": 0.5, "test_f1_low": 0.25, "test_f1_high": 0.75, "test_auroc": None}
    rest = {"test_p": None, "test_q": None, "threshold": 1.0}
    monkeypatch.setattr("sae_assets.reading.unit.Unit.pairs", lambda self: [pair | rest])
    page = unit_page(run.unit(busy), 1)
    assert bad not in page and "&lt;script&gt;" in page


def test_a_unit_that_never_fires(made: Places, run: Run) -> None:
    silent = int((dense(made) > 0).sum(0).argmin())
    summary = unit_summary(run.unit(silent))
    assert summary["rows"] == 0 and summary["examples"] == summary["co_active"] == []
    assert "It fires on no row." in unit_page(run.unit(silent))


def test_the_command(made: Places, busy: int, tmp_path: Path) -> None:
    page = tmp_path / "unit.html"
    result = invoke(made, "unit", "small", "clip-mini", str(busy), "--html", str(page))
    assert result.exit_code == 0 and f"unit {busy}" in result.output and "largest values" in result.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    shown = json.loads(invoke(made, "unit", "small", "clip-mini", str(busy), "--top", "2", "--json").stdout)
    assert shown["unit"] == busy and len(shown["examples"]) == 2
    wrong = invoke(made, "unit", "small", "clip-mini", "99999")
    assert wrong.exit_code == 2 and "units 0 to 1023" in wrong.stderr
    wrong = invoke(made, "unit", "small", "clip-min", "1")
    assert wrong.exit_code == 2 and "clip-mini" in wrong.stderr


def test_figures_are_shown_alike() -> None:
    assert [figure(value) for value in (None, 1234, 0.5, 12.345, -0.25)] == ["–", "1,234", "0.500", "12.3", "-0.250"]
