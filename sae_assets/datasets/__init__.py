"""Readers of data sets, one per layout.

A reader turns a folder or a table into :class:`~sae_assets.datasets.records.Record` and gives images and masks, or
texts and spans; it computes no statistics and knows neither models nor Dagster. ``open_dataset`` picks the reader by
the catalog's ``layout``; layouts are modules of ``layouts``.
"""

from sae_assets.catalog import Dataset, registry
from sae_assets.datasets.reader import ImageReader, Reader, TextReader, expect_files
from sae_assets.errors import DatasetError

__all__ = ["ImageReader", "Reader", "TextReader", "expect_files", "open_contents", "open_dataset", "open_registered"]


def open_dataset(entry: Dataset) -> Reader:
    """Return the reader of one data set.

    Raises:
        DatasetError: the folder does not exist or is not laid out as the entry says; all problems are named. Images and
            texts are not looked for; ``expect_files`` does.
    """
    reader = _opened(entry)
    reader.read_regions()
    return reader


def _opened(entry: Dataset) -> Reader:
    layout = registry.layouts()[entry.layout]
    if not entry.root.exists():
        raise DatasetError(
            f"Data set {entry.name!r}: {entry.root} does not exist. `datasets.{entry.name}.root` in the catalog must "
            f"name {layout.expected}."
        )
    reader: Reader = layout.open(entry)
    return reader


def open_registered(entry: Dataset) -> Reader:
    """Return the reader of one data set for stages of registered chunks: a row that is wrong holds up its own chunk
    only.

    Where the place of a row in its table counts (words, precomputed embeddings) or a row is more than a file's name
    (tables, spans, saved data sets), as :func:`open_dataset`.

    Raises:
        DatasetError: as :func:`open_dataset`, but for single rows.
    """
    reader = open_contents(entry)
    reader.read_regions()
    return reader


def open_contents(entry: Dataset) -> Reader:
    """Return the reader of registered chunks for who looks at images and texts: where concepts are is read when asked
    for.

    Raises:
        DatasetError: as :func:`open_registered`; of where concepts are when that is asked for.
    """
    layout = registry.layouts()[entry.layout]
    if layout.lenient and not entry.embeddings and entry.root.exists():
        reader: Reader = layout.open(entry, lenient=True)
        return reader
    return _opened(entry)
