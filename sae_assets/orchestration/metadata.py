"""What every materialization tells the UI: sizes, ratios, seconds, identity, schema, first rows and a picture.

Numbers stay numbers, so that the UI plots them over partitions. Pictures are made in ``reports.plots``.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    import pyarrow as pa

    from sae_assets.artifacts import Artifact
    from sae_assets.storage.store import Stored, WrittenFile

HEAD = 5
IMPORTED = "imported from older files; L0 counts stored entries only"
COLUMNS = {
    "example_index": "position of the example in the data set",
    "example_id": "file stem of the example",
    "path": "where the example lies, relative to the data set's root",
    "split": "train, cal or test",
    "file_hash": "sha256 of the image or text",
    "region_hashes": "JSON, by true concept: sha256 of its mask or spans, or how it is located without",
    "label": "example-level truth of one concept",
    "position": "of the row within its example; patches row by row",
    "concepts": "concepts that the row is positive for",
    "unit_ids": "original unit ids, by value descending",
    "kept_indices": "kept indices, by value descending",
    "values": "activations, > 0, descending",
    "l0": "active units of the row before truncation to k_stored",
    "unit_id": "original id of the unit in the SAE",
    "kept_index": "number of the unit after pruning; null if it is not kept",
    "reason": "kept, or the first rule that the unit fails",
    "n_active": "calibration rows on which the unit is > 0",
    "density": "n_active / calibration rows",
    "sum": "of the activation over calibration rows",
    "sum_sq": "of the squared activation",
    "mean": "of the positive values; null if the unit never fires",
    "max": "largest value; null if the unit never fires",
    "p95": "95 % quantile of the positive values, linear, exact",
    "p99": "99 % quantile of the positive values, linear, exact",
    "selectivity": "lifetime sparseness: 1 fires on one row only, 0 is the same everywhere",
    "concept": "null: over all calibration rows",
    "tail_fraction": "share of the positive values that the threshold keeps",
    "threshold": "detection cut-off; null if no value stands behind it",
    "n_positive": "values behind the quantile",
    "valid": "whether the pair has a threshold",
    **{
        f"{split}_{name}": f"{text} on {split}"
        for split in ("cal", "test")
        for name, text in {
            "tp": "true positives", "fp": "false positives", "fn": "false negatives", "tn": "true negatives",
            "precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "accuracy",
            "always_positive_f1": "F1 of calling every example positive",
            "null_f1_mean": "mean F1 with shuffled labels", "null_f1_p95": "95 % point of F1 with shuffled labels",
        }.items()
    },
    "test_f1_low": "lower end of the 95 % bootstrap interval",
    "test_f1_high": "upper end of the 95 % bootstrap interval",
    "cal_fold_f1": "F1 over held-out folds of cal, each counted on the pair chosen without it; null if n_folds is 0",
}  # fmt: skip


class Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start


def storage_metadata(artifact: "Artifact", written: "WrittenFile") -> dict[str, Any]:
    """What is known once the file is written: where, bytes, and for activations the compression ratio."""
    from sae_assets.artifacts import SparseRows

    found: dict[str, Any] = {"stored_bytes": written.n_bytes, "dagster/uri": str(written.path)}
    if isinstance(artifact, SparseRows):
        ratios = _ratios(
            compression_ratio=(artifact.dense_bytes, written.n_bytes), bytes_per_row=(written.n_bytes, artifact.n_rows)
        )
        found = {**ratios, "dense_bytes": artifact.dense_bytes, **found}
    return {name: short(value) for name, value in found.items()}


def short(value: Any) -> Any:
    """Six significant digits are enough for a person; files hold the exact figures."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def artifact_metadata(item: "Stored", clock: Clock | None, device: str) -> dict[str, Any]:
    """What is known before writing: counts of this kind of artifact, time and identity; no clock if it was kept."""
    from sae_assets.storage.parquet import to_table

    rows = len(to_table(item.artifact)[0])
    made: dict[str, Any] = {"kept": "nothing was computed: the file that was there is what would be made now"}
    if item.provenance.config.get("imported"):
        made = {"kept": IMPORTED}
    if clock is not None:
        seconds = clock.seconds
        made = {"seconds": seconds, "rows_per_second": rows / max(seconds, 1e-9), "device": device}
    return {
        **{name: short(value) for name, value in {**counts(item.artifact), **made}.items()},
        "dagster/row_count": rows,
        "fingerprint": item.provenance.fingerprint,
    }


def table_metadata(artifact: "Artifact") -> dict[str, Any]:
    """First rows and schema: last, because the UI shows metadata in order and a table takes the room of ten figures."""
    from sae_assets.storage.parquet import to_table

    table, _ = to_table(artifact)
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(field.name, str(field.type).replace("item: ", ""), COLUMNS.get(field.name.split(":")[0]))
            for field in table.schema
        ]
    )
    records = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in _head(table).to_pylist()]
    return {"head": dg.MetadataValue.table(records, schema=schema), "dagster/column_schema": schema}


def _head(table: "pa.Table") -> "pa.Table":
    """First rows, of units that say something: kept, active or valid ones first, in the table's order."""
    import pyarrow as pa

    for name in ("kept_index", "p99", "threshold"):
        if name in table.column_names:
            there = table.filter(table[name].is_valid())[:HEAD]
            return there if len(there) == HEAD else pa.concat_tables([there, table])[:HEAD]
    return table[:HEAD]


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, list):
        shown = ", ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in value[:8])
        return f"[{shown}{', …' if len(value) > 8 else ''}]"
    return value


def counts(artifact: "Artifact") -> dict[str, Any]:
    """Numbers of one artifact, by kind; numeric throughout."""
    return _COUNTS.get(artifact.kind, lambda _: {})(artifact)


def _ratios(**parts: tuple[float, float]) -> dict[str, float]:
    """Quotients by name; one that does not exist, of a chunk without rows or entries, is left out."""
    return {name: top / bottom for name, (top, bottom) in parts.items() if bottom}


def _sparse(artifact: Any) -> dict[str, Any]:
    units = artifact.unit_ids.unique().numel()
    found = {
        "rows": artifact.n_rows,
        "examples": artifact.n_examples,
        "units": artifact.n_units,
        "entries": artifact.n_entries,
        "active_units": units,
        "coverage": units / artifact.n_units,
        **_ratios(mean_entries_per_row=(artifact.n_entries, artifact.n_rows)),
    }
    if artifact.kind == "sparse_activations":
        active = int(artifact.l0.sum())
        found |= {
            "k_stored": artifact.k_stored if artifact.k_stored is not None else "all",
            **_ratios(
                l0=(active, artifact.n_rows),
                truncated_rows_share=(artifact.n_truncated_rows, artifact.n_rows),
                dropped_entries_share=(artifact.n_dropped_entries, active),
                dropped_mass_share=(artifact.dropped_mass, artifact.total_mass),
            ),
            "examples_cut_to_max_tokens": artifact.n_cut_examples,
            "tokens_cut": artifact.n_cut_tokens,
        }
    return found


def _labels(artifact: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"examples": len(artifact), "concepts": len(artifact.concepts)}
    for split in ("train", "cal", "test"):
        found[f"examples_{split}"] = artifact.splits.count(split)
    return found


def _ground_truth(artifact: Any) -> dict[str, Any]:
    positives = artifact.concept_ids.bincount(minlength=len(artifact.concepts)).tolist()
    return {
        "rows": artifact.n_rows,
        "positive_rows": artifact.row_offsets.diff().gt(0).sum().item(),
        **{f"positive_rows[{name}]": count for name, count in zip(artifact.concepts, positives, strict=True)},
    }


def _unit_stats(artifact: Any) -> dict[str, Any]:
    active = int((artifact.n_active > 0).sum())
    return {
        "cal_rows": artifact.n_rows,
        "units": artifact.n_units,
        "active_units": active,
        "coverage": active / artifact.n_units,
        "l0": int(artifact.n_active.sum()) / artifact.n_rows,
    }


def _unit_mapping(artifact: Any) -> dict[str, Any]:
    return {
        "pruning": artifact.mode,
        "units": artifact.n_original,
        "min_active": artifact.min_active,
        "max_active": artifact.max_active,
        **{f"units_{reason}": count for reason, count in artifact.counts().items()},
    }


def _thresholds(artifact: Any) -> dict[str, Any]:
    pairs = artifact.n_positive[:-1]
    return {"pairs": pairs.numel(), "valid_pairs": int((pairs > 0).sum()), "units": len(artifact.kept_units)}


def _detection_stats(artifact: Any) -> dict[str, Any]:
    return {"triples": artifact.true_positives[0].numel(), "units": len(artifact.kept_units)}


def _best_pairs(artifact: Any) -> dict[str, Any]:
    f1 = artifact.rate("f1")[1]
    found: dict[str, Any] = {
        "weighted_test_f1": artifact.weighted(f1),
        "weighted_always_positive_f1": artifact.weighted(artifact.always_positive_f1[1]),
        "weighted_null_f1": float(artifact.weighted_null[0]),
        "weighted_null_f1_p95": float(artifact.weighted_null[1]),
    }
    found |= {f"test_f1[{name}]": value for name, value in zip(artifact.concepts, f1.tolist(), strict=True)}
    return {name: value for name, value in found.items() if value == value}  # a figure that does not exist is not shown


_COUNTS: Mapping[str, Any] = {
    "examples": lambda artifact: {"examples": len(artifact)},
    "labels": _labels,
    "sparse_activations": _sparse,
    "filtered_activations": _sparse,
    "ground_truth": _ground_truth,
    "unit_stats": _unit_stats,
    "unit_mapping": _unit_mapping,
    "thresholds": _thresholds,
    "detection_stats": _detection_stats,
    "best_pairs": _best_pairs,
}
