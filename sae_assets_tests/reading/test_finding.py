"""What is found is what a dense search finds."""

import gzip
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets.errors import CatalogError, DatasetError, MismatchError
from sae_assets.reading import Results, activations
from sae_assets.reading.files import columns_of
from sae_assets.reading.finding import read_labels
from sae_assets.reading.tables import Table
from sae_assets_tests.docs.test_docs import documented_keys
from sae_assets_tests.helpers.homes import Places, invoke
from sae_assets_tests.test_import_cost import loaded_by

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("small-texts")]


def test_by_words(text_results: Results) -> None:
    """F1 of firing on the words' tokens, against a loop over all tokens; whatever by-unit file there is."""
    fires = text_results.activations().to_scipy().toarray() > 0
    rows = text_results.located_tokens
    word = max(re.findall(r"\w{5,}", " ".join(text_results.texts).lower()), key=len)
    inside = np.zeros(len(fires), bool)
    for row in range(len(fires)):
        text = text_results.texts[rows.example[row]]
        for match in re.finditer(rf"\b{word}\b", text, re.IGNORECASE):
            inside[row] |= rows.start[row] < match.end() and rows.end[row] > match.start()
    hits = (fires & inside[:, None]).sum(0)
    f1 = 2 * hits / np.maximum(fires.sum(0) + inside.sum(), 1)
    order = sorted((unit for unit in range(len(f1)) if hits[unit]), key=lambda unit: (-f1[unit], unit))[:8]
    for by_unit in (True, False):
        if not by_unit:
            text_results.__dict__["by_unit"] = None
            text_results.__dict__.pop("unit_counts", None)
        got = text_results.find(words=word.upper(), n=8).to_arrow().to_pydict()
        assert got["unit_id"] == order and got["f1"] == f1[order].tolist()
        assert got["recall"] == (hits[order] / inside.sum()).tolist() and got["n_rows"] == fires.sum(0)[order].tolist()
    with pytest.raises(CatalogError, match="is nowhere"):
        text_results.find(words="xyzzy")
    with pytest.raises(CatalogError, match="expected a word"):
        text_results.find(words="  ")


def test_words_are_found_without_labels_and_values(text_results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the table of spans nor values of activations are read: they are most of what there is to read."""
    texts = text_results
    results = Results(texts.store, texts.entry, texts.model, texts.token_kind, texts.model_entry)
    asked = []

    def noted(store: Any, address: Any, examples: Any = None, columns: Any = None) -> Any:
        asked.append((address.stage, columns))
        return columns_of(store, address, examples, columns)

    monkeypatch.setattr(activations, "columns_of", noted)
    monkeypatch.setattr(type(results.reader), "spans", None)
    monkeypatch.setattr(type(results.reader), "read_regions", None)
    assert len(results.find(words=re.findall(r"\w{5,}", results.texts[0])[0]))
    assert asked and all("values" not in columns for stage, columns in asked if stage == "sparse_activations")


@pytest.mark.parametrize("question", ["words='my'", "concept='joy'", "example=results.example_ids[0]"])
def test_a_first_question_loads_nothing_that_it_can_do_without(texts: Places, question: str) -> None:
    """pyarrow loads pandas for what ``storage.arrow`` does: that was most of the time of a first answer."""
    statement = (
        f"import sae_assets; results = sae_assets.open({str(texts['home'])!r}, {str(texts['catalog'])!r})"
        f"['moods']['gemma-mini']['token']; assert len(results.find({question}))"
    )
    loaded = loaded_by(statement)
    assert not loaded & {"torch", "dagster", "transformers", "pandas", "scipy"} and "pyarrow" in loaded


def test_by_example(text_results: Results) -> None:
    """By the share of a unit's rows that lie in the example; a copy that is not in the data set counts as more."""
    dense = text_results.activations().to_scipy().toarray()
    example = text_results.located_tokens.example
    here, everywhere = (dense[example == 4] > 0).sum(0), (dense > 0).sum(0)
    share = here / np.maximum(everywhere, 1)
    largest = dense[example == 4].max(0)
    expected = sorted((unit for unit in range(len(share)) if here[unit]),
                      key=lambda unit: (-share[unit], -here[unit], -largest[unit], unit))[:6]  # fmt: skip
    got = text_results.find(example=text_results.example_ids[4], n=6).to_arrow().to_pydict()
    assert got["unit_id"] == expected and got["share"] == share[expected].tolist()
    assert np.float32(got["value"]).tolist() == largest[expected].tolist()
    copy = text_results.find(example=text_results.texts[4], n=6).to_arrow().to_pydict()
    shares = here / np.maximum(everywhere + here, 1)
    assert copy["share"] == shares[copy["unit_id"]].tolist() and copy["share"][0] == shares.max()


def test_by_concept(text_results: Results) -> None:
    """Of rows where the data say where it is; else the best tail fraction of each unit."""
    table = text_results.alignment().to_polars()
    best = (
        table.filter(table["concept"] == "joy")
        .drop_nulls("cal_f1")
        .sort(["cal_f1", "unit_id"], descending=[True, False])
    )
    got = text_results.find(concept="JOY", n=4).to_arrow()
    assert got["unit_id"].to_pylist() == best["unit_id"][:4].to_list()
    text_results.has = lambda stage: stage != "row_alignment"  # type: ignore[method-assign]
    grid = text_results.table("detection_stats").to_polars()
    grid = grid.filter(grid["concept"] == "joy").drop_nulls("cal_f1")
    units = grid.group_by("unit_id").max().sort(["cal_f1", "unit_id"], descending=[True, False])
    got = text_results.find(concept="joy", n=4).to_arrow()
    assert got["unit_id"].to_pylist() == units["unit_id"][:4].to_list()
    assert got["cal_f1"].to_pylist() == units["cal_f1"][:4].to_list()
    cutoffs = text_results.table("thresholds").to_polars().select("concept", "unit_id", "threshold").rows()
    cells = zip(["joy"] * 4, got["unit_id"].to_pylist(), got["threshold"].to_pylist(), strict=True)
    assert set(cells) <= set(cutoffs)
    with pytest.raises(CatalogError, match="Unknown concept"):
        text_results.find(concept="happiness")
    stored, fewer = text_results.table, text_results.table("thresholds").to_arrow()
    fewer = fewer.filter(pc.not_equal(fewer["unit_id"], got["unit_id"][0]))
    text_results.table = lambda stage: Table(fewer) if stage == "thresholds" else stored(stage)  # type: ignore[method-assign]
    with pytest.raises(MismatchError, match="Run: sae-assets materialize"):
        text_results.find(concept="joy")


def test_labels_of_every_form(tmp_path: Path) -> None:
    """Neuronpedia's list, its lines, packed ones, objects, and Delphi's folder."""
    listed = [
        {"modelId": "m", "layer": "2", "index": "17", "description": "red  things"},
        {"feature": 3, "explanation": "blue"}, {"index": 17, "description": "apples"}, {"index": 5}, {"other": 1}, 7,
    ]  # fmt: skip
    expected = {17: "red things; apples", 3: "blue"}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    (tmp_path / "lines.jsonl").write_text("\n".join(map(json.dumps, listed)) + "\n")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress((tmp_path / "lines.jsonl").read_bytes()))
    (tmp_path / "inside.json").write_text(json.dumps({"explanations": listed}))
    for name in ("list.json", "lines.jsonl", "packed.jsonl.gz", "inside.json"):
        assert read_labels(tmp_path / name) == expected, name
    (tmp_path / "object.json").write_text(json.dumps({"layers.2_latent17": "red", "3": "blue", "x": "no"}))
    assert read_labels(tmp_path / "object.json") == {17: "red", 3: "blue"}
    folder = tmp_path / "delphi"
    folder.mkdir()
    (folder / "layers.2_latent17.txt").write_text('"red things"')
    (folder / "layers.2_latent3.txt").write_text("plain text")
    (folder / "notes.txt").write_text("no")
    assert read_labels(folder) == {17: "red things", 3: "plain text"}
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "bad.gz").write_bytes(b"no")
    (tmp_path / "none.json").write_text("[]")
    for name in ("bad.json", "bad.gz", "none.json", "gone.json"):
        with pytest.raises(DatasetError, match="labels of units"):
            read_labels(tmp_path / name)


def test_by_label(text_results: Results, tmp_path: Path) -> None:
    labels = {17: "glad and red", 3: "red", 4: "blue", 99999: "red of another SAE"}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    got = text_results.find(label="Red glad", labels=tmp_path / "labels.json").to_arrow().to_pydict()
    assert got == {"unit_id": [17, 3], "matched": [1.0, 0.5], "label": ["glad and red", "red"]}
    with pytest.raises(CatalogError, match="has a word of"):
        text_results.find(label="green", labels=tmp_path / "labels.json")


def test_the_command(texts: Places, text_results: Results, tmp_path: Path) -> None:
    def found(*words: str) -> dict:
        result = invoke(texts, "find", "moods", "gemma-mini", *words, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    (tmp_path / "labels.json").write_text('{"3": "red", "1234": "red hot"}')
    (tmp_path / "text.txt").write_text(text_results.texts[2])
    asked = (["--concept", "joy"], ["--words", "the"], ["--example", text_results.example_ids[0]])
    for words in (*asked, ["--example", str(tmp_path / "text.txt")]):
        assert set(found(*words)) == documented_keys()["find"] and len(found(*words)["units"]) == 10
    result = invoke(texts, "find", "moods", "gemma-mini", "--label", "red", "--labels", str(tmp_path / "labels.json"))
    of, title, *lines, advised = result.output.splitlines()
    assert of == "moods/token/gemma-mini" and title == "units labelled 'red', by the share of its words in the label"
    lines = [line.split(maxsplit=2) for line in lines]
    assert lines == [["unit_id", "matched", "label"], ["3", "1.000", "red"], ["1234", "1.000", "red hot"]]
    command = shlex.split(advised.partition("sae-assets ")[2])  # as it stands there, home and catalog with it
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0 and "unit 3" in shown.output.splitlines()[0]
    for words, of in ((asked[0], "rows"), (asked[1], "tokens"), (asked[2], "rows")):
        said = invoke(texts, "find", "moods", "gemma-mini", *words).output.splitlines()
        assert of in said[1] and max(map(len, said[:-1])) <= 80
    for words, message in (
        ([], "found none"),
        ([*asked[0], *asked[1]], "found concept and words"),
        (["--label", "red"], "needs the file"),
        (["--example", "text_001"], "has no example 'text_001'"),
    ):
        result = invoke(texts, "find", "moods", "gemma-mini", *words)
        assert result.exit_code == 2 and message in result.stderr
