"""Counts, always-positive F1 by hand, the comparison with what was published, and every bad file named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from sae_assets.catalog import load_catalog
from sae_assets.cli import app
from sae_assets.datasets.inspection import inspect_dataset
from sae_assets.datasets.records import split_advice
from sae_assets_tests.datasets.layouts import entry_of, write_csv, write_texts, write_words

# On test: joy is true of 1 of 4, love of 3 of 4, fear of none, and of cal nothing is taken.
SPLITS = "train cal cal test test test test"
LABELS = {"joy": [1, 1, 1, 1, 0, 0, 0], "love": [0, 1, 1, 1, 1, 1, 0], "fear": [1, 0, 0, 0, 0, 0, 0]}
JOY, LOVE = 2 * (1 / 4) / (1 + 1 / 4), 2 * (3 / 4) / (1 + 3 / 4)  # 2π / (1 + π): 0.4 and 6/7
WEIGHTED = (1 * 0.4 + 3 * 6 / 7) / 4  # by positives on test; fear has none and counts neither way
CORRECT = {"train": 1, "cal": 2, "test": 4, "always_positive_f1": round(WEIGHTED, 4)}


def texts(root: Path) -> Path:
    write_texts(root, ["a b", "é", "😀", "b a", "", "abc", "x"], LABELS, SPLITS)
    words = [[1, "a", "joy"], [1, "b", "fear"], [2, "é", "joy"], [3, "😀", "love"], [4, "b", "joy"], [4, "a", "love"]]
    write_words(root, [*words, [6, "abc", "love"], [7, "x", ""]], "paragraph_id word emotion")
    return root


def inspected(root: Path, files: bool = False, **changes: Any) -> dict[str, Any]:
    return inspect_dataset(entry_of(root, "words", tuple(LABELS), **changes), files=files)


def test_counts_and_figures_by_hand(tmp_path: Path) -> None:
    """Per split and concept; the figure is the pipeline's own, over test, weighted by its positives."""
    found = inspected(texts(tmp_path))
    assert (found["examples"], found["splits"]) == (7, {"train": 1, "cal": 2, "test": 4})
    assert {name: [counts[s] for s in ("train", "cal", "test")] for name, counts in found["concepts"].items()} == {
        "joy": [1, 2, 1],
        "love": [0, 2, 3],
        "fear": [1, 0, 0],
    }
    figures = {name: counts["always_positive_f1"] for name, counts in found["concepts"].items()}
    assert figures == {"joy": pytest.approx(JOY, abs=1e-15), "love": pytest.approx(LOVE, abs=1e-15), "fear": None}
    assert found["always_positive_f1"] == pytest.approx(WEIGHTED, abs=1e-15) == pytest.approx(0.7428571428571429)
    assert found["sound"] and found["files"] is None and found["published"] is None


def test_figure_without_any_positive(tmp_path: Path) -> None:
    """A figure that does not exist is null, and never as published."""
    write_texts(tmp_path, ["a"], {"joy": [0]})
    write_words(tmp_path, [[1, "a", 0]], "paragraph_id word joy")
    entry = entry_of(tmp_path, "words", ("joy",), published={"train": 0, "cal": 1, "test": 0, "always_positive_f1": 0})
    found = inspect_dataset(entry)
    assert found["always_positive_f1"] is None
    assert found["differences"] == ["always-positive F1 on test: none, published is 0.0000"]


def test_published_figures_that_agree(tmp_path: Path) -> None:
    """Counts exactly, F1 to four digits."""
    found = inspected(texts(tmp_path), published=CORRECT)
    assert found["sound"] and found["differences"] == []


@pytest.mark.parametrize(
    ("preset", "concept", "positives"), [("sarcasm", "sarcasm", 140), ("isarcasm", "sarcastic", 178)]
)
def test_published_figure_of_one_concept_follows_from_its_marginal_count(
    tmp_path: Path, preset: str, concept: str, positives: int
) -> None:
    """As many examples as published, and the one count of test positives that gives the published figure.

    One more or one less gives another figure at four digits, so the count is known though the files are not here.
    """
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"datasets": {preset: {"preset": preset, "root": str(tmp_path / "data")}}}))
    entry = load_catalog(path).datasets[preset]
    assert entry.published is not None
    counts = {split: getattr(entry.published, split) for split in ("train", "cal", "test")}
    splits = [split for split, count in counts.items() for _ in range(count)]
    write_texts(tmp_path / "data", ["x"] * len(splits), {concept: [0] * len(splits)}, " ".join(splits))
    for count, sound in ((positives, True), (positives + 1, False), (positives - 1, False)):
        labels = [int(split == "test" and place >= len(splits) - count) for place, split in enumerate(splits)]
        rows = [
            {"text_path": f"texts/text_{place}.txt", concept: label, "split": split}
            for place, (label, split) in enumerate(zip(labels, splits, strict=True))
        ]
        write_csv(tmp_path / "data" / "metadata.csv", rows)
        write_words(
            tmp_path / "data",
            [[place, "x", label] for place, label in enumerate(labels, start=1)],
            f"paragraph_id word {concept}",
        )
        found = inspect_dataset(entry)
        assert found["splits"] == counts and found["sound"] == sound, found["differences"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": 2}, "train: 1 examples, published are 2"),
        ({"test": 3}, "test: 4 examples, published are 3"),
        ({"always_positive_f1": 0.743}, "always-positive F1 on test: 0.7429, published is 0.7430"),
    ],
)
def test_published_figures_that_differ(tmp_path: Path, change: dict, said: str) -> None:
    """One wrong figure is one difference."""
    found = inspected(texts(tmp_path), published={**CORRECT, **change})
    assert found["differences"] == [said] and not found["sound"]


def test_every_text_and_span_is_read(tmp_path: Path) -> None:
    """Lengths in characters, and positives that no word stands for."""
    files = inspected(texts(tmp_path), files=True)["files"]
    assert files["characters"] == {"min": 0, "median": 1, "max": 3}
    assert files["bad"] == [] and files["read"] == 7
    assert files["positives_without_region"] == {"love": 2, "joy": 1}


def test_bad_files_are_all_named(tmp_path: Path) -> None:
    """A text that is not UTF-8 and one whose words are others; the rest is still read."""
    (texts(tmp_path) / "texts/text_0.txt").write_bytes(b"\xff")
    (tmp_path / "texts/text_1.txt").write_text("e")
    found = inspected(tmp_path, files=True)
    assert len(found["files"]["bad"]) == 2 and not found["sound"]
    assert "'texts/text_0.txt' is not UTF-8" in found["files"]["bad"][0]
    assert "the text's word is 'e'" in found["files"]["bad"][1]
    assert inspected(tmp_path)["sound"]


def test_images_and_masks_are_read(tmp_path: Path) -> None:
    """A black mask is a positive that nothing shows; a broken image is bad."""
    rows = [{"image": f"{name}.png", "wing": 1, "split": "test"} for name in "abc"]
    write_csv(tmp_path / "birds.csv", rows)
    (tmp_path / "masks").mkdir()
    for name, level in (("a", 0), ("b", 255), ("c", 255)):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{name}.png")
        Image.new("L", (4, 4), level).save(tmp_path / "masks" / f"{name}.png")
    (tmp_path / "c.png").write_text("no image")
    found = inspect_dataset(entry_of(tmp_path, "table", ("wing",)), files=True)
    assert found["files"]["positives_without_region"] == {"wing": 1}
    assert len(found["files"]["bad"]) == 1 and "'c.png' is not a readable image" in found["files"]["bad"][0]


def catalog(root: Path, **changes: Any) -> str:
    entry = {
        "root": str(root), "layout": "words", "modality": "text", "concepts": list(LABELS),
        "models": ["gemma"], **changes,
    }  # fmt: skip
    file = root.parent / "catalog.yaml"
    file.write_text(yaml.safe_dump({"datasets": {"mine": entry}}), encoding="utf-8")
    return str(file)


def test_empty_cal_split_is_not_sound(tmp_path: Path) -> None:
    """Nothing can be calibrated; what to do depends on where the layout says splits."""
    write_texts(tmp_path, ["a", "b"], {"joy": [0, 1]}, "train test")
    write_words(tmp_path, [[1, "a", 0], [2, "b", 1]], "paragraph_id word joy")
    found = inspect_dataset(entry_of(tmp_path, "words", ("joy",)))
    assert not found["sound"] and found["differences"] == []
    assert (
        "no example is in split 'cal': mark some examples 'cal' in column 'split' of metadata" in found["problems"][0]
    )
    assert "of the JSON lines" in split_advice(entry_of(tmp_path, "spans", ("joy",)))
    drawn = entry_of(tmp_path, "spans", ("joy",), split={"train": 0.8, "cal": 0.1, "test": 0.1})
    assert "raise the share `split.cal`" in split_advice(drawn)


def test_labels_of_which_none_is_a_concept(tmp_path: Path) -> None:
    """Class numbers, say: every example would be negative for everything."""
    rows = [{"id": str(n), "text": "ab", "split": "cal", "labels": [str(n % 2)], "spans": []} for n in range(3)]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = inspect_dataset(entry_of(tmp_path, "spans", ("joy", "anger")))
    assert not found["sound"]
    assert "no concept is true of any example; the labels found are '0', '1': class numbers" in found["problems"][0]


def test_labels_that_are_no_concept_are_counted(tmp_path: Path) -> None:
    """In a column of labels, in spans, and of words; what is spelt nearly as a concept is a problem."""
    rows = [{"id": str(n), "text": "ab", "split": "cal", "labels": label} for n, label in enumerate(
        [["color::blue"], ["colour::blue", "neutral"], ["colour::blue"], ["color::red"]]
    )]  # fmt: skip
    rows[0]["spans"] = [[0, 1, "neutral"]]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = inspect_dataset(entry_of(tmp_path, "spans", ("color::blue",)))
    assert found["problems"] == ["'colour::blue' (2) is no concept; did you mean 'color::blue'?"] and not found["sound"]
    assert found["other_labels"] == {
        "colour::blue": {"count": 2, "nearest": "color::blue"},
        "neutral": {"count": 2, "nearest": None},
        "color::red": {"count": 1, "nearest": None},
    }
    found = inspect_dataset(entry_of(texts(tmp_path / "words"), "words", ("joy",)))
    assert {label: other["count"] for label, other in found["other_labels"].items()} == {"love": 3, "fear": 1}


def test_labels_that_are_no_concept_are_printed(tmp_path: Path) -> None:
    """The most frequent of those that look like no concept."""
    file = catalog(texts(tmp_path / "data"), concepts=["joy", "love"], published=None)
    result = CliRunner().invoke(app, ["inspect", "mine", "--catalog", file])
    assert result.exit_code == 0 and "1 other label(s) that are no concept: fear (1)" in result.stdout


@pytest.mark.parametrize("options", [[], ["--json"], ["--files"], ["--files", "--json"]])
def test_command_ends_well_where_all_agrees(tmp_path: Path, options: list[str]) -> None:
    """Exit code 0, with the figures beside the published ones."""
    file = catalog(texts(tmp_path / "data"), published=CORRECT)
    result = CliRunner().invoke(app, ["inspect", "MINE", "--catalog", file, *options])
    assert result.exit_code == 0, result.output
    if "--json" in options:
        assert json.loads(result.stdout)["mine"]["splits"] == {"train": 1, "cal": 2, "test": 4}
    else:
        assert result.stdout.count("0.7429") == 2
        assert ("characters per text: 0 to 3" in result.stdout) == ("--files" in options)


def test_command_fails_where_figures_differ(tmp_path: Path) -> None:
    """Exit code 1, and what differs."""
    file = catalog(texts(tmp_path / "data"), published={**CORRECT, "cal": 3})
    result = CliRunner().invoke(app, ["inspect", "mine", "--catalog", file])
    assert result.exit_code == 1
    assert "cal: 2 examples, published are 3" in result.stdout


def test_command_fails_for_bad_files_and_missing_data(tmp_path: Path) -> None:
    """Exit code 1; a data set that cannot be opened does not hide the others; an unknown one is a request's mistake."""
    file = catalog(texts(tmp_path / "data"))
    (tmp_path / "data/texts/text_0.txt").write_bytes(b"\xff")
    assert CliRunner().invoke(app, ["inspect", "mine", "--catalog", file]).exit_code == 0
    assert CliRunner().invoke(app, ["inspect", "mine", "--catalog", file, "--files"]).exit_code == 1
    file = catalog(tmp_path / "nowhere")
    result = CliRunner().invoke(app, ["inspect", "mine", "clevr_mini", "--catalog", file])
    assert result.exit_code == 1
    assert "does not exist" in result.stdout and "color::blue" in result.stdout
    assert CliRunner().invoke(app, ["inspect", "nobody", "--catalog", file]).exit_code == 2


def test_published_counts_need_only_the_table(tmp_path: Path) -> None:
    """Before images and annotations are there: counts are compared, what is missing is one line and not a wall."""
    rows = [{"image_path": f"{n}.jpg", "car": n % 2, "split": "test" if n % 3 else "cal"} for n in range(30)]
    write_csv(tmp_path / "metadata.csv", rows)
    published = {"train": 0, "cal": 10, "test": 20}
    for layout in ("coco", "clevr"):
        found = inspect_dataset(entry_of(tmp_path, layout, ("car",), published=published), files=layout == "coco")
        assert found["splits"] == published and found["differences"] == [] and not found["sound"]
        (problem,) = found["problems"]
        if layout == "coco":
            assert "no annotations/instances*.json" in problem and found["files"] is None
        else:
            assert problem.startswith(
                "30 of 30 examples lack a file (line 2: column 'image_path': file '0.jpg' does not"
            )
            assert problem.count("does not exist") == 3 and problem.endswith(" …)")
    rows[3]["split"] = "dev"
    write_csv(tmp_path / "metadata.csv", rows)
    assert "found 'dev'" in inspect_dataset(entry_of(tmp_path, "clevr", ("car",)))["error"]
