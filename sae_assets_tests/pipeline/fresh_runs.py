"""Small data sets of images and texts, and runs of the whole pipeline on them in new homes.

What is tested of the runs stands in the tests. Writing of catalogs and of the image data set lives in ``small``.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

import sae_assets
from sae_assets.cli import app

MOODS = Path(sae_assets.__file__).parent / "demo" / "data" / "moods_mini"
MOOD_NAMES = ["joy", "anger", "fear", "gratitude", "sarcasm", "regret"]


def make_texts(folder: Path, n: int) -> Path:
    """The first ``n`` packaged texts with their words, splits interleaved cal, test, train so that each is there."""
    (folder / "texts").mkdir(parents=True)
    for name in ("metadata.csv", "words.csv"):
        with (MOODS / name).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        rows = rows[:n] if name == "metadata.csv" else [row for row in rows if int(row["paragraph_id"]) <= n]
        for place, row in enumerate(rows):
            if name == "metadata.csv":
                row["split"] = ("cal", "test", "train")[place % 3]
                shutil.copy(MOODS / row["text_path"], folder / row["text_path"])
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def text_catalog(path: Path, root: Path, **entry: Any) -> Path:
    """A catalog with one data set ``small`` of texts."""
    dataset = {
        "root": str(root), "layout": "words", "modality": "text", "concepts": MOOD_NAMES, "models": ["gemma-mini"],
        "token_kinds": ["token"], **entry,
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"datasets": {"small": dataset}}), encoding="utf-8")
    return path


def run(home: Path, catalog: Path, *arguments: str) -> Path:
    """Materialize everything of ``small`` in a new home; the folder that holds its files."""
    command = ["materialize", "-d", "small", "--home", str(home), "--catalog", str(catalog), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return home / "store" / "small"
