"""Model-level artifacts as Arrow tables: one table row per unit, per (concept, unit, tail fraction) or per concept.

Derived columns (mean, density, F1) are written for readers of the files and ignored when reading back. NaN in an
artifact is null on disk.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sae_assets.artifacts import REASONS, BestPairs, DetectionStats, Thresholds, UnitMapping, UnitStats

Scalars = dict[str, Any]
CELLS = ("tp", "fp", "fn", "tn")


def _nullable(tensor: Tensor) -> pa.Array:
    values = tensor.contiguous().flatten().numpy()
    return pa.array(values, mask=np.isnan(values))


def _float(column: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(np.array(column.to_numpy(), dtype=np.float64))


def _int(column: pa.ChunkedArray, dtype: type = np.int64) -> Tensor:
    if column.null_count:
        raise ValueError("a column that has no nulls holds some")
    return torch.from_numpy(np.array(column.to_numpy(), dtype=dtype))


def encode_unit_stats(artifact: UnitStats) -> tuple[pa.Table, Scalars]:
    columns = {
        "unit_id": pa.array(range(artifact.n_units), pa.int32()),
        "n_active": artifact.n_active.numpy(),
        "density": artifact.density.numpy(),
        "sum": artifact.total.numpy(),
        "sum_sq": artifact.total_sq.numpy(),
    }
    for name in ("mean", "max", "p95", "p99", "selectivity"):
        columns[name] = _nullable(getattr(artifact, name))
    return pa.table(columns), {"n_rows": artifact.n_rows}


def decode_unit_stats(table: pa.Table, scalars: Scalars) -> UnitStats:
    return UnitStats(
        n_rows=scalars["n_rows"],
        n_active=_int(table["n_active"]),
        total=_float(table["sum"]),
        total_sq=_float(table["sum_sq"]),
        max=_float(table["max"]),
        p95=_float(table["p95"]),
        p99=_float(table["p99"]),
    )


def encode_unit_mapping(artifact: UnitMapping) -> tuple[pa.Table, Scalars]:
    index = artifact.kept_index.numpy()
    reasons = pa.DictionaryArray.from_arrays(pa.array(artifact.reasons.numpy().astype(np.int32)), pa.array(REASONS))
    table = pa.table(
        {
            "unit_id": pa.array(range(artifact.n_original), pa.int32()),
            "kept_index": pa.array(index.astype(np.int32), mask=index < 0),
            "reason": reasons.cast(pa.string()),
        }
    )
    return table, mapping_scalars(artifact)


def mapping_scalars(artifact: UnitMapping) -> Scalars:
    names = ("mode", "min_active", "max_active", "strength_percentile", "strength_cutoff", "target_units")
    return {name: getattr(artifact, name) for name in names}


def decode_unit_mapping(table: pa.Table, scalars: Scalars) -> UnitMapping:
    reasons = [REASONS.index(reason) for reason in table["reason"].to_pylist()]
    return UnitMapping(reasons=torch.tensor(reasons, dtype=torch.uint8), **scalars)


def _axes(concepts: list[str | None], kept_units: Tensor, tail_fractions: tuple[float, ...]) -> dict[str, Any]:
    """Columns that name each cell of a [concepts, kept, fractions] block."""
    c, u, p = len(concepts), len(kept_units), len(tail_fractions)
    place = pa.array(np.repeat(np.arange(c, dtype=np.int32), u * p))
    return {
        "concept": pa.array(concepts, pa.string()).take(place),
        "unit_id": np.tile(np.repeat(kept_units.numpy().astype(np.int32), p), c),
        "kept_index": np.tile(np.repeat(np.arange(u, dtype=np.int32), p), c),
        "tail_fraction": np.tile(np.array(tail_fractions), c * u),
    }


def encode_thresholds(artifact: Thresholds) -> tuple[pa.Table, Scalars]:
    columns = _axes([*artifact.concepts, None], artifact.kept_units, artifact.tail_fractions)
    columns["threshold"] = _nullable(artifact.values)
    columns["n_positive"] = np.repeat(artifact.n_positive.flatten().numpy(), len(artifact.tail_fractions))
    return pa.table(columns), _axes_scalars(artifact)


def _axes_scalars(artifact: Thresholds | DetectionStats) -> Scalars:
    return {
        "concepts": list(artifact.concepts),
        "kept_units": artifact.kept_units.tolist(),
        "tail_fractions": list(artifact.tail_fractions),
    }


def _axes_fields(scalars: Scalars) -> tuple[dict[str, Any], tuple[int, int, int]]:
    fields = {
        "concepts": tuple(scalars["concepts"]),
        "kept_units": torch.tensor(scalars["kept_units"], dtype=torch.int64),
        "tail_fractions": tuple(scalars["tail_fractions"]),
    }
    return fields, (len(fields["concepts"]), len(fields["kept_units"]), len(fields["tail_fractions"]))


def decode_thresholds(table: pa.Table, scalars: Scalars) -> Thresholds:
    fields, (c, u, p) = _axes_fields(scalars)
    return Thresholds(
        **fields,
        n_positive=_int(table["n_positive"]).view(c + 1, u, p)[..., 0].contiguous(),
        values=_float(table["threshold"]).view(c + 1, u, p),
    )


def encode_detection_stats(artifact: DetectionStats) -> tuple[pa.Table, Scalars]:
    columns = _axes(list(artifact.concepts), artifact.kept_units, artifact.tail_fractions)
    counts = (
        artifact.true_positives,
        artifact.false_positives,
        artifact.false_negatives,
        artifact.true_negatives,
    )
    columns["valid"] = np.repeat(artifact.valid.flatten().numpy(), len(artifact.tail_fractions))
    for place, split in enumerate(("cal", "test")):
        for name, count in zip(CELLS, counts, strict=True):
            columns[f"{split}_{name}"] = count[place].flatten().numpy()
        columns[f"{split}_f1"] = _nullable(artifact.f1[place])
    scalars = _axes_scalars(artifact)
    for name in ("n_positive", "n_negative"):
        scalars[name] = getattr(artifact, name).tolist()
    return pa.table(columns), scalars


def decode_detection_stats(table: pa.Table, scalars: Scalars) -> DetectionStats:
    fields, shape = _axes_fields(scalars)
    counts = {
        name: torch.stack([_int(table[f"{split}_{name}"], np.int32).view(shape) for split in ("cal", "test")])
        for name in ("tp", "fp")
    }
    return DetectionStats(
        **fields,
        n_positive=torch.tensor(scalars["n_positive"], dtype=torch.int64).view(2, shape[0]),
        n_negative=torch.tensor(scalars["n_negative"], dtype=torch.int64).view(2, shape[0]),
        true_positives=counts["tp"],
        false_positives=counts["fp"],
        valid=torch.from_numpy(table["valid"].to_numpy().astype(bool)).view(shape)[..., 0].contiguous(),
    )


def encode_best_pairs(artifact: BestPairs) -> tuple[pa.Table, Scalars]:
    unit_ids = artifact.unit_ids.numpy()
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "unit_id": pa.array(unit_ids.astype(np.int32), mask=unit_ids < 0),
        "tail_fraction": _nullable(artifact.tail_fractions),
        "threshold": _nullable(artifact.thresholds),
    }
    for place, split in enumerate(("cal", "test")):
        for cell, name in enumerate(CELLS):
            columns[f"{split}_{name}"] = artifact.counts[place, :, cell].numpy()
        for name in ("precision", "recall", "f1", "accuracy"):
            columns[f"{split}_{name}"] = _nullable(artifact.rate(name)[place])
        columns[f"{split}_always_positive_f1"] = _nullable(artifact.always_positive_f1[place])
        columns[f"{split}_null_f1_mean"] = _nullable(artifact.null_f1[place, :, 0])
        columns[f"{split}_null_f1_p95"] = _nullable(artifact.null_f1[place, :, 1])
    columns["test_f1_low"] = _nullable(artifact.test_interval[:, 0])
    columns["test_f1_high"] = _nullable(artifact.test_interval[:, 1])
    folds = artifact.fold_f1
    columns["cal_fold_f1"] = pa.nulls(len(unit_ids), pa.float64()) if folds is None else _nullable(folds)
    return pa.table(columns), {
        "weighted_test_f1": artifact.weighted(artifact.rate("f1")[1]),
        "weighted_always_positive_f1": artifact.weighted(artifact.always_positive_f1[1]),
        "weighted_interval": artifact.weighted_interval.tolist(),
        "weighted_null": artifact.weighted_null.tolist(),
        "n_permutations": artifact.n_permutations,
        "n_bootstrap": artifact.n_bootstrap,
        "seed": artifact.seed,
        "n_folds": artifact.n_folds,
    }


def decode_best_pairs(table: pa.Table, scalars: Scalars) -> BestPairs:
    unit_ids = table["unit_id"].fill_null(-1)
    return BestPairs(
        concepts=tuple(table["concept"].to_pylist()),
        unit_ids=_int(unit_ids),
        tail_fractions=_float(table["tail_fraction"]),
        thresholds=_float(table["threshold"]),
        counts=torch.stack(
            [torch.stack([_int(table[f"{split}_{name}"]) for name in CELLS], -1) for split in ("cal", "test")]
        ),
        null_f1=torch.stack(
            [torch.stack([_float(table[f"{s}_null_f1_{n}"]) for n in ("mean", "p95")], -1) for s in ("cal", "test")]
        ),
        test_interval=torch.stack([_float(table["test_f1_low"]), _float(table["test_f1_high"])], -1),
        weighted_interval=torch.tensor(scalars["weighted_interval"], dtype=torch.float64),
        weighted_null=torch.tensor(scalars["weighted_null"], dtype=torch.float64),
        n_permutations=scalars["n_permutations"],
        n_bootstrap=scalars["n_bootstrap"],
        seed=scalars["seed"],
        n_folds=scalars["n_folds"],
        fold_f1=_float(table["cal_fold_f1"]) if scalars["n_folds"] else None,
    )
