"""The catalog: which data sets and models there are, read from YAML and checked all at once.

What lives here: the typed entries (``entries``, ``dataset_entries``), and reading, merging and checking of files
(``loading``). What does not: reading data (``datasets``), loading weights (``embedding``, ``saes``), and anything that
needs torch or Dagster.
"""

from sae_assets.catalog.datasets import TOKEN_KINDS, Catalog, Columns, Dataset, EmbeddingFiles, SeededSplit
from sae_assets.catalog.loading import PACKAGED, load_catalog, plain_message
from sae_assets.catalog.models import Model, Pruning, Sae, Transformer
from sae_assets.catalog.names import match_name

__all__ = [
    "PACKAGED",
    "TOKEN_KINDS",
    "Catalog",
    "Columns",
    "Dataset",
    "EmbeddingFiles",
    "Model",
    "Pruning",
    "Sae",
    "SeededSplit",
    "Transformer",
    "load_catalog",
    "match_name",
    "plain_message",
]
