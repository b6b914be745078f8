"""A data set is compared with what was published: counts per split and concept, and on demand every file.

Plain values for the command line and tests. Nothing is stored, and no model is needed.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from sae_assets.artifacts import SPLITS
from sae_assets.artifacts.detection import always_positive_f1
from sae_assets.catalog import Dataset
from sae_assets.datasets import ImageReader, Reader, TextReader, open_dataset
from sae_assets.datasets.links import expect_inside
from sae_assets.datasets.records import read_metadata, split_advice
from sae_assets.errors import DatasetError
from sae_assets.progress import track

SHOWN = 3  # missing files that are named
DIGITS = 4  # of published figures
NEAR = 0.85  # similarity of a misspelling: colour::blue passes for color::blue, color::red does not


def inspect_dataset(entry: Dataset, *, files: bool = False) -> dict[str, Any]:
    """Count examples and labels and, with ``files``, also read every image, mask, text and span.

    ``differences`` lists where counts or F1 are not as published, ``problems`` what no pipeline can work with, and
    ``bad`` what could not be read; ``sound`` says whether all three are empty. ``other_labels`` are labels that are not
    concepts, with their count and the concept with the nearest spelling. Where there is one, this is a problem; others
    do not make a data set unsound, since it may well have more labels than were asked for; nor do ``remarks``, on what
    the files hold beside the data set. A data set that cannot be opened has only ``error`` and ``sound``.
    """
    problems: list[str] = []
    try:
        try:
            reader = open_dataset(entry)
        except DatasetError as error:  # published counts need no more than the table, which is there first
            if (alone := _table_alone(entry)) is None:
                raise
            reader, files = alone, False
            problems.append(str(error))
        else:
            problems += _missing(reader)
        report: dict[str, Any] = {"layout": entry.layout, "modality": entry.modality, **_counts(reader)}
        report["differences"] = _differences(report, entry)
        report["problems"] = [*problems, *_links(entry, reader)]
        if not report["splits"]["cal"]:
            report["problems"].append(f"no example is in split 'cal': {split_advice(entry)}")
        report["other_labels"] = {
            label: {"count": count, "nearest": next(iter(get_close_matches(label, reader.concepts, 1, NEAR)), None)}
            for label, count in sorted(reader.other_labels.items(), key=lambda item: (-item[1], item[0]))
        }
        report["problems"] += [
            f"{label!r} ({other['count']:,}) is no concept; did you mean {other['nearest']!r}?"
            for label, other in report["other_labels"].items()
            if other["nearest"]
        ]
        if reader.records and not any(any(record.labels) for record in reader.records):
            names = ", ".join(map(repr, [*report["other_labels"]][:SHOWN]))
            hint = f"; the labels found are {names}: class numbers, or names of something else?" if names else ""
            report["problems"].append(f"no concept is true of any example{hint}")
        report["files"] = _read_all(reader) if files else None
        report["problems"] += _never_shown(report, entry)
        report["remarks"] = [] if problems else reader.remarks()
    except (DatasetError, OSError) as error:
        return {"error": str(error), "sound": False}
    report["published"] = entry.published.model_dump() if entry.published else None
    bad = report["files"]["bad"] if report["files"] else []
    report["sound"] = not (report["differences"] or report["problems"] or bad)
    return report


class _Table(Reader):
    """A data set of which only the table can be read: its counts, and nothing that needs another file."""

    def content_hash(self, example_id: str) -> str:
        raise DatasetError(f"The contents of {example_id!r} were asked for where only the table could be read.")

    def region_hashes(self, example_id: str) -> dict[str, str]:
        raise DatasetError(f"The contents of {example_id!r} were asked for where only the table could be read.")


def _table_alone(entry: Dataset) -> Reader | None:
    """Return what ``metadata.csv`` alone says; None where there is none, or it has problems of its own."""
    if not (entry.root / "metadata.csv").is_file():
        return None
    try:
        return _Table(entry, read_metadata(entry, f"{entry.modality}_path"))
    except DatasetError:
        return None


def _links(entry: Dataset, reader: Reader) -> list[str]:
    try:
        expect_inside(entry, reader)
    except DatasetError as error:
        return [str(error)]
    return []


def _missing(reader: Reader) -> list[str]:
    """Return how many files are missing, and which come first."""
    try:
        missing = [(record, problem) for record in reader.records for problem in reader.missing(record)]
    except DatasetError as error:  # annotations that cannot be read
        return [str(error)]
    if not missing:
        return []
    first = "; ".join(f"{record.origin or record.example_id}: {problem}" for record, problem in missing[:SHOWN])
    examples = len({record.example_id for record, _ in missing})
    ellipsis = " …" if len(missing) > SHOWN else ""
    return [f"{examples:,} of {len(reader.records):,} examples lack a file ({first}{ellipsis})"]


def _counts(reader: Reader) -> dict[str, Any]:
    splits = Counter(record.split for record in reader.records)
    positives = {
        split: [
            sum(record.labels[position] for record in reader.records if record.split == split)
            for position in range(len(reader.concepts))
        ]
        for split in SPLITS
    }
    total = splits["test"]
    # Where calling everything positive is right, or never is, there is nothing to detect.
    always = [always_positive_f1(n, total) if 0 < n < total else None for n in positives["test"]]
    weights = [n if figure is not None else 0 for n, figure in zip(positives["test"], always, strict=True)]
    weighted = sum(n * (figure or 0) for n, figure in zip(weights, always, strict=True)) / max(sum(weights), 1)
    return {
        "examples": len(reader.records),
        "splits": {split: splits[split] for split in SPLITS},
        "located": reader.has_regions,
        "concepts": {
            concept: {
                **{split: positives[split][position] for split in SPLITS},
                "always_positive_f1": always[position],
            }
            for position, concept in enumerate(reader.concepts)
        },
        "always_positive_f1": weighted if sum(weights) else None,
    }


def _differences(report: dict[str, Any], entry: Dataset) -> list[str]:
    if entry.published is None:
        return []
    published = entry.published.model_dump()
    differences = [
        f"{split}: {report['splits'][split]:,} examples, published are {published[split]:,}"
        for split in SPLITS
        if report["splits"][split] != published[split]
    ]
    published_f1, figure = published["always_positive_f1"], report["always_positive_f1"]
    if published_f1 is not None and (figure is None or f"{figure:.{DIGITS}f}" != f"{published_f1:.{DIGITS}f}"):
        text = "none" if figure is None else f"{figure:.{DIGITS}f}"
        differences.append(f"always-positive F1 on test: {text}, published is {published_f1:.{DIGITS}f}")
    return differences


def _read_all(reader: Reader) -> dict[str, Any]:
    """Read every example, and count positives without a region, because no row of them is positive."""
    bad: list[str] = []
    lengths: list[int] = []
    empty: Counter[str] = Counter()
    for record in track(reader.records, "files"):
        try:
            located = _read(reader, record.example_id, lengths)
        except (DatasetError, OSError) as error:
            bad.append(str(error))
            continue
        if reader.has_regions:
            empty.update(c for c, true in zip(reader.concepts, record.labels, strict=True) if true and c not in located)
    report: dict[str, Any] = {"read": len(reader.records), "bad": bad, "positives_without_region": dict(empty)}
    if isinstance(reader, TextReader):
        report["characters"] = {
            "min": min(lengths, default=None),
            "median": statistics.median(lengths) if lengths else None,
            "max": max(lengths, default=None),
        }
    return report


def _never_shown(report: dict[str, Any], entry: Dataset) -> list[str]:
    """Return concepts whose number or colour in ``labels`` stands in no mask of an example of which they are true."""
    if not isinstance(entry.labels, Mapping) or report["files"] is None or report["files"]["bad"]:
        return []
    return [
        f"no mask of the {count:,} positive examples of {concept!r} holds "
        f"{', '.join(map(str, entry.labels[concept]))}, as `labels` says"
        for concept, count in report["files"]["positives_without_region"].items()
        if count == sum(report["concepts"][concept][split] for split in SPLITS)
    ]


def _read(reader: Reader, example: str, lengths: list[int]) -> Iterable[str]:
    """Return concepts that are found somewhere in the example."""
    if isinstance(reader, TextReader):
        lengths.append(len(reader.text(example)))
        return [concept for concept, spans in reader.spans(example).items() if spans]
    assert isinstance(reader, ImageReader)
    reader.image(example)
    masks = reader.masks(example) if reader.has_regions else {}
    return [concept for concept, mask in masks.items() if mask.getbbox()]
