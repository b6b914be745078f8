"""A table says which concepts are true of an example: by 0/1 columns, or by one column with a list of labels.

Shared by the layouts whose columns the catalog names. Labels that are not concepts of the data set are skipped but
counted, so that ``inspect`` can report them.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_assets import plain_json
from sae_assets.catalog import Dataset
from sae_assets.datasets.tables import check_columns, missing_column, nearest, zero_or_one
from sae_assets.errors import DatasetError
from sae_assets.wording import looks, spelt

LABELS = "labels"
CERTAIN = ",|;\t\n，｜；、"  # lists have these, and hardly any name
SCORED = re.compile(r"\s*[:=(]\s*[-+]?[\d.,]+\s*%?\s*\)?\s*$")  # a number behind a label, and no part of its name
WRAPPING = "\"'`“”‘’«»()[]{}<>.,;:!?*"  # what may stand around a label and be none of it


class LabelReader:
    """Reads the labels of one line after another, and remembers every label it has met."""

    def __init__(
        self,
        entry: Dataset,
        source: Path,
        columns: Sequence[str],
        classes: Mapping[str, Sequence[str]],
        *,
        spans_suffice: bool = False,
    ):
        """Find where the labels are: the column that the catalog names, a 0/1 column per concept, a column ``labels``,
        the one column of classes, or (``spans_suffice``) the spans alone.

        Raises:
            DatasetError: none of these; every concept's column is named with the nearest one there is. The column that
                the catalog names is not there, or columns are named twice.
        """
        self.concepts, self._classes = entry.concepts, classes
        self.column: str | None = entry.columns.labels
        self.per_concept = False
        self._separator = entry.columns.label_separator
        self._seen: Counter[str] = Counter()
        if self.column is not None:
            check_columns(entry.name, source, columns, [self.column])
            return
        missing = [concept for concept in self.concepts if concept not in columns]
        if not missing:
            check_columns(entry.name, source, columns, self.concepts)  # named twice, one would be taken silently
            self.per_concept = True
        elif len(missing) == len(self.concepts) and LABELS in columns:
            self.column = LABELS
        elif len(missing) == len(self.concepts) and len(classes) == 1:
            self.column = next(iter(classes))
        elif not (spans_suffice and len(missing) == len(self.concepts)):
            raise DatasetError(
                f"Data set {entry.name!r}: {source} lacks {len(missing)} column(s), and has no column {LABELS!r} "
                "(`columns: {labels: …}` names another one):",
                [missing_column(concept, columns) for concept in missing],
            )

    def read(self, cells: Mapping[str, Any], located: Collection[str] = ()) -> tuple[list[int | None], list[str]]:
        """Return 0 or 1 per concept (None where the cell is wrong), and what is wrong.

        Args:
            located: labels that the example has spans of; they make a concept true, unless its own column denies it.
        """
        if self.per_concept:
            problems = [f"span: {hint}" for label in located if (hint := self._meant(label))]
            problems += self._denied(cells)
            self._seen.update(set(located))
            values = [zero_or_one(cells.get(concept)) for concept in self.concepts]
            problems += [
                f"column {concept!r}: found {cells.get(concept)!r}, expected 0 or 1"
                for concept, value in zip(self.concepts, values, strict=True)
                if value is None
            ]
            problems += [
                f"column {concept!r}: found 0, but there are spans of it"
                for concept, value in zip(self.concepts, values, strict=True)
                if value == 0 and concept in located
            ]
            return values, problems
        true = set(located)
        problems = []
        if self.column is not None:
            try:
                true |= set(self._listed(cells.get(self.column)))
            except ValueError as error:
                problems.append(f"column {self.column!r}: {error}, expected a list of labels")
        of = f"column {self.column!r}" if self.column else "span"
        problems += [f"{of}: {hint}" for label in sorted(true) if (hint := self._meant(label))]
        self._seen.update(true)
        return [int(concept in true) for concept in self.concepts], problems

    def _denied(self, cells: Mapping[str, Any]) -> list[str]:
        """Return concepts that a column of labels names beside the concepts' own columns, which say 0."""
        try:
            listed = set(self._listed(cells.get(LABELS)))
        except ValueError:  # it is no list of labels, and nobody reads it
            return []
        denied = [concept for concept in self.concepts if concept in listed and zero_or_one(cells.get(concept)) == 0]
        return [f"column {name!r}: found 0, but column {LABELS!r} names it; remove one of them" for name in denied]

    def _meant(self, label: str) -> str:
        return "" if label in self._seen else meant_by(label, self.concepts, declared=self._separator is not None)

    def others(self) -> dict[str, int]:
        """Return labels that are no concept of the data set, and how many examples have each."""
        return {label: count for label, count in self._seen.items() if label not in self.concepts}

    def misspelt(self) -> list[str]:
        """Return concepts that no line has, where a label that is no concept is spelt nearly so."""
        others = sorted(self.others())
        return [
            f"concept {concept!r} is true of no example{hint}"
            for concept in self.concepts
            if not self.per_concept and concept not in self._seen and (hint := nearest(concept, others))
        ]

    def _listed(self, cell: Any) -> list[str]:
        """Return a cell's labels: a list, or ``a;b``, or a JSON list, or one label; numbers by the column's classes.

        Raises:
            ValueError: what is none of these.
        """
        if cell is None:
            return []
        if isinstance(cell, str):
            text = cell.strip()
            if text.startswith("{"):  # scores by label, or a set
                raise ValueError(f"found {text[:60]!r}")
            cell = (
                plain_json.parse(text)
                if text.startswith("[")
                else [part.strip() for part in text.split(self._separator or ";")]
            )
        if isinstance(cell, Mapping) or not isinstance(cell, (list, tuple)):
            cell = [cell]
        names = self._classes.get(self.column or "")
        labels = []
        for part in cell:
            if isinstance(part, int) and not isinstance(part, bool) and names and -1 <= part < len(names):
                labels += [names[part]] if part >= 0 else []
            elif isinstance(part, str):
                labels += [part] if part else []
            else:
                raise ValueError(f"found {part!r}")
        return labels


def meant_by(label: str, concepts: Collection[str], *, declared: bool = False) -> str:
    """Return what is wrong with a label that is no concept and seems to name some: in another spelling, or several in
    one.

    Several are named where a certain separator stands beside a concept, or where every part between two characters of
    another kind, or two of the words "and" and "or", is a concept.

    Args:
        declared: the catalog says what separates labels; of others only those count that leave nothing but concepts.
    """
    if label in concepts:
        return ""
    plain = {_plain(concept): concept for concept in concepts}
    for separator in CERTAIN:
        parts = [plain.get(_plain(part)) for part in _parts(label, separator)]
        if len(parts) > 1 and (all(parts) if declared else any(parts)):
            return _several(label, next(filter(None, parts)), separator)
    if (concept := plain.get(_plain(label))) is not None:
        return f"found {spelt(label)}, which is no concept; {concept!r} is, so write it in this way"
    if (scored := SCORED.search(label)) and (concept := plain.get(_plain(label[: scored.start()]))) is not None:
        return (
            f"found {spelt(label)}, which is no concept; {concept!r} is. Where labels have scores, decide from which "
            "on one is true, and list those"
        )
    if declared:
        return ""
    for separator in [*sorted({sign for sign in label if not sign.isalnum()} - {*CERTAIN, "_"}), "and", "or"]:
        parts = [plain.get(_plain(part)) for part in _parts(label, separator)]
        if len(parts) > 1 and parts[0] is not None and all(parts):
            return _several(label, parts[0], separator)
    return ""


def _parts(text: str, separator: str) -> list[str]:
    """Return what stands between separators; a word is one between white space."""
    parts = re.split(rf"\s{separator}\s", text) if separator.isalpha() else text.split(separator)
    return [part for part in parts if part.strip()]


def _several(label: str, concept: str | None, separator: str) -> str:
    return (
        f"found {label!r}, which is no concept, but {concept!r} is: several labels of a cell are written 'a;b' or as a "
        f"JSON list, or `columns: {{label_separator: {json.dumps(separator)}}}` says what is between them"
    )


def _plain(text: str) -> str:
    """Return a label in one spelling: as it looks, with nothing around it, and all that parts words alike."""
    return re.sub(r"[\s_:-]+", " ", looks(text)).strip(f" {WRAPPING}")
