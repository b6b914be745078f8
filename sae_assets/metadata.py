"""What every materialization tells the UI: sizes, ratios, seconds, identity, schema, first rows and a picture.

Numbers stay numbers, so that the UI plots them over partitions. Pictures are made in ``reports.plots``.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from sae_assets.artifacts import Artifact
    from sae_assets.storage.store import Stored, WrittenFile

HEAD = 5


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

    found: dict[str, Any] = {"dagster/uri": str(written.path), "stored_bytes": written.n_bytes}
    if isinstance(artifact, SparseRows):
        found["dense_bytes"] = artifact.dense_bytes
        found["compression_ratio"] = artifact.dense_bytes / written.n_bytes
        found["bytes_per_row"] = written.n_bytes / max(artifact.n_rows, 1)
    return found


def artifact_metadata(item: "Stored", clock: Clock, device: str) -> dict[str, Any]:
    """What is known before writing: counts of this kind of artifact, time, identity, schema and first rows."""
    from sae_assets.storage.parquet import to_table

    table, _ = to_table(item.artifact)
    seconds = clock.seconds
    schema = [dg.TableColumn(field.name, str(field.type)) for field in table.schema]
    records = [dg.TableRecord({key: _cell(value) for key, value in row.items()}) for row in table[:HEAD].to_pylist()]
    return {
        "dagster/row_count": len(table),
        "dagster/column_schema": dg.TableSchema(columns=schema),
        "head": dg.MetadataValue.table(records, schema=dg.TableSchema(columns=schema)),
        "seconds": seconds,
        "rows_per_second": len(table) / max(seconds, 1e-9),
        "device": device,
        "fingerprint": item.provenance.fingerprint,
        **counts(item.artifact),
    }


def _cell(value: Any) -> str | int | float | bool | None:
    if isinstance(value, list):
        shown = ", ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in value[:8])
        return f"[{shown}{', …' if len(value) > 8 else ''}]"
    return value


def counts(artifact: "Artifact") -> dict[str, Any]:
    """Numbers of one artifact, by kind; numeric throughout."""
    return _COUNTS.get(artifact.kind, lambda _: {})(artifact)


def _sparse(artifact: Any) -> dict[str, Any]:
    units = artifact.unit_ids.unique().numel()
    found = {
        "rows": artifact.n_rows,
        "examples": artifact.n_examples,
        "units": artifact.n_units,
        "entries": artifact.n_entries,
        "active_units": units,
        "coverage": units / artifact.n_units,
        "mean_entries_per_row": artifact.n_entries / max(artifact.n_rows, 1),
    }
    if artifact.kind == "sparse_activations":
        active = int(artifact.l0.sum())
        found |= {
            "k_stored": artifact.k_stored if artifact.k_stored is not None else "all",
            "l0": active / max(artifact.n_rows, 1),
            "truncated_rows_share": artifact.n_truncated_rows / max(artifact.n_rows, 1),
            "dropped_entries_share": artifact.n_dropped_entries / max(active, 1),
            "dropped_mass_share": artifact.dropped_mass / artifact.total_mass if artifact.total_mass else 0.0,
        }
    return found


def _examples(artifact: Any) -> dict[str, Any]:
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
    }
    found |= {f"test_f1[{name}]": value for name, value in zip(artifact.concepts, f1.tolist(), strict=True)}
    return {name: value for name, value in found.items() if value == value}  # a figure that does not exist is not shown


_COUNTS: Mapping[str, Any] = {
    "examples": _examples,
    "sparse_activations": _sparse,
    "filtered_activations": _sparse,
    "ground_truth": _ground_truth,
    "unit_stats": _unit_stats,
    "unit_mapping": _unit_mapping,
    "thresholds": _thresholds,
    "detection_stats": _detection_stats,
    "best_pairs": _best_pairs,
}
