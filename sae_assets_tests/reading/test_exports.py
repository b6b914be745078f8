"""Exports hold what the home holds, in the other tools' layouts; their own readers are in ``reference_libraries``."""

import csv
import errno
import json
import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from safetensors.numpy import load_file
from scipy.sparse import load_npz

from sae_assets.errors import CatalogError, MismatchError
from sae_assets.reading import Results
from sae_assets.reading.exports import EMPTY, FORMATS, export_csr, export_delphi, export_neuronpedia
from sae_assets.reading.pair_table import cells, code, latex, latex_table, markdown, markdown_table
from sae_assets.reading.tables import Table
from sae_assets_tests.docs.test_docs import documented_keys
from sae_assets_tests.helpers.homes import Places, invoke

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small-texts")]


def test_csr_is_read_by_scipy(text_results: Results, tmp_path: Path) -> None:
    figures = export_csr(text_results, tmp_path / "rows.npz")
    expected = text_results.activations().to_scipy()
    matrix = load_npz(tmp_path / "rows.npz")
    assert (matrix != expected).nnz == 0 and matrix.dtype == np.float32
    assert figures == {"rows": expected.shape[0], "units": expected.shape[1], "entries": expected.nnz}
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as arrays:
        assert arrays["example_ids"].tolist() == text_results.example_ids
        table = text_results.table("sparse_activations").to_arrow()
        assert arrays["example_index"].tolist() == table["example_index"].to_pylist()
        assert arrays["position"].tolist() == table["position"].to_pylist()


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "delphi"])
def test_what_cannot_be_written_leaves_what_was_there(
    text_results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As where a disk is full at the end: the earlier file is whole, and nothing half-written lies beside it."""
    path = tmp_path / "file"
    path.write_text("earlier")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        FORMATS[name][0](text_results, path)
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("n_splits", [1, 3])
def test_delphis_cache_is_the_activations(text_results: Results, tmp_path: Path, n_splits: int) -> None:
    """Entries at their tokens, every unit in one file, as ``delphi.latents.cache.save_splits`` lays them out."""
    figures = export_delphi(text_results, tmp_path, n_splits)
    folder = tmp_path / "layers.2"
    config = json.loads((folder / "config.json").read_text())
    files = sorted(folder.glob("*.safetensors"), key=lambda path: int(path.stem.split("_")[0]))
    bounds = [tuple(map(int, path.stem.split("_"))) for path in files]
    assert len(files) == n_splits and bounds[0][0] == 0 and bounds[-1][1] == text_results.n_units - 1
    assert all(a[1] + 1 == b[0] for a, b in pairwise(bounds))
    dense = text_results.activations().to_scipy().toarray()
    got, tokens = np.zeros_like(dense), load_file(files[0])["tokens"]
    rows = text_results.located_tokens
    for (first, _), path in zip(bounds, files, strict=True):
        tensors = load_file(path)
        text, place, unit = tensors["locations"].astype(int).T
        assert np.array_equal(tensors["tokens"], tokens) and tensors["locations"].dtype == np.uint16
        got[rows.offsets[text] + place - 1, first + unit] = tensors["activations"]  # behind BOS
    assert np.array_equal(got, dense) and figures["entries"] == (dense > 0).sum()
    assert tokens.shape == (18, config["cache_ctx_len"]) and tokens.shape[1] % 32 == 0
    lengths = np.diff(rows.offsets)
    assert all(
        (text[1 : 1 + n] != 0).all() and not text[1 + n :].any() for text, n in zip(tokens, lengths, strict=True)
    )


def test_other_texts_are_no_cache(text_results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(text_results.reader), "text", lambda self, example: "another")
    with pytest.raises(MismatchError, match="gives other tokens now"):
        export_delphi(text_results, tmp_path)


def test_neuronpedias_units(text_results: Results, tmp_path: Path) -> None:
    """Examples with their values on tokens, top ones first, and the histogram of all of them."""
    figures = export_neuronpedia(text_results, tmp_path / "units.json", units=[1178, 0])
    content = json.loads((tmp_path / "units.json").read_text())
    assert figures == {"units": 2} and [one["feature_index"] for one in content["features"]] == [1178, 0]
    unit, feature = text_results.unit(1178), content["features"][0]
    assert feature["frac_nonzero"] == unit.n_rows / len(text_results.table("sparse_activations"))
    assert sum(feature["freq_hist_data_bar_heights"]) == unit.n_rows and len(feature["freq_hist_data_bar_values"]) == 50
    top = [one for one in feature["activations"] if one["bin_min"] == -1]
    assert len(top) == min(20, len(unit.top_examples(99))) < len(feature["activations"])
    for one, example in zip(top, unit.top_examples(20), strict=True):
        marked = unit.tokens(example.example_id)
        assert one["tokens"] == [token.text for token in marked]
        assert one["values"] == [round(token.value, 5) for token in marked]
        assert one["values"][one["qualifying_token_index"]] == max(one["values"])
    assert all(feature[name] == [] for name in EMPTY)
    export_neuronpedia(text_results, tmp_path / "units.json")
    chosen = {line["unit_id"] for line in text_results.best_pairs().to_arrow().to_pylist()} - {None}
    assert {one["feature_index"] for one in json.loads((tmp_path / "units.json").read_text())["features"]} == chosen


def test_tables_of_best_pairs(text_results: Results, tmp_path: Path) -> None:
    FORMATS["csv"][0](text_results, tmp_path / "pairs.csv")
    expected = text_results.best_pairs().to_polars()
    got = pl.read_csv(tmp_path / "pairs.csv", schema=dict(expected.schema))
    assert got.equals(expected)
    lines = text_results.best_pairs().to_arrow().to_pylist()
    for name, table in (("markdown", markdown_table), ("latex", latex_table)):
        FORMATS[name][0](text_results, tmp_path / name)
        assert (tmp_path / name).read_text().splitlines() == table(lines)
    assert len(markdown_table(lines)) == 2 + len(lines)


def test_names_are_no_markup() -> None:
    line = {"concept": "a_b & 100 % | {c} \\ <i>", "unit_id": 3, "test_f1": None}
    assert cells(line)[:2] == ["3", "–"]
    assert markdown_table([line])[2].startswith(r"| a\_b & 100 % \| \{c\} \\ \<i\> | 3 | – |")
    few = {"test_tp": 3, "test_fn": 1, "test_fp": 0, "test_tn": 90, "test_f1_low": 0.5, "test_f1_high": 1.0}
    assert [cells({**line, **few, "test_tp": found})[2] for found in (3, 9)] == ["0.50–1.00?", "0.50–1.00"]
    assert latex(line["concept"]) == r"a\_b \& 100 \% | \{c\} \textbackslash{} \textless{}i\textgreater{}"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("$x^$", r"\$x^\$"),
        ("&lt;b&gt; &copy;", r"\&lt;b\&gt; \&copy;"),
        ("![x](http://e/x.png)", r"!\[x\](http\://e/x.png)"),
        ("color::red", "color::red"),
    ],
)
def test_names_are_literal_in_markdown(name: str, written: str) -> None:
    """No formula of GitHub's, no entity, no picture, and no address that becomes a link."""
    assert markdown(name) == written


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("[bold]", "{[}bold]"),
        ("*a", "{*}a"),
        ("-->", r"-{}-\textgreater{}"),
        ("``a''", "`{}`a'{}'"),
        ("a-b", "a-b"),
        ("cafe\u0301", "café"),
    ],
)
def test_names_are_literal_in_latex(name: str, written: str) -> None:
    r"""No option of the ``\\`` or ``\midrule`` before them, no two signs that become one, accents in one."""
    assert latex(name) == written


@pytest.mark.parametrize(
    ("name", "written"), [("a_b", "`a_b`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("<i>\n", "`<i>`")]
)
def test_names_are_literal_as_code(name: str, written: str) -> None:
    assert code(name) == written


@pytest.mark.parametrize(
    "name", ["=cmd|'/C calc'!A0", "+1", "-2+3", "@SUM(A1)", " =1", "\uff1d1", "plain", "a=b", "'=1"]
)
def test_no_name_is_a_formula_of_a_spreadsheet(text_results: Results, tmp_path: Path, name: str) -> None:
    table = text_results.best_pairs().to_arrow()
    column = pa.array([name, *table["concept"].to_pylist()[1:]])
    named = SimpleNamespace(best_pairs=lambda: Table(table.set_column(0, "concept", column)))
    FORMATS["csv"][0](named, tmp_path / "pairs.csv")
    with (tmp_path / "pairs.csv").open(newline="") as file:
        written = next(csv.DictReader(file))["concept"]
    assert written == (name if name in ("plain", "a=b", "'=1") else f"'{name}")


def test_the_command(texts: Places, tmp_path: Path) -> None:
    for name in FORMATS:
        result = invoke(texts, "export", name, "moods", "gemma-mini", "--out", str(tmp_path / name), "--json")
        assert result.exit_code == 0, result.output
        assert set(json.loads(result.stdout)) == documented_keys()["export"] and (tmp_path / name).exists()
    for words, message in (
        (["cvs", "moods", "gemma-mini"], "csv"),
        (["csv", "moods", "gemma-mini", "--units", "3"], "is for neuronpedia"),
        (["neuronpedia", "moods", "gemma-mini", "--units", "x"], "expected ids"),
        (["neuronpedia", "moods", "gemma-mini", "--units", "99999"], "units 0 to 1279"),
    ):
        result = invoke(texts, "export", *words, "--out", str(tmp_path / "wrong"))
        assert result.exit_code == 2 and message in result.stderr, result.output
    assert not (tmp_path / "wrong").exists()


def test_pictures_have_no_tokens(made_home, tmp_path: Path) -> None:
    import sae_assets

    places = made_home(tmp_path)
    results = sae_assets.open(places["home"], places["catalog"])["small"]["clip-mini"]["patch"]
    for export in (export_delphi, export_neuronpedia):
        with pytest.raises(CatalogError, match="tokens of texts"):
            export(results, tmp_path / "out")
