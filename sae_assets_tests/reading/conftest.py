"""A small home of texts, with activations by unit: what exports, finding and detectors of texts are tried on."""

import csv
import shutil
from pathlib import Path

import pytest
import yaml

import sae_assets
from sae_assets.reading import Results
from sae_assets_tests.helpers.homes import Places, invoke, places_in
from sae_assets_tests.helpers.swift import swift_homes

PACKAGED = Path(sae_assets.__file__).parent / "demo" / "data" / "moods_mini"
MOODS = ["joy", "anger", "fear", "gratitude", "sarcasm", "regret"]
N_TEXTS = 18


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The first packaged texts, everything up to best pairs made of their tokens."""
    places = places_in(tmp_path_factory.mktemp("texts"))
    with (PACKAGED / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:N_TEXTS]
    for number, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[number % 3]
        target = places["root"] / row["text_path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGED / row["text_path"], target)
    with (places["root"] / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = (PACKAGED / "words.csv").read_text().splitlines(keepends=True)
    kept = [line for line in words[1:] if int(line.split(",")[0]) <= N_TEXTS]
    (places["root"] / "words.csv").write_text("".join([words[0], *kept]))
    entry = {
        "root": str(places["root"]), "layout": "words", "modality": "text", "concepts": MOODS, "token_kinds": ["token"],
        "models": ["gemma-mini"], "chunk_size": 10, "unit_rows": True,
        "detection": {"min_support": 1, "n_permutations": 0},
    }  # fmt: skip
    places["catalog"].write_text(yaml.safe_dump({"datasets": {"moods": entry}}))
    with swift_homes():
        result = invoke(places, "materialize", "-d", "moods", "--to", "best_pairs")
    assert result.exit_code == 0, result.output
    return places


@pytest.fixture
def text_results(texts: Places) -> Results:
    """The results of these texts, opened anew."""
    return sae_assets.open(texts["home"], texts["catalog"])["moods"]["gemma-mini"]["token"]
