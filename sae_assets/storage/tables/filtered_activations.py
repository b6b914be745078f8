"""Active kept units of each row and their values."""

import pyarrow as pa

from sae_assets.artifacts import FilteredActivations
from sae_assets.storage.columns import ROWS, Scalars, sparse_columns, sparse_fields

COLUMNS = ROWS | {
    "kept_indices": "kept indices, by value descending",
    "values": "activations, > 0, descending",
}
READ = ("example_index", "kept_indices", "values")  # positions follow from them


def encode(artifact: FilteredActivations) -> tuple[pa.Table, Scalars]:
    columns, scalars = sparse_columns(artifact)
    columns["kept_indices"] = columns.pop("unit_ids")
    return pa.table(columns).select(["example_index", "position", "kept_indices", "values"]), {
        **scalars,
        "n_original": artifact.n_original,
    }


def decode(table: pa.Table, scalars: Scalars) -> FilteredActivations:
    names = ["unit_ids" if name == "kept_indices" else name for name in table.column_names]
    return FilteredActivations(**sparse_fields(table.rename_columns(names), scalars), n_original=scalars["n_original"])
