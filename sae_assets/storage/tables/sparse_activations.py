"""Active units of each row and their values."""

import numpy as np
import pyarrow as pa
import torch

from sae_assets.artifacts import SparseActivations
from sae_assets.artifacts.fit import FitSums
from sae_assets.storage.columns import ROWS, Scalars, plain_numbers, sparse_columns, sparse_fields

COLUMNS = ROWS | {
    "unit_ids": "original unit ids, by value descending",
    "values": "activations, > 0, descending",
    "l0": "active units of the row before truncation to k_stored",
}
READ = ("example_index", "unit_ids", "values", "l0")  # positions follow from them
SCALARS = ("total_mass", "dropped_mass", "n_cut_examples", "n_cut_tokens")


def encode(artifact: SparseActivations) -> tuple[pa.Table, Scalars]:
    columns, scalars = sparse_columns(artifact)
    columns["l0"] = pa.array(artifact.l0.numpy())
    return pa.table(columns), {
        **scalars,
        "k_stored": artifact.k_stored,
        **{name: getattr(artifact, name) for name in SCALARS},
        **optional_scalars(artifact),
        "summary": artifact.summary,  # readable without the table
    }


def decode(table: pa.Table, scalars: Scalars) -> SparseActivations:
    return SparseActivations(
        **sparse_fields(table, scalars),
        l0=torch.from_numpy(plain_numbers(table["l0"], np.int32)),
        k_stored=scalars["k_stored"],
        **{name: scalars[name] for name in SCALARS},
        fit=stored_fit(scalars),
        stored_values=scalars.get("stored_values"),
    )


def optional_scalars(artifact: SparseActivations) -> Scalars:
    """Return the sums of the fit, if there are any, and what values were rounded to, if to anything."""
    fit = {} if artifact.fit is None else {"fit": vars(artifact.fit)}
    return fit if artifact.stored_values is None else {**fit, "stored_values": artifact.stored_values}


def stored_fit(scalars: Scalars) -> FitSums | None:
    """Return the fit that the scalars tell of; None of a file without one."""
    fit = scalars.get("fit")
    if fit is None:
        return None
    return FitSums(**{**fit, "row_sum": tuple(fit["row_sum"])})
