"""The catalog: which data sets and models there are, read from YAML and checked all at once.

What lives here: the typed entries (``models``, ``datasets``, ``detection``), reading, merging and checking of files
(``loading``), and the tables of layouts, SAE formats and model libraries that entries may name (``registry``). What
does not: reading data (``datasets``), loading weights (``rows``, ``saes``), and anything that needs torch or Dagster.
"""

from sae_assets.catalog.datasets import TOKEN_KINDS, Catalog, Columns, Dataset, EmbeddingFiles, SeededSplit
from sae_assets.catalog.loading import PACKAGED, load_catalog, plain_message
from sae_assets.catalog.models import Bounds, Model, Pruning, Sae, Transformer
from sae_assets.catalog.names import match_name

__all__ = [
    "PACKAGED",
    "TOKEN_KINDS",
    "Bounds",
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
