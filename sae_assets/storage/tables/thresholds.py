"""The threshold of each (concept, kept unit, tail fraction)."""

import numpy as np
import pyarrow as pa

from sae_assets.artifacts import Thresholds
from sae_assets.storage.columns import (
    TRIPLES,
    Scalars,
    floats,
    integers,
    nullable,
    triple_columns,
    triple_fields,
    triple_scalars,
)

COLUMNS = TRIPLES | {
    "threshold": "detection cut-off; null if no value stands behind it",
    "n_positive": "values behind the quantile",
}


def encode(artifact: Thresholds) -> tuple[pa.Table, Scalars]:
    columns = triple_columns([*artifact.concepts, None], artifact.kept_units, artifact.tail_fractions)
    columns["threshold"] = nullable(artifact.values)
    columns["n_positive"] = np.repeat(artifact.n_positive.flatten().numpy(), len(artifact.tail_fractions))
    return pa.table(columns), triple_scalars(artifact)


def decode(table: pa.Table, scalars: Scalars) -> Thresholds:
    fields, (c, u, p) = triple_fields(scalars)
    return Thresholds(
        **fields,
        n_positive=integers(table["n_positive"]).view(c + 1, u, p)[..., 0].contiguous(),
        values=floats(table["threshold"]).view(c + 1, u, p),
    )
