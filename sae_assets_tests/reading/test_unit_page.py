"""All about one unit, in the terminal, as JSON and as a page: the figures are those of the tables."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import sae_assets
from sae_assets.pages.figures import figure
from sae_assets.reading.activations import Activations
from sae_assets.reading.page import headline, unit_page
from sae_assets.reading.results import Results
from sae_assets.reading.summary import ALIGNED, STATS, levels_of, unit_summary
from sae_assets.reading.unit import TopExample
from sae_assets.saes import open_decoder
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pages.test_report import Figures
from sae_assets_tests.reading.test_reading import dense

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    return made_home(tmp_path_factory.mktemp("units"))


@pytest.fixture(scope="module")
def results(made: Places) -> Results:
    return sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]


@pytest.fixture(scope="module")
def busy(made: Places) -> int:
    """The unit that fires most often."""
    return int((dense(made) > 0).sum(0).argmax())


def test_co_active_units_share_most_rows(made: Places, results: Results, busy: int) -> None:
    fires = dense(made) > 0
    both = (fires & fires[:, busy : busy + 1]).sum(0)
    share = both / (fires.sum(0) + fires[:, busy].sum() - both).clamp(min=1)
    share[busy] = -1
    expected = sorted(range(fires.shape[1]), key=lambda unit: (-float(share[unit]), unit))[:5]
    found = results.unit(busy).co_active(5)
    assert [one.unit_id for one in found] == expected
    assert [one.n_rows for one in found] == [int(both[unit]) for unit in expected]
    assert [one.jaccard for one in found] == pytest.approx([float(share[unit]) for unit in expected])


def test_the_histogram_counts_every_value(made: Places, results: Results, busy: int) -> None:
    counts, edges = results.unit(busy).histogram(8)
    values = dense(made)[:, busy]
    expected = torch.histogram(values[values > 0], 8, range=(0, float(values.max()))).hist
    assert counts.tolist() == expected.tolist() and edges[0] == 0 and edges[-1] == pytest.approx(float(values.max()))


def test_the_peak_is_where_the_largest_value_stands(results: Results, busy: int) -> None:
    for one in unit_summary(results.unit(busy), 3)["examples"]:
        heat_map = results.unit(busy).heat_map(one["example_id"])
        x = int((one["peak"]["left"] + one["peak"]["right"]) / 2)
        y = int((one["peak"]["top"] + one["peak"]["bottom"]) / 2)
        assert heat_map.to_numpy()[y, x] == one["value"]


def test_the_page_says_what_the_tables_say(results: Results, busy: int) -> None:
    """Figures as in the tables, pictures with a text beside them, and nothing loaded from elsewhere."""
    page, stats = unit_page(results.unit(busy), 3), results.unit(busy).stats()
    read = Figures()
    read.feed(page)
    of_stats = {given["data-column"]: float(given["value"]) for given, _ in read.figures
                if given.get("data-table") == "unit_stats"}  # fmt: skip
    assert of_stats == {name: stats[name] for name in STATS}
    rows = next(given["value"] for given, _ in read.figures if given.get("data-count") == "rows")
    assert int(rows) == results.unit(busy).n_rows
    aligned = {(line["concept"], name): line[name] for line in results.unit(busy).concepts() for name in ALIGNED[2:]}
    for given, text in read.figures:
        if given.get("data-table") == "row_alignment":
            expected = aligned[given["data-concept"], given["data-column"]]
            assert float(given["value"]) == expected and text == figure(expected)
    parts = results.unit(busy).stratified_examples(4, 3) if results.unit(busy).n_examples > 3 else []
    captions = re.findall(r"<figcaption>(.*?): (\S+) at most", page.partition("Examples by how strongly it fires")[2])
    expected = [(one.example_id, figure(one.value)) for part in parts[::-1] for one in part[::-1]]
    assert captions == expected and expected  # the strongest first, within its part too
    assert read.pictures == 3 + sum(map(len, parts)) and read.elsewhere == []
    assert "http" not in re.sub(r"base64,[\w+/=]+", "", page) and "Units that write the same" in page


@pytest.mark.parametrize("by_unit", [True, False])
def test_activations_are_gone_through_twice_for_a_page(
    made: Places, busy: int, monkeypatch: pytest.MonkeyPatch, by_unit: bool
) -> None:
    """Once for the unit's rows and once for its neighbours, however many examples are shown; by unit only for them."""
    results = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    if not by_unit:
        results.__dict__["by_unit"] = None
    asked: list[str] = []
    whole = Activations._chunks

    def counted(self: Activations, columns: Sequence[str]) -> Iterator[tuple[dict[str, Any], Any]]:
        asked.append("again")
        return whole(self, columns)

    monkeypatch.setattr(Activations, "_chunks", counted)
    unit_page(results.unit(busy), 6)
    assert len(asked) == 2 - by_unit


def test_a_page_without_the_pictures(results: Results, busy: int, made: Places, tmp_path: Path) -> None:
    """Where the data set is not on this machine, figures are shown, and why pictures are not."""
    other = sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]
    other.entry = other.entry.model_copy(update={"root": tmp_path / "gone"})
    page = unit_page(other.unit(busy), 2)
    assert page.count("It cannot be shown") == page.count("<figcaption>") - 1 >= 2 and "<img" not in page
    assert str(tmp_path) not in page


def test_names_are_text_and_no_markup(results: Results, busy: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "<script>alert(1)</script>"
    monkeypatch.setattr("sae_assets.reading.unit.Unit.top_examples", lambda *_: [TopExample(bad, 0, 1.0, 1)])
    page = unit_page(results.unit(busy), 1)
    assert bad not in page and "&lt;script&gt;" in page


def test_neighbours_are_those_of_the_decoder(results: Results, busy: int) -> None:
    decoder = open_decoder(results.model_entry.sae, "cpu", 2**28)
    assert decoder is not None
    cosine = torch.nn.functional.cosine_similarity(decoder.weight.double(), decoder.weight[busy].double()[None])
    cosine[busy] = -2
    expected = cosine.topk(4)
    found = results.unit(busy).decoder_neighbours(4)
    assert [one.unit_id for one in found] == expected.indices.tolist()
    assert [one.cosine for one in found] == pytest.approx(expected.values.tolist())


def test_a_unit_that_never_fires(made: Places, results: Results) -> None:
    silent = int((dense(made) > 0).sum(0).argmin())
    summary = unit_summary(results.unit(silent))
    assert summary["rows"] == 0 and summary["examples"] == summary["co_active"] == []
    assert "It fires on no row." in unit_page(results.unit(silent))


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


@pytest.mark.xdist_group("small-texts")
def test_the_command_says_what_a_unit_stands_beside(
    texts: Places, text_results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each concept that it is chosen for, by level: chance as it is stored; no controls where there are none."""
    pair = next(line for line in text_results.best_pairs().to_arrow().to_pylist() if line["unit_id"] is not None)
    unit = text_results.unit(pair["unit_id"])
    beside = next(one for one in unit_summary(unit)["pairs"] if one["concept"] == pair["concept"])["beside"]
    of_examples, of_tokens = beside["examples"], beside["tokens"]
    assert (of_examples["f1"], of_examples["f1_low"]) == (pair["test_f1"], pair["test_f1_low"])
    bars = [pair[name] for name in ("test_always_positive_f1", "test_null_f1_p95") if pair[name] is not None]
    assert of_examples["chance"] == max(bars) and of_examples["random_saes"] is of_examples["without_sae"] is None
    assert (of_tokens["f1_low"], of_tokens["f1_high"]) == (pair["test_row_f1_low"], pair["test_row_f1_high"])
    page = unit_page(unit, 2)
    assert f"; orange: {pair['concept']}" in page
    monkeypatch.setattr("sae_assets.reading.page.levels_of", lambda *given: levels_of(*given)[:1])
    assert "; orange" not in unit_page(unit, 2)  # where nothing says where the concept is
    shown = invoke(texts, "unit", "moods", "gemma-mini", str(unit.unit_id)).output
    assert re.search(rf"on examples +{figure(pair['test_f1'])} .* {figure(of_examples['chance'])} +– +–\n", shown)
    assert max(map(len, shown.partition("\nvalues")[0].splitlines()[2:])) <= 80
    assert re.search(rf"on tokens +{figure(of_tokens['f1'])} ", shown)


def test_figures_are_shown_alike() -> None:
    assert [figure(value) for value in (None, 1234, 0.5, 12.345, -0.25)] == ["–", "1,234", "0.500", "12.3", "−0.250"]


def test_one_row_is_a_row(results: Results, made: Places) -> None:
    """In the sentence, and below an example on one of whose rows alone a unit fires."""
    assert headline({"rows": 1, "pairs": []}) == "It fires on 1 row and is chosen for no concept."
    fires = (dense(made) > 0).sum(0)
    for number in fires.argsort()[-8:].tolist():
        page = unit_page(results.unit(number))
        assert not re.search(r"\b1 rows", page)
        if "on 1 row<" in page or "on 1 row." in page:
            return
    raise AssertionError("no unit fires on one row of an example that is shown")
