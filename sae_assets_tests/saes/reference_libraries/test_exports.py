"""Delphi and SAEDashboard read what is exported for them, by their own readers, in the reference environment."""

import json
from pathlib import Path

import sae_assets
from sae_assets.reading.exports import export_delphi, export_neuronpedia
from sae_assets_tests.helpers.homes import Places
from sae_assets_tests.reading.conftest import texts  # noqa: F401  # a fixture
from sae_assets_tests.saes.reference_libraries.libraries import MARKS, Ask

pytestmark = MARKS


def test_what_is_exported_is_read(ask: Ask, texts: Places, tmp_path: Path) -> None:  # noqa: F811
    run = sae_assets.open(texts["home"], texts["catalog"])["moods"]["gemma-mini"]["token"]
    busy = sorted(range(run.n_units), key=lambda unit: -run.unit_counts[unit])[:3]
    export_delphi(run, tmp_path / "delphi")
    export_neuronpedia(run, tmp_path / "units.json", units=busy)
    tokenizer = Path(sae_assets.__file__).parent / "demo" / "checkpoints" / "gemma-mini"
    ask("read_exports.py", tmp_path, tokenizer, *busy)
    read = json.loads((tmp_path / "read.json").read_text())
    assert read["same"] and read["features"] == busy
    assert read["entries"] == {str(unit): run.unit(unit).n_rows for unit in busy}
    assert read["tokens"][0] == len(run.example_ids) and set(read["records"]) <= set(read["entries"])
    every = " ".join(run.texts)
    for unit, record in read["records"].items():
        assert record["largest"] == run.unit(int(unit)).top_examples(1)[0].value
        assert record["frequency"] == run.unit(int(unit)).n_rows / (read["tokens"][0] * read["tokens"][1])
        for example in record["examples"]:
            assert example.replace("<bos>", "").split("<pad>")[0].strip() in every
