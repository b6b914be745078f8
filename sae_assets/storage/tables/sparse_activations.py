"""Active units of each row and their values."""

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import SparseActivations
from sae_assets.storage.columns import ROWS, Scalars, plain_numbers, sparse_columns, sparse_fields

COLUMNS = ROWS | {
    "unit_ids": "original unit ids, by value descending",
    "values": "activations, > 0, descending",
    "l0": "active units of the row before truncation to k_stored",
}
SCALARS = ("total_mass", "dropped_mass", "n_cut_examples", "n_cut_tokens")


def encode(artifact: SparseActivations) -> tuple[pa.Table, Scalars]:
    columns, scalars = sparse_columns(artifact)
    columns["l0"] = pa.array(artifact.l0.numpy())
    return pa.table(columns), {
        **scalars,
        "k_stored": artifact.k_stored,
        **{name: getattr(artifact, name) for name in SCALARS},
    }


def decode(table: pa.Table, scalars: Scalars) -> SparseActivations:
    return SparseActivations(
        **sparse_fields(table, scalars),
        l0=torch.from_numpy(plain_numbers(table["l0"], np.int32)),
        k_stored=scalars["k_stored"],
        **{name: scalars[name] for name in SCALARS},
    )
