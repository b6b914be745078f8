"""Readers of data set layouts, and chunk manifests.

A reader turns a folder or a table into :class:`~sae_assets.datasets.records.Record` and gives images and masks, or
texts and spans; it computes no statistics and knows neither models nor Dagster. ``open_dataset`` picks the reader by
the catalog's ``layout``.
"""

from collections.abc import Callable

from sae_assets.catalog import Dataset
from sae_assets.datasets.layouts.broden import BrodenReader
from sae_assets.datasets.layouts.clevr import ClevrReader
from sae_assets.datasets.layouts.coco import CocoReader
from sae_assets.datasets.layouts.huggingface import open_huggingface
from sae_assets.datasets.layouts.spans import open_spans
from sae_assets.datasets.layouts.table import open_table
from sae_assets.datasets.layouts.words import WordsReader
from sae_assets.datasets.reader import ImageReader, Reader, TextReader, expect_files
from sae_assets.errors import DatasetError

__all__ = ["READERS", "ImageReader", "Reader", "TextReader", "expect_files", "open_dataset", "open_registered"]

READERS: dict[str, Callable[[Dataset], Reader]] = {
    "clevr": ClevrReader,
    "coco": CocoReader,
    "broden": BrodenReader,
    "words": WordsReader,
    "spans": open_spans,
    "table": open_table,
    "huggingface": open_huggingface,
}

EXPECTED = {  # at `root`, by layout
    "clevr": "a folder with metadata.csv, images and, where there are any, masks",
    "coco": "a folder with metadata.csv and images",
    "broden": "a folder with metadata.csv and images",
    "words": "a folder with metadata.csv and texts",
    "spans": "JSON lines with `text` and `spans`: a .jsonl file, or a folder of them",
    "table": "a table: a .csv or .parquet file, or a folder that holds one",
    "huggingface": "a folder that `save_to_disk` of the library datasets wrote",
}


def open_dataset(entry: Dataset) -> Reader:
    """The reader of one data set.

    Raises:
        DatasetError: the folder does not exist or is not laid out as the entry says; all problems are named. Images and
            texts are not looked for; ``expect_files`` does.
    """
    if not entry.root.exists():
        raise DatasetError(
            f"Data set {entry.name!r}: {entry.root} does not exist. `datasets.{entry.name}.root` in the catalog must "
            f"name {EXPECTED[entry.layout]}."
        )
    return READERS[entry.layout](entry)


def open_registered(entry: Dataset) -> Reader:
    """The reader of one data set for stages of registered chunks: a row that is wrong holds up its own chunk only.

    Where the place of a row in its table counts (words, precomputed embeddings) or a row is more than a file's name
    (tables, spans, saved data sets), as :func:`open_dataset`.

    Raises:
        DatasetError: as :func:`open_dataset`, but for single rows.
    """
    readers: dict[str, Callable[..., Reader]] = {"clevr": ClevrReader, "coco": CocoReader, "broden": BrodenReader}
    if entry.layout in readers and not entry.embeddings and entry.root.exists():
        return readers[entry.layout](entry, lenient=True)
    return open_dataset(entry)
