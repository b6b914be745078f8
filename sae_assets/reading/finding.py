"""Units are found by concept, by words of the texts where they fire, by an example, or by labels of others."""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import plain_json
from sae_assets.catalog import match_name
from sae_assets.datasets import TextReader
from sae_assets.errors import CatalogError, DatasetError, MismatchError
from sae_assets.reading.tables import Table
from sae_assets.storage.arrow import array, rows_with, texts

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.reading.results import Results

ALIGNED = ("threshold", "cal_f1", "test_f1", "test_precision", "test_recall", "test_iou", "test_ap")
DETECTED = ("threshold", "cal_f1", "test_f1")
UNIT_KEYS, LABEL_KEYS = ("index", "feature", "unit", "unit_id", "latent"), ("description", "explanation", "label")
LATENT = re.compile(r"(?:.*_latent)?(\d+)")  # Delphi's names end so
MOST_BYTES = 2**30  # of a file of labels, unpacked


def units_of_concept(results: "Results", concept: str, n: int = 10) -> Table:
    """Return the units with the best cal F1 for a concept: of rows where the data say where it is, else of examples.

    Raises:
        CatalogError: no such concept; MismatchError: examples were counted at other thresholds than there are.
    """
    import numpy as np
    import pyarrow.compute as pc

    name = match_name(concept, results.entry.concepts, "concept")
    if results.has("row_alignment"):
        mine = rows_with(results.alignment().to_arrow(), "concept", name)
        mine = mine.filter(pc.is_valid(mine["cal_f1"]))
        if len(mine):
            return _best(mine, "cal_f1", ALIGNED, n)
    by_cell = [("unit_id", "ascending"), ("tail_fraction", "ascending")]
    mine, cutoffs = (
        rows_with(results.table(stage).to_arrow(), "concept", name).sort_by(by_cell)
        for stage in ("detection_stats", "thresholds")
    )
    keys = [key for key, _ in by_cell]
    if not mine.select(keys).equals(cutoffs.select(keys)):  # both have every kept unit at every tail fraction
        advice = results.address("detection_stats").making
        raise MismatchError(
            f"{results}: detection_stats are of other units or tail fractions than thresholds. Run: {advice}"
        )
    mine = mine.append_column("threshold", cutoffs["threshold"])
    mine = mine.filter(pc.is_valid(mine["cal_f1"])).sort_by([("cal_f1", "descending"), *by_cell])
    first: dict[int, int] = {}
    for index, unit in enumerate(mine["unit_id"].to_pylist()):
        first.setdefault(unit, index)  # its best tail fraction
    best = np.array(list(first.values())[:n], np.int64)
    return Table(mine.take(array(best)).select(["unit_id", *DETECTED]))


def _best(table: Any, by: str, columns: Sequence[str], n: int) -> Table:
    ordered = table.sort_by([(by, "descending"), ("unit_id", "ascending")])
    return Table(ordered.slice(0, n).select(["unit_id", *columns]))


def units_of_words(results: "Results", words: str, n: int = 10) -> Table:
    """Return the units that fire on the tokens of these words, whatever their case, and on few others: by F1 over all
    rows.

    Raises:
        CatalogError: its rows are no tokens of texts, or the words are nowhere in them.
    """
    import numpy as np

    if results.token_kind != "token" or not isinstance(results.reader, TextReader):
        raise CatalogError(f"{results}: its rows are no tokens of texts; look by concept, example or label.")
    if not words.split():
        raise CatalogError("--words: found nothing, expected a word.")
    pattern = re.compile(r"(?<!\w)" + r"\s+".join(map(re.escape, words.split())) + r"(?!\w)", re.IGNORECASE)
    rows = results.located_tokens
    inside = np.zeros(len(rows.example), bool)
    for index, text in enumerate(results.texts):
        for match in pattern.finditer(text):
            of_text = slice(*rows.offsets[index : index + 2])
            inside[of_text] |= (rows.start[of_text] < match.end()) & (rows.end[of_text] > match.start())
    if not inside.any():
        raise CatalogError(f"{results}: {words!r} is nowhere in its texts.")
    both = np.zeros(results.n_units, np.int64)
    with_words = np.bincount(rows.example[inside]).nonzero()[0].astype(np.int32)
    for chunk in results.activations().of_examples(with_words).firing():
        mine = inside[rows.offsets[chunk.example] + chunk.position]
        both += np.bincount(chunk.units[chunk.entries_of(mine)], minlength=len(both))
    fires, n_inside = results.unit_counts, int(inside.sum())
    f1 = 2 * both / np.maximum(fires + n_inside, 1)
    best = np.lexsort((np.arange(len(f1)), -f1))[:n]
    best = best[both[best] > 0]
    columns = {"f1": f1, "precision": both / np.maximum(fires, 1), "recall": both / n_inside, "n_rows": fires}
    return _table(best, columns)


def units_of_example(results: "Results", example: Any, n: int = 10, device: str = "auto") -> Table:
    """Return the units that fire in an example and nowhere else: by the share of their rows that lie in it.

    Args:
        example: an id of the data set; or a path, a picture, an array, or (of texts) a text that is not in it.

    Raises:
        CatalogError: no such example and no such file; otherwise as ``results.encode``.
    """
    import numpy as np

    if isinstance(example, str) and results.is_example(example):
        index = results.index_of(example)
        parts = list(results.activations().of_examples(np.array([index], np.int32)))
        mine = [chunk.entries_of(chunk.example == index) for chunk in parts]
        units = np.concatenate([chunk.units[one] for chunk, one in zip(parts, mine, strict=True)])
        values = np.concatenate([chunk.values[one] for chunk, one in zip(parts, mine, strict=True)])
        fires = results.unit_counts
    else:
        if isinstance(example, str) and results.entry.modality == "image" and not Path(example).expanduser().is_file():
            results.place_of(example)  # names the nearest
        code = results.encode([example], device)[0].code
        units, values = code.units, code.values
        fires = results.unit_counts + np.bincount(units, minlength=results.n_units)
    here, largest = np.bincount(units, minlength=results.n_units), np.zeros(results.n_units, np.float32)
    np.maximum.at(largest, units, values)
    share = here / np.maximum(fires, 1)
    best = np.lexsort((np.arange(len(share)), -largest, -here, -share))[:n]
    best = best[here[best] > 0]
    return _table(best, {"share": share, "rows_here": here, "n_rows": fires, "value": largest})


def units_of_label(results: "Results", labels: Path, words: str, n: int = 10) -> Table:
    """Return the units whose label in a file of explanations holds most of these words; shorter labels first among
    equals.

    Raises:
        DatasetError: a file that is no such file; CatalogError: no word, or none of them is in any label.
    """
    terms = words.lower().split()
    if not terms:
        raise CatalogError("--label: found nothing, expected words.")
    named = {unit: label for unit, label in read_labels(labels).items() if 0 <= unit < results.n_units}
    hits = {unit: sum(word in label.lower() for word in terms) for unit, label in named.items()}
    best = sorted((unit for unit in hits if hits[unit]), key=lambda unit: (-hits[unit], len(named[unit]), unit))[:n]
    if not best:
        raise CatalogError(f"No label in {labels} has a word of {words!r}; {len(named)} units of this SAE have one.")
    import numpy as np
    import pyarrow as pa

    columns = {
        "unit_id": array(np.array(best, np.int32)),
        "matched": array(np.array([hits[unit] / len(terms) for unit in best])),
        "label": texts([named[unit] for unit in best]),
    }
    return Table(pa.table(columns))


def read_labels(path: Path) -> dict[int, str]:
    """Return labels by unit from explanations: JSON or JSON lines (.gz) of Neuronpedia, or a folder of Delphi's .txt
    files.

    Of JSON a list of objects with ``index`` (or ``feature``) and ``description`` (or ``explanation``), or an object of
    labels by unit. Several labels of a unit are joined.

    Raises:
        DatasetError: it cannot be read, or holds none.
    """
    labels: dict[int, list[str]] = {}
    try:
        for unit, label in _folder_labels(path) if path.is_dir() else _file_labels(path):
            labels.setdefault(unit, []).append(label)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read as labels of units: {str(error).splitlines()[0]}") from None
    if not labels:
        raise DatasetError(
            f"{path} holds no labels of units: expected objects with {UNIT_KEYS[0]} and {LABEL_KEYS[0]}, or a folder "
            "of Delphi's explanations."
        )
    return {unit: "; ".join(dict.fromkeys(parts)) for unit, parts in labels.items()}


def _folder_labels(folder: Path) -> Iterator[tuple[int, str]]:
    for file in sorted(folder.glob("*.txt")):
        if (match := LATENT.fullmatch(file.stem)) is not None and file.is_file():
            text = file.read_text(encoding="utf-8")
            content = plain_json.parse(text) if text.lstrip()[:1] in ('"', "{") else text
            yield from _label(int(match[1]), content)


def _file_labels(path: Path) -> Iterator[tuple[int, str]]:
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError("it has more than a gigabyte")
    text = content.decode()
    try:
        whole = plain_json.parse(text)
    except ValueError:
        whole = [plain_json.parse(line) for line in text.splitlines() if line.strip()]
    if isinstance(whole, dict) and isinstance(whole.get("explanations"), list):
        whole = whole["explanations"]
    if isinstance(whole, Mapping):
        for name, label in whole.items():
            if (match := LATENT.fullmatch(str(name))) is not None:
                yield from _label(int(match[1]), label)
    elif isinstance(whole, list):
        for one in whole:
            unit = next((one[key] for key in UNIT_KEYS if key in one), None) if isinstance(one, Mapping) else None
            if unit is not None and (match := LATENT.fullmatch(str(unit))) is not None:
                yield from _label(int(match[1]), one)


def _label(unit: int, content: Any) -> Iterator[tuple[int, str]]:
    if isinstance(content, Mapping):
        content = next((content[key] for key in LABEL_KEYS if content.get(key)), None)
    if isinstance(content, str) and content.strip():
        yield unit, " ".join(content.split())


def _table(units: "np.ndarray", columns: "Mapping[str, np.ndarray]") -> Table:
    import pyarrow as pa

    of_units = {"unit_id": units.astype("int32"), **{name: values[units] for name, values in columns.items()}}
    return Table(pa.table({name: array(values) for name, values in of_units.items()}))
