"""What is printed: names and cells as they are, and every column legible however many there are."""

from types import SimpleNamespace
from typing import Any

import pytest

from sae_assets.cli.display import console, print_inspection, print_table, print_warnings
from sae_assets.cli.states import print_status
from sae_assets.cli.summary import _print_controls, print_summary

ODD = "[/red] [bold]a[/bold] :heart: [0, 1]"  # what rich would raise on, swallow, or replace


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch):
    """What a print function puts on a screen of 100 columns."""
    monkeypatch.setattr(console, "width", 100)

    def run(function: Any, *arguments: Any) -> str:
        with console.capture() as capture:
            function(*arguments)
        return capture.get()

    return run


def content(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "address": "a/b", "file": "f", "bytes": 1, "rows": len(rows), "counts": {}, "config": {}, "fingerprint": "0",
        "head": list(rows), **more,
    }  # fmt: skip


def test_cells_headings_and_metadata_are_no_markup(printed):
    shown = printed(print_table, content({ODD: ODD}, address=ODD, counts={ODD: ODD}))
    assert shown.count(ODD) == 5


def test_concepts_and_data_sets_are_no_markup(printed, monkeypatch):
    monkeypatch.setattr(console, "width", 120)  # in 100 columns a name as long as this one takes two lines
    absent = dict.fromkeys(("unit_id", "cal_f1", "test_f1", "chance_f1", "q", "auroc"))
    absent |= dict.fromkeys(("row", "audit", "selection", "coalition"))
    absent |= {"test_f1_interval": [None, None], "auroc_interval": [None, None], "too_few": False}
    nothing = {"f1": None, "auroc": None, "auroc_interval": [None, None], "difference_interval": [None, None]}
    absent["controls"] = {"logistic": nothing}
    figures = {
        "n_rows": 1, "n_units": 1, "n_kept": 1, "dense_bytes": 1, "stored_bytes": 1, "compression_ratio": 1.0,
        "fit": {"fvu": 0.25, "mean_l0": 9.5, "dead_units_share": 0.125, "stated_l0": 22},
        "weighted_test_f1": None, "weighted_test_f1_interval": [None, None], "always_positive_f1": None,
        "null_f1": {"mean": None, "p95": None}, "seconds": {}, "stale_stages": [],
        "inapplicable_stages": [], "rows": None, "concepts": {ODD: absent},
        "controls": None,
    }  # fmt: skip
    session = SimpleNamespace(settings=SimpleNamespace(store=ODD, home=ODD, catalog=None))
    assert printed(print_summary, {ODD: figures}, session, 0, 0).count(ODD) == 5  # its report's home too
    costs = {"seconds": {"logistic": 1.5}, "peak_bytes": {}, "bytes": {"unit": 2e6}}
    figures["controls"] = {
        "weighted": {"logistic": nothing},
        "verdict": ODD,
        "row_verdict": None,
        "fitted_on_half_of_cal": True,
        **costs,
    }
    shown = printed(print_summary, {ODD: figures}, session, 0, 0)
    assert shown.count(ODD) == 8 and "1.50" in shown and "2.00" in shown and "half of cal" in shown
    shown = printed(print_status, {ODD: {"chunks": [], "stages": {"[b]": {"[i]": "stale"}}}})
    assert ODD in shown and "[b]" in shown and "[i]" in shown
    assert ODD in printed(print_inspection, {ODD: {"error": "e"}})


def test_controls_have_intervals_of_auroc_and_a_mark_where_examples_are_few(printed):
    """The control with the largest AUROC beside the unit; no interval is shown as a point."""
    ends = {"logistic": [0.99612, 0.99991], "k_sparse": [0.25, 0.75], "random_sae": [None, None]}
    areas = {"logistic": 0.999, "k_sparse": 0.5, "random_sae": 0.75}
    controls = {
        name: {"f1": 0.5, "difference_interval": [-1.0, 1.0], "auroc": areas[name], "auroc_interval": ends[name]}
        for name in ends
    }
    concepts = {
        name: {"test_f1": 0.875, "auroc": 0.75, "auroc_interval": [0.5, 1.0], "too_few": few, "controls": controls}
        for name, few in (("sky", False), ("rare", True))
    }
    weighted = dict.fromkeys(ends, controls["k_sparse"])
    costs = {"seconds": {}, "peak_bytes": {}, "bytes": {}, "verdict": "", "row_verdict": "", "weighted": weighted}
    figures = {"concepts": concepts, "weighted_test_f1": 0.5, "controls": {**costs, "fitted_on_half_of_cal": False}}
    shown = printed(_print_controls, figures)
    lines = [line.split() for line in shown.splitlines() if line.strip()]
    assert ["sky", "0.750", "0.50–1.00", "logistic", "0.999", "0.996–1.000"] in lines
    assert ["rare", "0.750", "0.50–1.00?", "logistic", "0.999", "0.996–1.000?"] in lines
    assert ["sky", "0.875", *["0.500"] * 3] in lines and ["rare", "0.875?", *["0.500"] * 3] in lines


def test_a_table_that_fits_has_a_line_per_row(printed):
    shown = printed(print_table, content(*({"unit": n, "ids": list(range(9)), "mean": 0.5} for n in range(3))))
    lines = [line for line in shown.splitlines() if "[0, 1, 2, 3, 4, 5, …]" in line]
    assert len(lines) == 3 and "unit" in shown


@pytest.mark.parametrize("width", [60, 100])
def test_a_table_that_does_not_fit_is_turned_and_loses_nothing(printed, monkeypatch, width):
    """Every heading and every cell stands there whole, within the screen."""
    monkeypatch.setattr(console, "width", width)
    rows = [{f"column_{n}_of_this_table": f"cell-{row}-{n}" for n in range(29)} for row in range(7)]
    shown = printed(print_table, content(*rows))
    words = shown.split()
    assert all(cell in words for row in rows for cell in row.values())
    assert all(name in words for name in rows[0]) and {*map(str, range(7))} <= {*words}
    assert max(map(len, shown.splitlines())) <= width


def test_a_cell_that_is_wider_than_the_screen_is_folded(printed):
    shown = printed(print_table, content({"hash": "0123456789" * 15, **{f"column_{n}": n for n in range(40)}}))
    assert "0123456789" * 15 in "".join(line.removeprefix("hash").strip() for line in shown.splitlines())


def test_warnings_are_few_lines_however_many_partitions_have_them(capsys: pytest.CaptureFixture[str]) -> None:
    many = {f"check {number}": [f"{chunk:04d}" for chunk in range(7)] for number in range(12)}
    print_warnings(many)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Warning: check 0 (0000, 0001, 0002, 0003, 0004 … (7 in all))" and len(lines) == 11
    assert "and 2 more" in lines[-1]


@pytest.mark.parametrize("width", [60, 100, 200])
@pytest.mark.parametrize("n_chunks", [4, 500])
def test_status_is_a_few_lines_for_any_screen_and_any_number_of_chunks(printed, monkeypatch, width, n_chunks):
    """What is not current stands there with its partitions, of many the first ranges, and the rest is counted."""
    monkeypatch.setattr(console, "width", width)
    chunks = [f"{number:04d}" for number in range(n_chunks)]
    states = {"labels": dict.fromkeys(chunks, "current")}
    for stage in ("ground_truth", "sparse_activations", "filtered_activations"):
        states[f"patch/clip-mini/{stage}"] = dict.fromkeys(chunks, "current")
    states["patch/clip-mini/unit_stats"] = {"all": "stale"}
    states["patch/clip-mini/sparse_activations"] |= {"0001": "missing", "0002": "missing", "0003": "failed"}
    states["patch/clip-mini/filtered_activations"] = {key: ("stale", "missing")[int(key) % 2] for key in chunks}
    shown = printed(print_status, {"birds": {"chunks": chunks, "stages": states}})
    lines = shown.splitlines()
    assert len(lines) <= 16 and max(map(len, lines)) <= width
    said = " ".join(shown.split())
    assert f"birds: {n_chunks} chunks registered" in said and "unit_stats: stale" in said
    assert f"{n_chunks - 3} of {n_chunks} current; 2 missing (0001–0002); 1 failed (0003)" in said
    assert "1 stage current" in said and "1 other stage current" in said
    assert f"0 of {n_chunks} current; {n_chunks // 2} stale (0000, 0002" in said
    assert ("… 244 more" in said) == (n_chunks == 500)


def test_bad_examples_beyond_the_first_few_are_counted(printed):
    """A folder without masks: a line each of ten thousand would push everything else off the screen."""
    bad = [f"mask {n} is missing" for n in range(25)]
    each = {
        "examples": 25, "modality": "image", "located": True, "published": None, "splits": {}, "concepts": {},
        "always_positive_f1": None, "other_labels": {}, "remarks": [], "differences": [], "problems": [],
        "files": {"bad": bad, "read": 25, "positives_without_region": {}},
    }  # fmt: skip
    lines = printed(print_inspection, {"birds": each}).splitlines()
    assert [line for line in lines if line in bad] == bad[:20]
    assert lines[-2:] == ["… and 5 more; --json lists all.", "25 examples read, 25 bad."]
