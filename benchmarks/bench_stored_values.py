"""Values are stored in 16 bits, on the packaged data: it is measured what that saves, and which figures it changes.

Rows are encoded once, exactly; then everything after is made twice, of the values as they are and of the rounded ones:
unit statistics, thresholds of every unit that fires and their counts on both splits, and the pairs that are chosen.
Shown of each is the share that is another number, and the largest relative change of one.

    python benchmarks/bench_stored_values.py [--only clevr_mini]
"""

import argparse
from dataclasses import replace

import torch
from bench_random_saes import PACKAGED, World
from synthetic import synthetic_chunk
from torch import Tensor

from sae_assets import ops
from sae_assets.artifacts import SparseActivations
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.intervals import weighted_f1
from sae_assets.ops.rounding import rounded
from sae_assets.ops.sparse_code import SparseCode, joined
from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_mapping import EVERY_ACTIVE_UNIT, map_units
from sae_assets.storage import parquet
from sae_assets.storage.header import Header
from sae_assets.storage.provenance import Provenance


def bytes_per_row(chunk: SparseActivations) -> float:
    provenance = Provenance("sparse_activations", "bench", "patch", "synthetic", "0000", "1")
    content = parquet.dump(chunk, lambda scalars: Header(chunk.kind, "", scalars, provenance))
    return len(content) / chunk.n_rows


def with_values(chunk: SparseActivations, stored_values: str) -> SparseActivations:
    nothing = torch.zeros(chunk.n_rows, dtype=torch.float64)
    code = SparseCode(chunk.row_offsets, chunk.unit_ids, chunk.values, chunk.l0, nothing, nothing)
    stored = rounded(code, stored_values)
    name = stored_values if stored_values == "float16" else None
    return replace(chunk, unit_ids=stored.unit_ids, values=stored.values, stored_values=name)


def figures(world: World, rows: SparseActivations) -> dict[str, Tensor]:
    """Everything after encoding."""
    splits, labels = world.labels.splits, world.labels.labels
    cal = torch.tensor([split == "cal" for split in splits])
    stats = ops.unit_stats.compute_unit_stats([(rows, cal)], rows.n_units)
    mapping = map_units(stats, EVERY_ACTIVE_UNIT)
    filtered = ops.filtered_activations.filter_activations(rows, mapping)
    thresholds = calibrate_thresholds(
        [CalibrationChunk(filtered, world.truth, cal)], concepts=world.labels.concepts, kept_units=mapping.kept_units
    )
    scores = score_examples([LabelledChunk(filtered, splits, labels)], n_units=mapping.n_filtered)
    counts = ops.detection_stats.count_detections(scores, thresholds)
    detected = world.detected(rows)["SAE"]
    return {
        "active rows of a unit": stats.n_active,
        "mean of a unit": stats.total / stats.n_active,
        "p99 of a unit": stats.p99,
        "thresholds": thresholds.values,
        "true positives": counts.true_positives,
        "false positives": counts.false_positives,
        "weighted test F1 of the chosen pairs": weighted_f1(detected)[None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[dataset for dataset, _, _ in PACKAGED])
    only = parser.parse_args().only
    torch.set_num_threads(1)
    synthetic = synthetic_chunk(200, 256, 65_536, 32)
    sizes = {name: bytes_per_row(with_values(synthetic, name)) for name in ("float32", "float16")}
    print(f"{synthetic.n_rows:,} rows, {synthetic.n_units:,} units, k = 32: " +
          ", ".join(f"{name} {size:.1f} bytes/row" for name, size in sizes.items()))  # fmt: skip
    for dataset, model, kind in PACKAGED:
        if only not in (None, dataset):
            continue
        world = World(dataset, model, kind)
        code = joined([world.sae.encode(part) for part in world.rows.split(world.sae.rows_at_once)])
        chunk = SparseActivations(
            0, world.offsets, code.row_offsets, code.unit_ids, code.values, world.sae.n_units, code.l0, None, 0.0, 0.0
        )
        both = [with_values(chunk, name) for name in sizes]
        each = ", ".join(f"{name} {bytes_per_row(one):.1f}" for name, one in zip(sizes, both, strict=True))
        print(f"{dataset}: {chunk.n_rows:,} rows, {each} bytes/row")
        exact, halves = (figures(world, one) for one in both)
        for name, before in exact.items():
            before, after = before.double().nan_to_num(), halves[name].double().nan_to_num()
            changed = float((before != after).double().mean())
            most = float(((before - after).abs() / before.abs().clamp(min=1e-300)).where(before != 0, 0).max())
            print(f"  {name:38} {changed:8.2%} changed, by {most:.1e} at most", flush=True)


if __name__ == "__main__":
    main()
