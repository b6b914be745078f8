"""The demo's figures are real, its second run repeats nothing, and its files and history are what it says."""

import json
import math
import re
from pathlib import Path

import pyarrow.dataset as pads
import pytest
from typer.testing import CliRunner

import sae_assets
from sae_assets.artifacts.controls import CONTROLS, LARGEST, ROW_CONTROLS
from sae_assets.cli import app
from sae_assets.pages.figures import figure
from sae_assets.pipeline.stages import STAGES
from sae_assets_tests.pages.test_report import Figures, cell
from sae_assets_tests.pipeline.test_second_pass import expect_axbench
from tools import notebook

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]
KEY = "clevr_mini/patch/clip-mini"
TEXT_KEY = "moods_mini/token/gemma-mini"


def test_colours_and_shapes_are_detected_on_test(demo):
    """Pairs chosen on cal alone reach these test figures."""
    concepts = demo["summary"][KEY]["concepts"]
    assert set(concepts) == {f"color::{c}" for c in ("blue", "green", "red")} | {
        f"shape::{s}" for s in ("cube", "cylinder", "sphere")
    }
    for name, found in concepts.items():
        if name.startswith("color::"):
            assert found["test_f1"] >= 0.90, name
        else:
            prior = found["n_test"] / 76
            assert found["always_positive_f1"] == pytest.approx(2 * prior / (1 + prior))
            assert found["test_f1"] >= found["always_positive_f1"] + 0.10, name


def test_moods_are_detected_on_test(demo):
    """Text concepts beat calling every text positive by at least 0.15, with pairs chosen on cal alone."""
    tokens, texts = (demo["summary"][key]["concepts"] for key in (TEXT_KEY, "moods_mini/cls/gemma-mini"))
    assert set(tokens) == set(texts) == {"joy", "anger", "fear", "gratitude", "sarcasm", "regret"}
    for name, found in (*tokens.items(), *texts.items()):
        prior = found["n_test"] / 180
        assert found["always_positive_f1"] == pytest.approx(2 * prior / (1 + prior))
        assert found["test_f1"] >= found["always_positive_f1"] + 0.15, name


def test_reports_say_what_the_tables_say(demo, tmp_path):
    """Of both data sets and all token kinds; patches and tokens are marked, and truth is where it is known."""
    for key in demo["summary"]:
        dataset, kind, model = key.split("/")
        page = (demo["home"] / "store" / key / "report" / "all.html").read_text(encoding="utf-8")
        read = Figures()
        read.feed(page)
        of_tables = [given for given, _ in read.figures if "data-table" in given]
        assert len(of_tables) > 300 and read.elsewhere == []
        for given in of_tables:
            assert float(given["value"]) == cell(demo["home"], given, key), given
        assert ('class="says true"' in page) == (kind == "token") and (read.pictures > 60) == (dataset == "clevr_mini")
        for pair in re.findall(r'<div class="pair">(<bdi.*?)</div>', page, re.S):  # both ways mark the same words
            first, second = (re.sub(r"<[^>]*>", "", text) for text in pair.split("</bdi>")[:2])
            assert first == second
        out = tmp_path / f"{kind}-{model}.html"
        arguments = ["report", dataset, model, "--token-kind", kind, "--home", str(demo["home"]), "--out", str(out)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert "Beside the data set" in out.read_text(encoding="utf-8")


def test_results_are_compared_by_their_own_figures(demo):
    """Each F1 is that of the best pairs; the others differ from the first by the difference of both."""
    result = CliRunner().invoke(app, ["compare", "clevr_mini", "--home", str(demo["home"]), "--json"])
    assert result.exit_code == 0, result.output
    compared = json.loads(result.stdout)
    assert compared["results"] == [KEY, "clevr_mini/cls/clip-mini"] and set(compared["levels"]) == {"examples"}
    assert set(compared) == {"dataset", "results", "levels"}  # as docs/commands.md names them
    assert set(compared["levels"]["examples"]) == {"n_examples", "verdicts", "lines"}
    for line in compared["levels"]["examples"]["lines"]:
        assert all(set(figures) == {"f1", "unit_id", "difference"} for figures in line["results"])
        for key, figures in zip(compared["results"], line["results"], strict=True):
            found = demo["summary"][key]
            f1 = found["weighted_test_f1"] if line["concept"] is None else found["concepts"][line["concept"]]["test_f1"]
            assert figures["f1"] == pytest.approx(f1)
        first, second = line["results"]
        estimate, low, high = second["difference"]
        assert estimate == pytest.approx(second["f1"] - first["f1"]) and low <= estimate <= high
    (verdict,) = compared["levels"]["examples"]["verdicts"]
    assert f"weighted F1 ({figure(estimate, signed=True)}, 95 % {figure(low, signed=True)} to" in verdict


def test_text_rows_are_counted_by_the_tokenizer(demo):
    """One row per token but BOS and one per text; what k_stored cuts off is said, and next to nothing here."""
    found = demo["summary"][TEXT_KEY]
    assert found["k_stored"] == 64 and found["n_units"] == 1280
    assert demo["summary"]["moods_mini/cls/gemma-mini"]["n_rows"] == 720
    rows = pads.dataset(demo["home"] / "store/moods_mini/token/gemma-mini/sparse_activations").to_table()
    assert len(rows) == found["n_rows"] > 720 * 30
    assert 0 < sum(rows["l0"].to_pylist()) / len(rows) < 40


def test_summary_has_every_promised_figure(demo):
    for key in (KEY, "clevr_mini/cls/clip-mini"):
        found = demo["summary"][key]
        assert found["n_rows"] == (320 * 256 if "patch" in key else 320)
        assert found["n_units"] == 1024 and found["k_stored"] == 16
        assert found["dense_bytes"] == 4 * found["n_rows"] * found["n_units"]
        assert found["compression_ratio"] == pytest.approx(found["dense_bytes"] / found["stored_bytes"])
        assert found["compression_ratio"] > (50 if "patch" in key else 10)
        assert 0 < found["n_kept"] < found["n_units"]
        assert found["weighted_test_f1"] > found["always_positive_f1"] > found["null_f1"]["mean"] - 0.2
        assert set(found["seconds"]) == set(STAGES)
        assert all(value >= 0 and math.isfinite(value) for value in found["seconds"].values())
        for best in found["concepts"].values():
            assert {"unit_id", "tail_fraction", "threshold", "cal_f1", "test_f1", "n_cal", "n_test"} <= set(best)
            low, high = best["auroc_interval"]
            assert 0 <= low <= best["auroc"] <= high <= 1 and low < high


def test_the_packaged_saes_fit_the_packaged_data(demo):
    """The variance they leave is far below the limit of the check; L0 is near what the checkpoint is named after."""
    for key, stated in ((KEY, None), (TEXT_KEY, 22)):
        found = demo["summary"][key]["fit"]
        assert 0.1 < found["fvu"] < 0.2 and 0 <= found["dead_units_share"] < 0.1 and found["stated_l0"] == stated
    assert abs(demo["summary"][TEXT_KEY]["fit"]["mean_l0"] - 22) < 1
    pooled = demo["summary"]["moods_mini/cls/gemma-mini"]["fit"]
    assert pooled["fvu"] is pooled["stated_l0"] is None and pooled["mean_l0"] > 22


def test_every_figure_stands_beside_its_controls(demo):
    """Each control of each concept with its paired interval, what it costs, and a sentence of who wins."""
    for key, found in demo["summary"].items():
        all_of = found["controls"]
        assert set(all_of["weighted"]) == set(CONTROLS)
        assert all_of["n_seeds"] == 10 and not all_of["fitted_on_half_of_cal"]
        assert all_of["verdict"].startswith("On examples, by weighted test F1, the SAE's units ")
        for kind in ("seconds", "peak_bytes", "bytes"):
            assert {"unit", *CONTROLS} <= set(all_of[kind]) and min(all_of[kind].values()) >= 0
        for best in found["concepts"].values():
            assert set(best["controls"]) == set(CONTROLS)
            for control in best["controls"].values():
                low, high = control["difference_interval"]
                assert low <= best["test_f1"] - control["f1"] + 1e-9 and best["test_f1"] - control["f1"] - 1e-9 <= high
                assert low < high and 0 <= control["f1"] <= 1 and 0.3 < control["auroc"] <= 1
                low, high = control.get("auroc_range", control["auroc_interval"])
                assert low < high and low <= control["auroc"] <= high
            assert (best["row_controls"] is None) == ("/cls/" in key)
            if best["row_controls"]:
                assert set(best["row_controls"]) == {"unit", *ROW_CONTROLS}
                for name in ROW_CONTROLS:
                    control = best["row_controls"][name]
                    low, high = control["difference_interval"]
                    assert low < high and low <= control["difference"] <= high
                    # The direction that labels of examples give may point away from a concept's own rows.
                    assert (0 if name == LARGEST else 0.3) < control["auroc"] <= 1
                    assert all_of["seconds"][f"rows: {name}"] >= 0 and all_of["peak_bytes"][f"rows: {name}"] < 2**29
    patch = demo["summary"][KEY]["controls"]["weighted"]
    assert patch["diffmean"]["f1"] < patch["random_sae"]["unit_f1"] and patch["logistic"]["f1"] > 0.85
    assert "random SAEs" in demo["output"] and "peak MB" in demo["output"]


def test_the_largest_score_over_rows_is_the_stronger_diffmean_on_texts(demo):
    """AxBench's, by numpy from images and texts on; the units beat the mean's and cannot be told from it."""
    for key in demo["summary"]:
        expect_axbench(demo["home"], None, key, 3)
    texts = demo["summary"][TEXT_KEY]["controls"]["weighted"]
    assert texts["diffmean"]["difference_interval"][0] > 0 > texts["diffmean_max"]["difference_interval"][0]
    assert texts["diffmean_max"]["f1"] > texts["random_sae"]["unit_f1"] > texts["diffmean"]["f1"]


def test_stored_bytes_are_the_files_sizes(demo):
    files = (demo["home"] / "store" / "clevr_mini" / "patch" / "clip-mini" / "sparse_activations").glob("*.parquet")
    assert sum(path.stat().st_size for path in files) == demo["summary"][KEY]["stored_bytes"]


def test_output_names_every_concept_and_where_to_look(demo):
    for word in (*demo["summary"][KEY]["concepts"], "compression ratio", "sae-assets ui", str(demo["home"] / "store")):
        assert word in demo["output"].replace("\n", "")


def test_second_run_repeats_nothing(demo):
    store = demo["home"] / "store"
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.*")}
    result = CliRunner().invoke(app, ["demo", "--home", str(demo["home"])])
    assert result.exit_code == 0 and "0 runs made, 28 were up to date" in result.output
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.*")} == before


def test_no_temporary_file_is_left(demo):
    assert not list(Path(demo["home"] / "store").rglob(".tmp-*"))


def test_files_read_with_a_glob_by_plain_tools(demo):
    """Activations join with the examples and their labels on ``example_index`` without this package."""
    store = demo["home"] / "store" / "clevr_mini"
    rows = pads.dataset(store / "patch" / "clip-mini" / "sparse_activations", format="parquet").to_table()
    examples = pads.dataset(store / "examples", format="parquet").to_table()
    assert len(rows) == 320 * 256 and len(examples) == 320
    labels = pads.dataset(store / "labels", format="parquet").to_table()
    indices = [set(table["example_index"].to_pylist()) for table in (rows, examples, labels)]
    assert indices[0] == indices[1] == indices[2]
    assert labels["example_id"].to_pylist() == examples["example_id"].to_pylist()


def test_verify_reads_everything_and_finds_damage(demo, tmp_path):
    runner = CliRunner()
    result = runner.invoke(app, ["verify", "--home", str(demo["home"]), "--json"])
    checked = json.loads(result.stdout)
    assert result.exit_code == 0 and checked["damaged"] == {} and checked["files"] == 2 * (2 * 4 + 2 * (5 * 4 + 13))
    victim = next((demo["home"] / "store").rglob("unit_stats/all.parquet"))
    content = victim.read_bytes()
    try:
        victim.write_bytes(content[: len(content) // 2])
        result = runner.invoke(app, ["verify", "--home", str(demo["home"])])
        assert result.exit_code == 1 and str(victim) in result.stderr and "Materialize it again" in result.stderr
        assert "Traceback" not in result.output
    finally:
        victim.write_bytes(content)


def test_status_and_show(demo):
    runner = CliRunner()
    status = runner.invoke(app, ["status", "--home", str(demo["home"]), "--json"])
    states = json.loads(status.stdout)["clevr_mini"]
    assert states["chunks"] == ["0000", "0001", "0002", "0003"]
    assert {state for chunks in states["stages"].values() for state in chunks.values()} == {"current"}
    shown = runner.invoke(app, ["show", "CLEVR_MINI", "Clip-Mini", "best_pairs", "--home", str(demo["home"]), "--json"])
    content = json.loads(shown.stdout)
    assert content["rows"] == 6 and len(content["head"]) == 6
    best = demo["summary"][KEY]["concepts"]
    assert {row["concept"]: row["unit_id"] for row in content["head"]} == {
        name: found["unit_id"] for name, found in best.items()
    }
    tables = runner.invoke(app, ["show", "clevr_mini", "clip-mini", "sparse_activations", "--home", str(demo["home"])])
    assert tables.exit_code == 0 and "unit_ids" in tables.output
    assert "fvu: 0.1" in tables.output and "dead_units: " in tables.output


def test_reading_in_the_readme_runs(demo, tmp_path, monkeypatch):
    """The example of a home read from Python, as it stands, on the demo's home."""
    page = (Path(sae_assets.__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "sae_assets.open" in block)
    monkeypatch.setenv("SAE_ASSETS_HOME", str(demo["home"]))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["matrix"].shape == (81920, 1024) and (tmp_path / "unit-17.png").exists()


def test_the_notebook_runs(demo, monkeypatch):
    """Its cells, as they are stored, on the demo's home: each shows what it is there for."""
    monkeypatch.setenv("SAE_ASSETS_HOME", str(demo["home"]))
    names: dict = {}
    shown = [notebook.carry_out(code, names) for code in notebook.code_cells()]
    assert notebook.code_cells() == [cell for cell in notebook.CELLS if notebook.is_code(cell)]
    assert [sorted({"image/png", "text/html"} & set(each)) for each in shown] == [
        [], ["text/html"], ["image/png"], [], ["image/png"], ["text/html"], ["text/html"]
    ]  # fmt: skip
    assert shown[0]["text/plain"] == "['clevr_mini', 'moods_mini']" and "(81920, 1024)" in shown[3]["text/plain"]


def test_tokens_are_the_pieces_of_their_text(demo):
    """Of the packaged texts: a token's characters are its text, and what fires is what the activations say."""
    run = sae_assets.open(demo["home"])["moods_mini"]["gemma-mini"]["token"]
    unit = run.unit(int(run.best_pairs().to_arrow()["unit_id"][0].as_py()))
    top = unit.top_examples(1)[0]
    marked = unit.tokens(top.example_id)
    assert all(token.text == marked.text[token.start : token.end] for token in marked)
    assert [token.end for token in marked][:-1] == [token.start for token in marked][1:]
    assert max(token.value for token in marked) == top.value
    assert sum(token.value > 0 for token in marked) == top.n_rows
