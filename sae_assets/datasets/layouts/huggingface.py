"""A folder that the ``datasets`` library saved (``save_to_disk``): one data set, or one per split.

Needs the extra ``sae-assets[huggingface]``. Labels are 0/1 columns, one class or a list of classes. Images are taken as
the bytes that are stored; nothing is fetched from the hub.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sae_assets.catalog import Dataset
from sae_assets.catalog.registry import Layout
from sae_assets.datasets.listing import Line, Listing
from sae_assets.datasets.listing_reader import IMAGES_LOCATED, TEXTS_LOCATED, open_listing
from sae_assets.datasets.reader import Reader
from sae_assets.errors import DatasetError

SPLIT_NAMES = {"validation": "cal", "valid": "cal", "dev": "cal"}  # the names that data sets of the hub use


def open_huggingface(entry: Dataset) -> Reader:
    """Return the reader of a saved data set.

    Raises:
        DatasetError: the extra is not installed, the folder is not one that ``save_to_disk`` wrote, or its columns or
            values have problems (all of them are listed).
    """
    files = sorted(path for path in Path(entry.root).rglob("*") if path.is_file())
    return open_listing(entry, [Path(entry.root), *files], lambda: _read(entry))


def _read(entry: Dataset) -> Listing:
    try:
        import datasets
    except ImportError:
        raise DatasetError(
            f"Data set {entry.name!r}: layout huggingface needs the library `datasets`. Install the extra: "
            "pip install 'sae-assets[huggingface]'"
        ) from None
    try:
        saved = datasets.load_from_disk(str(entry.root))
    except Exception as error:  # the library's own errors, pyarrow's, OSError: no common base
        raise DatasetError(
            f"Data set {entry.name!r}: {entry.root} is not a folder that `save_to_disk` of the library datasets wrote: "
            f"{error}"
        ) from None
    parts: dict[str, Any] = dict(saved) if isinstance(saved, dict) else {"": saved}
    features = next(iter(parts.values())).features if parts else {}
    split = entry.columns.split
    big = frozenset(column for column, kind in features.items() if isinstance(kind, datasets.Image))
    classes = {column: names for column, kind in features.items() if (names := _class_names(kind)) is not None}
    split_classes = classes.pop(split, None)
    fields = {*entry.columns.model_dump().values(), "image_path", "text_path", "labels", *entry.concepts, *classes}
    lines: list[Line] = []
    sources: list[tuple[str, int]] = []
    images: dict[tuple[str, str], Any] = {}
    for part, content in parts.items():
        for column in big:
            plain = content.select_columns([column]).cast_column(column, datasets.Image(decode=False))
            images[part, column] = plain
        small = content.select_columns([column for column in content.column_names if column in fields - big])
        for number, cells in enumerate(small if small.column_names else [{}] * len(content), start=1):
            if split not in features and part:
                cells = {**cells, split: SPLIT_NAMES.get(part, part)}
            elif split_classes is not None:
                cells = {**cells, split: split_classes[cells[split]]}
            lines.append(Line(f"{part} row {number}".strip(), f"{part}-{number}" if part else str(number), cells))
            sources.append((part, number - 1))
    if not lines:
        raise DatasetError(f"Data set {entry.name!r}: {entry.root} has no examples.")

    def fetch(index: int, column: str) -> Any:
        part, number = sources[index]
        cell = images[part, column][number][column]
        return cell and cell["bytes"]

    root = Path(entry.root)
    columns = [*features, *([split] if split not in features and "" not in parts else [])]
    return Listing(root, root, columns, lines, classes, big, fetch)


def _class_names(kind: Any) -> Sequence[str] | None:
    """Return names of a class, or of a list of classes, however the library's version writes lists."""
    for _ in range(2):
        if isinstance(kind, list):
            kind = kind[0]
        names = getattr(kind, "names", None)
        if names is not None and not isinstance(kind, Mapping):
            return list(names)
        kind = getattr(kind, "feature", None)
    return None


LAYOUT = Layout(
    name="huggingface",
    modalities=("image", "text"),
    expected="a folder that `save_to_disk` of the library datasets wrote",
    open=open_huggingface,
    takes=("columns", "labels"),
    located=f"images: {IMAGES_LOCATED}; texts: {TEXTS_LOCATED}",
    split_place="in column {column!r}, or save a split called validation",
)
