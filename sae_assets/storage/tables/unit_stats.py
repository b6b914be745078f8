"""Statistics of each unit."""

import pyarrow as pa

from sae_assets.artifacts import UnitStats
from sae_assets.storage.columns import Scalars, floats, integers, nullable

COLUMNS = {
    "unit_id": "original id of the unit in the SAE",
    "n_active": "calibration rows on which the unit is > 0",
    "density": "n_active / calibration rows",
    "sum": "sum of the activation over calibration rows",
    "sum_sq": "sum of the squared activation",
    "mean": "mean of the positive values; null if the unit never fires",
    "max": "largest value; null if the unit never fires",
    "p95": "95 % quantile of the positive values, linear, exact",
    "p99": "99 % quantile of the positive values, linear, exact",
    "selectivity": "lifetime sparseness: 1 fires on one row only, 0 is the same everywhere",
}


def encode(artifact: UnitStats) -> tuple[pa.Table, Scalars]:
    columns = {
        "unit_id": pa.array(range(artifact.n_units), pa.int32()),
        "n_active": artifact.n_active.numpy(),
        "density": artifact.density.numpy(),
        "sum": artifact.total.numpy(),
        "sum_sq": artifact.total_sq.numpy(),
    }
    for name in ("mean", "max", "p95", "p99", "selectivity"):
        columns[name] = nullable(getattr(artifact, name))
    return pa.table(columns), {"n_rows": artifact.n_rows}


def decode(table: pa.Table, scalars: Scalars) -> UnitStats:
    return UnitStats(
        n_rows=scalars["n_rows"],
        n_active=integers(table["n_active"]),
        total=floats(table["sum"]),
        total_sq=floats(table["sum_sq"]),
        max=floats(table["max"]),
        p95=floats(table["p95"]),
        p99=floats(table["p99"]),
    )
