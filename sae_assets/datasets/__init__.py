"""Readers of the published data set layouts, chunk manifests and row-level ground truth.

A reader turns a folder into :class:`~sae_assets.datasets.records.Record` and gives images and masks; it computes no
statistics and knows neither models nor Dagster. ``open_dataset`` picks the reader by the catalog's ``layout``.
"""

from sae_assets.catalog import Dataset
from sae_assets.datasets.clevr import ClevrReader

READERS = {"clevr": ClevrReader}


def open_dataset(name: str, entry: Dataset) -> ClevrReader:
    """The reader of one data set.

    Raises:
        DatasetError: the folder does not exist or is not laid out as the entry says; all problems are named.
    """
    return READERS[entry.layout](name, entry)
