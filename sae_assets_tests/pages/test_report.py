"""Reports: every figure of a page is the cell of a table that it says it is, and a page needs nothing else."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import sae_assets
from sae_assets.pages.charts import Evidence, glyph
from sae_assets.pages.evidence import control_bars, of_rows
from sae_assets.pages.figures import KEYS, StageTable, Tables, element, figure
from sae_assets.pages.rendering import MORE, NO_MORE, with_more
from sae_assets.pages.report import Concept, Content, _Page, report_page
from sae_assets.pipeline.report_examples import MOST_BYTES, Wanted, _Drawing, room_for_pictures
from sae_assets.reading.files import columns_of
from sae_assets.reading.page import headline, unit_page
from sae_assets.reading.summary import unit_summary
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.small import WITH_CONTROLS, with_packaged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("report")]
WHERE = ("small", "clip-mini", "patch")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    """Controls too, and one example is enough to choose a unit by."""
    return made_home(tmp_path_factory.mktemp("report"), **WITH_CONTROLS, detection={"min_support": 1})


@pytest.fixture(scope="module")
def page(made: Places) -> str:
    file = made["home"] / "store" / "small" / "patch" / "clip-mini" / "report" / "all.html"
    return file.read_text(encoding="utf-8")


class Figures(HTMLParser):
    """Every element with a value and where it is from, its text, and what is loaded from where."""

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[tuple[dict[str, str], str | None]] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elsewhere: list[str] = []
        self.pictures, self._open = 0, False

    def handle_starttag(self, tag: str, attributes: list[Any]) -> None:
        given = dict(attributes)
        self._open = tag == "data"
        if any(name.startswith("data-") and name != "data-label" for name in given):
            self.figures.append((given, None))
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.pictures += 1
            assert given["alt"] and given["src"].startswith("data:image/webp;base64,")
        elif tag in ("script", "link", "iframe", "object"):
            self.elsewhere.append(tag)

    def handle_data(self, data: str) -> None:
        if self._open:
            self.figures[-1] = (self.figures[-1][0], data)
            self._open = False


@pytest.fixture(scope="module")
def read(page: str) -> Figures:
    parser = Figures()
    parser.feed(page)
    return parser


def cell(home: Path, given: dict[str, str], run: str = "small/patch/clip-mini") -> Any:
    """What the store has at the place that a figure names, read without this package's readers of tables."""
    folder = home / "store" / run / given["data-table"]
    if "data-scalar" in given:
        dataset, kind, model = run.split("/")
        address = Address(dataset, given["data-table"], kind, model)
        value: Any = ArtifactStore(str(home / "store")).header(address).scalars
        for part in given["data-scalar"].split("."):
            value = value[int(part) if isinstance(value, list) else part]
        return value
    lines = pl.read_parquet(folder / "all.parquet")
    for name in KEYS[given["data-table"]]:
        value = given.get(f"data-{name}")
        is_number = lines[name].dtype.is_integer()
        column = pl.col(name)
        lines = lines.filter(column.is_null() if value is None else column == (int(value) if is_number else value))
    assert len(lines) == 1, given
    return sum(lines[name][0] for name in given["data-column"].split("+"))


@pytest.mark.long
def test_every_figure_is_the_cell_it_names(made: Places, read: Figures) -> None:
    of_tables = [(given, text) for given, text in read.figures if "data-table" in given]
    stages = {given["data-table"] for given, _ in of_tables}
    assert stages >= {"best_pairs", "row_alignment", "controls", "localization", "pruning_audit", "unit_stats"}
    assert len(of_tables) > 300
    for given, text in of_tables:
        expected = cell(made["home"], given)
        assert float(given["value"]) == expected, given
        if text is not None:
            shown = {figure(expected, digits, signed) for digits in (2, 3, 4) for signed in (False, True)}
            assert text in shown, given


@pytest.mark.long
def test_a_wrong_figure_would_be_seen(made: Places, page: str) -> None:
    """The comparison above can fail: one digit of one value is changed."""
    start = page.index('data-table="best_pairs" data-column="test_f1"')
    head = page.rindex('value="', 0, start) + len('value="')
    wrong = Figures()
    wrong.feed(page[:head] + "9" + page[head:])
    differing = [
        given
        for given, _ in wrong.figures
        if "data-table" in given and float(given["value"]) != cell(made["home"], given)
    ]
    assert len(differing) == 1


def test_what_the_page_counts_itself(made: Places, read: Figures) -> None:
    run = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    counted = {given["data-count"]: float(given["value"]) for given, _ in read.figures if "data-count" in given}
    best = run.best_pairs().to_polars()
    both = run.table("controls").to_polars()
    controls = both.filter(pl.col("level") == "examples")
    random = (
        controls.filter(pl.col("detector") == "random_sae")
        .group_by("concept")
        .agg(pl.col("test_f1").fill_null(0).mean())
    )
    means = dict(random.iter_rows())
    clear = 0
    for line in best.to_dicts():
        bars = [line["test_always_positive_f1"], line["test_null_f1_p95"], means[line["concept"]]]
        clear += line["test_f1_low"] is not None and line["test_f1_low"] > max(bars)
    assert counted["clear"] == clear and counted["concepts"] == len(best)
    dense = both.filter(pl.col("detector").is_in(["diffmean", "diffmean_max", "logistic", "embedding_dims"]))
    for level in ("examples", "rows"):
        better = dense.filter((pl.col("level") == level) & (pl.col("difference_high") < 0))["concept"].n_unique()
        assert counted[f"better_without_on_{level}"] == better, level
    drawn = {(given["data-level"], given["data-detector"]) for given, _ in read.figures
             if given.get("data-table") == "controls" and given["data-column"] == "test_f1"}  # fmt: skip
    compared = both.filter((pl.col("detector") != "random_sae") & pl.col("test_f1").is_not_null())
    assert drawn == set(compared.select("level", "detector").iter_rows())
    rows = sum(len(chunk.example) for chunk in run.activations())
    assert counted["n_rows"] == rows == 12 * 256 and counted["n_units"] == 1024
    files = (made["home"] / "store" / "small" / "patch" / "clip-mini" / "sparse_activations").glob("*.parquet")
    assert counted["stored_mb"] == sum(file.stat().st_size for file in files) / 1e6
    assert counted["dense_mb"] == rows * 1024 * 4 / 1e6
    silent = run.unit_stats().to_polars()["p99"].null_count()
    folder = made["home"] / "store" / "small" / "patch" / "clip-mini" / "row_alignment"
    address = Address("small", "row_alignment", "patch", "clip-mini")
    positives = ArtifactStore(str(made["home"] / "store")).header(address).scalars["n_positive"]
    judged = [name for name, *counts in zip(run.entry.concepts, *positives, strict=True) if all(counts)]
    rows_of = pl.read_parquet(folder / "all.parquet").filter(pl.col("concept").is_in(judged))
    rows_of = rows_of.sort("cal_ap", descending=True).unique("concept", keep="first")
    assert counted["rows_concepts"] == len(judged) < len(best)  # all of them are located, one is in a split alone
    mean = rows_of["test_ap"].fill_null(0).sum() / len(judged)
    assert counted["mean_best_ap"] == pytest.approx(mean, abs=1e-12)
    for least in (0.3, 0.5, 0.7):
        share = (rows_of["test_ap"].fill_null(0) >= least).sum() / len(judged)
        assert counted[f"coverage@{least:g}"] == share
    assert counted["silent"] == silent and counted["silent_share"] == silent / 1024


def test_what_pruning_costs_is_what_its_audit_says(made: Places, page: str) -> None:
    """Kept, or removed and at what cost."""
    audit = pl.read_parquet(made["home"] / "store" / "small" / "patch" / "clip-mini" / "pruning_audit" / "all.parquet")
    said = re.findall(r'<td data-label="best unit of all">(.*?)</td>', page)
    lines = {line["concept"]: line for line in audit.to_dicts()}
    cells = re.findall(r'<td data-label="concept"><a href="#concept-\d+">(.*?)</a></td>', page)
    names = [re.sub(r"<wbr>|\u200b", "", name) for name in cells]
    assert sorted(names) == sorted(lines)
    for name, cost in zip(names, said, strict=True):
        if lines[name]["removed_by"] is None:
            assert cost == "kept"
        else:
            assert ("cal F1 −" in cost) == (lines[name]["cal_loss"] > 0)
    assert len(set(said)) > 1


def test_what_has_no_best_unit_keeps_none() -> None:
    """Of a concept of which cal lacks a class."""
    nothing = SimpleNamespace(t=SimpleNamespace(value=lambda *_: None))
    assert _Page.cost_of_pruning(nothing, SimpleNamespace(name="sky")) == "–"  # type: ignore[arg-type]


def content_of(made: Places, located: bool, **changed: Any) -> Content:
    """A report's content from stored tables, without pictures; best pairs with changed scalars."""
    project = sae_assets.open(made["home"], made["catalog"])
    run, tables = project["small"]["clip-mini"]["patch"], {}
    for stage in KEYS:
        header, table = columns_of(run.store, run.address(stage))
        scalars = {**header.scalars, **(changed if stage == "best_pairs" else {})}
        tables[stage] = StageTable(stage, table, scalars)
    units = {line["concept"]: line["unit_id"] for line in tables["best_pairs"].lines}
    pictures: dict[str, list[Any]] = {kind: [] for kind in ("top", "hits", "false_positives", "misses", "regular")}
    concepts = [Concept(name, number, units[name], located, pictures) for number, name in enumerate(run.entry.concepts)]
    return Content(
        dataset="small",
        token_kind="patch",
        model="clip-mini",
        modality="image",
        about={},
        tables=Tables(tables),
        concepts=concepts,
        n_examples={"cal": 1, "test": 1},
        sizes=dict.fromkeys(("n_rows", "n_units", "n_chunks", "dense_bytes", "stored_bytes"), 1),
        rows={"concepts": 0},
        fit={"fvu": None, "mean_l0": 1.0, "stated_l0": None, "chunks": []},
        units=[{**line, "reason": "kept"} for line in tables["unit_stats"].lines],
        provenance=[],
        settings={"selection": "exact"},
        commands=["sae-assets verify"] * 3,
    )


def test_a_report_says_which_figures_there_are_not(made: Places) -> None:
    """Where no concept has both classes nothing is weighted; where nothing is located no column is of rows."""
    usual = report_page(content_of(made, located=True))
    assert "Weighted by test positives" in usual and 'data-label="F1, patches"' in usual
    nothing = report_page(content_of(made, located=False, weighted_test_f1=math.nan, weighted_interval=[math.nan] * 2))
    assert "so no F1 is weighted over concepts" in nothing and 'patches"' not in nothing.partition("</table>")[0]
    assert not re.search(r"\bnan\b", nothing)
    assert "nan" not in element(math.nan) and figure(math.nan) == "–"


def test_controls_are_drawn_where_there_is_something_to_compare(made: Places) -> None:
    """On examples a split may lack a class of a concept; a page says so in place of empty bars."""
    content = content_of(made, located=True)
    name = next(line["concept"] for line in content.tables["best_pairs"].lines if line["test_f1"] is not None)
    bare = report_page(content).count("Nothing is compared on examples")
    assert control_bars(content.tables, name) and bare < len(content.concepts)
    lines = content.tables["controls"].lines
    for line in lines:
        line["test_f1"] = None if line["concept"] == name else line["test_f1"]
    assert not control_bars(content.tables, name)
    assert report_page(content).count("Nothing is compared on examples") == bare + 1


def test_an_interval_that_rests_on_few_is_marked_where_there_is_one() -> None:
    few = {"concept": "sky", "test_tp": 2, "test_fn": 0, "test_fp": 1, "test_tn": 50, "f1_low": 0.5, "f1_high": 0.7}
    table = pa.Table.from_pylist([few, {**few, "concept": "sea", "f1_low": None, "f1_high": None}])
    tables = Tables({"best_pairs": StageTable("best_pairs", table, {})})
    marked = {name: "?" in tables.interval("best_pairs", "f1", name, few=name) for name in ("sky", "sea")}
    assert marked == {"sky": True, "sea": False} and "?" not in tables.interval("best_pairs", "f1", "sky")


@pytest.mark.parametrize(("loss", "said"), [(0.0, "one as good is kept"), (0.0128, "cal F1 −0.013")])
def test_what_pruning_costs_is_a_figure_and_no_markup_that_is_read(loss: float, said: str) -> None:
    line = {"concept": "sky", "unit_id": 3, "removed_by": "too_dense", "cal_loss": loss}
    table = StageTable("pruning_audit", pa.Table.from_pylist([line]), {})
    page = SimpleNamespace(t=Tables({"pruning_audit": table}))
    cost = _Page.cost_of_pruning(page, SimpleNamespace(name="sky"))  # type: ignore[arg-type]
    assert "&lt;" not in cost and ("<data " in cost) == (loss > 0)
    assert re.sub("<.*?>", "", cost) == f"removed (too dense){said}"


@pytest.mark.parametrize("says_where", [True, False])
def test_a_text_that_inherits_its_label_is_not_marked_as_the_concepts_place(says_where: bool) -> None:
    """Where nothing says where a concept is, every row of a positive text counts, and none is marked."""
    drawing = _Drawing.__new__(_Drawing)
    drawing._by_rows = True
    reader = SimpleNamespace(text=lambda _: "so glad", true_concepts=lambda _: {"joy"}, has_regions=says_where)
    seen = SimpleNamespace(
        name="a", spans=[(0, 2), (2, 7)], values=lambda _: np.array([0.0, 2.0]), true_rows=lambda _: np.ones(2, bool)
    )
    (shown,) = drawing._texts(reader, seen, "joy", Wanted(0, "found", 0, 2.0), 3, 1.0, None)  # type: ignore[arg-type]
    assert ("true" in re.split(r'[" ]', shown)) == says_where and "says" in shown


def test_pictures_leave_room_for_what_is_said_of_many_concepts() -> None:
    """With 80 concepts a page had 10.4 MB (``bench_report.py``): 8 of pictures, and 30 kB per concept."""
    assert room_for_pictures(6) == MOST_BYTES and room_for_pictures(1000) == 0
    assert room_for_pictures(80) + 80 * 30_000 < 10_000_000
    assert room_for_pictures(300) + 300 * 30_000 < 10_000_000


def test_a_page_needs_nothing_else(page: str, read: Figures) -> None:
    """No script, no file, no address; every link leads to a place in the page, and no place is there twice."""
    assert read.elsewhere == [] and len(set(read.ids)) == len(read.ids)
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    assert not re.search(r"https?:|url\(|@import", re.sub(r"base64,[\w+/=]+", "", page))
    assert read.pictures > 6 * 3 and len(page) < 10_000_000
    assert page.startswith("<!doctype html>\n<!-- sae_assets: {") and str(Path.cwd()) not in page


def test_counts_of_examples_are_those_of_the_pairs(made: Places, page: str) -> None:
    """As many pictures of misses as there are, four at most."""
    best = pl.read_parquet(made["home"] / "store" / "small" / "patch" / "clip-mini" / "best_pairs" / "all.parquet")
    sections = re.split(r"<summary>", page)[1:]
    for section in sections:
        name = re.search(r"<b>(.*?)</b>", section)
        assert name is not None
        line = best.row(by_predicate=pl.col("concept") == name[1], named=True)
        if line["unit_id"] is None:
            continue
        parts = re.split(r"<h3>(Found, and right|Found, and wrong|Missed|F1 on)", section)
        for heading, column in (("Found, and right", "tp"), ("Found, and wrong", "fp"), ("Missed", "fn")):
            assert parts[parts.index(heading) + 1].count("<img") == min(4, line[f"test_{column}"]), (name[1], heading)


def test_a_chosen_unit_has_its_evidence_and_its_controls(made: Places) -> None:
    """Figures of examples and of rows, their intervals, p and q, and a bar for each detector."""
    chosen = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    line = next(line for line in chosen.best_pairs().to_polars().to_dicts() if line["unit_id"] is not None)
    page = unit_page(chosen.unit(line["unit_id"]), 2)
    read = Figures()
    read.feed(page)
    best = {given["data-column"]: float(given["value"]) for given, _ in read.figures
            if given.get("data-table") == "best_pairs" and given["data-concept"] == line["concept"]}  # fmt: skip
    assert {name: line[name] for name in best} == best
    assert {"test_f1", "test_p", "test_f1_low", "test_auroc_low", "test_auroc_high"} <= set(best)
    detectors = [given["data-detector"] for given, _ in read.figures if given.get("data-table") == "controls"]
    assert detectors[0] == "unit" and {"logistic", "diffmean_max"} <= set(detectors)
    columns = {given["data-column"] for given, _ in read.figures if given.get("data-table") == "controls"}
    assert {"test_auroc", "test_auroc_low", "test_auroc_high"} <= columns
    summary = unit_summary(chosen.unit(line["unit_id"]), 2)
    assert all(pair["too_few"] for pair in summary["pairs"]) and "positive or negative test examples" in page
    assert "of fewer than 10 examples of a class)" in headline(summary)
    assert headline(unit_summary(chosen.unit(line["unit_id"]), 2)).split("(")[0] in page


def test_the_command(made: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes the page with what its stages took; without a file it opens one of the home's own."""
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")  # on Linux a browser needs a screen
    out = tmp_path / "deep" / "page.html"
    result = invoke(made, "report", "small", "clip-mini", "--out", str(out), "--json")
    written = {"report": "small/patch/clip-mini/report", "page": str(out), "stale": None, "making": None}
    assert json.loads(result.stdout) == written
    read = Figures()
    read.feed(out.read_text(encoding="utf-8"))
    taken = {(given["data-stage"], given["data-taken"]): float(given["value"])
             for given, _ in read.figures if "data-taken" in given}  # fmt: skip
    folder = made["home"] / "store/small/patch/clip-mini"
    for stage in ("sparse_activations", "best_pairs", "report"):
        assert taken[stage, "seconds"] > 0 and taken[stage, "peak_bytes"] > 1e7
        assert taken[stage, "stored_bytes"] == sum(file.stat().st_size for file in (folder / stage).iterdir())
    there = [name in page for page in (out.read_text("utf-8"), (folder / "report/all.html").read_text("utf-8"))
             for name in ("data-taken", "more than this report depends on")]  # fmt: skip
    assert there == [True, False, False, True] and opened == []
    result = invoke(made, "report", "small", "clip-mini")
    assert result.exit_code == 0 and opened == [(made["home"] / "reports/small/patch/clip-mini.html").as_uri()]
    wrong = invoke(made, "report", "small", "clip-mini", "--token-kind", "cls")
    assert wrong.exit_code == 2


def test_a_page_of_an_earlier_version_gets_the_sections_too() -> None:
    """It said nothing in their place, so nothing is taken out."""
    nothing: dict[str, Any] = {"taken": {}, "compared": None, "note": ""}
    now = f"a<!-- more-links -->b{MORE}said{NO_MORE}c"
    earlier = f"a<!-- more-links -->b{MORE}c"
    assert ["".join(with_more(page, **nothing).split()) for page in (now, earlier)] == ["abc", "abc"]


def test_results_that_cannot_be_compared(made: Places, tmp_path: Path) -> None:
    """Results alone, those of two data sets, and names that are none are refused, with what was expected."""
    places = {**made, "catalog": with_packaged(made["catalog"], tmp_path / "catalog.yaml")}
    for names, said in (
        (["small"], "Found one result, small/patch/clip-mini. Comparing takes two or more"),
        (["small/patch/clip-mini", "small/patch/clip-mini"], "each named once"),
        (["small/patch"], "dataset/token_kind/model"),
        (["smal/patch/clip-mini", "small"], "small"),
        (["small", "clevr_mini/patch/clip-mini"], "those of one are compared"),
    ):
        wrong = invoke(places, "compare", *names)
        assert wrong.exit_code == 2 and said in wrong.stderr, (names, wrong.stderr)


def test_it_is_stale_with_what_it_reads(made: Places, tmp_path: Path) -> None:
    """And only then: a report whose controls have gone is to be made again, one whose description changed too."""
    places = {"home": tmp_path / "home", "catalog": made["catalog"]}
    shutil.copytree(made["home"], places["home"])

    def stale() -> Any:
        result = invoke(places, "report", "small", "clip-mini", "--out", str(tmp_path / "page.html"), "--json")
        return json.loads(result.stdout)["stale"]

    assert stale() is None
    folder = places["home"] / "store" / "small" / "patch" / "clip-mini"
    (folder / "controls" / "all.parquet").unlink()
    assert "controls" in stale()


def test_random_saes_stand_beside_the_unit_on_rows_too(made: Places) -> None:
    """Mean and ends of their F1 on rows, from the table of controls, of the unit that was chosen and of no other."""
    store = ArtifactStore(str(made["home"] / "store"))
    of_stages = {}
    for stage in ("best_pairs", "row_alignment", "controls"):
        header, table = columns_of(store, Address("small", stage, "patch", "clip-mini"))
        of_stages[stage] = StageTable(stage, table, header.scalars)
    tables = Tables(of_stages)
    frame = pl.read_parquet(made["home"] / "store/small/patch/clip-mini/controls/all.parquet")
    frame = frame.filter((pl.col("level") == "rows") & (pl.col("detector") == "random_sae"))
    seen = 0
    for number, concept in enumerate(tables["best_pairs"].lines):
        name, unit = concept["concept"], concept["unit_id"]
        values = frame.filter(pl.col("concept") == name)["test_f1"]
        shown = of_rows(tables, name, number, unit)
        if shown.value is None or not len(values):
            continue
        seen += 1
        assert shown.random == pytest.approx(values.mean()) and shown.random_range == (values.min(), values.max())
        assert of_rows(tables, name, number, -1).random is None
    assert seen


@pytest.fixture
def evidence() -> Iterator[Evidence]:
    yield Evidence(0.8, 0.7, 0.9, 0.4, 0.5, (0.45, 0.6), 0.85, "logistic")


def test_a_glyph_shows_its_figures(evidence: Evidence) -> None:
    """Along 148 pixels from the sixth on; filled only if the interval lies above chance and random SAEs."""
    drawn = glyph(evidence)
    assert f'cx="{6 + 148 * 0.8:.1f}"' in drawn and f'x1="{6 + 148 * 0.7:.1f}" x2="{6 + 148 * 0.9:.1f}"' in drawn
    assert f'width="{148 * 0.4:.1f}"' in drawn and 'class="dot clear"' in drawn
    assert "F1 0.800, 95 % 0.700 to 0.900, chance 0.400, random SAEs 0.500, logistic 0.850" in drawn
    assert 'class="dot"' in glyph(Evidence(0.8, 0.7, 0.9, 0.4, 0.7)) and not Evidence(0.8, 0.7, 0.9, 0.75).clear
    assert not Evidence(0.8, None, None, 0.1).clear and not Evidence(0.8, 0.7, 0.9).clear
