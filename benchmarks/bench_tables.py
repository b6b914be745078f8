"""CPU seconds of every stage after encoding, ours beside a table library (Polars) on the same sparse entries.

Entries, labelled rows and cutoffs are long tables that lie in memory; Polars and ours have one thread each. The
least of three is taken. Results of both are compared, so that the same thing is timed. Detections are counted for some
concepts and scaled up, which is printed.

    python benchmarks/bench_tables.py [--examples 200] [--rows 256] [--units 65536] [--kept 2000] [--concepts 20]
"""

import argparse
import os

os.environ["POLARS_MAX_THREADS"] = "1"  # before it is imported

import numpy as np
import polars as pl
import torch
from bench_statistics import seconds
from synthetic import synthetic_chunk

from sae_assets.artifacts import GroundTruth, UnitMapping, offsets_of
from sae_assets.ops import compiled
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, gather_scores
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.thresholds import TAIL_FRACTIONS, CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_stats import compute_unit_stats

LEVELS = [f"level_{number}" for number in range(len(TAIL_FRACTIONS))]


def report(name: str, ours: float, table: float) -> None:
    print(f"{name:24} ours {ours:9.4f} s   Polars {table:9.3f} s   ratio {table / ours:8,.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--rows", type=int, default=256, help="of each example")
    parser.add_argument("--units", type=int, default=65_536)
    parser.add_argument("--kept", type=int, default=2000)
    parser.add_argument("--concepts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of what is measured")
    arguments = parser.parse_args()
    chunk = synthetic_chunk(arguments.examples, arguments.rows, arguments.units, 32, arguments.seed)
    cal = torch.arange(arguments.examples) % 2 == 0
    loops = "with" if compiled.loops_for(compiled.FIRST, "cpu") else "without"
    print(
        f"{chunk.n_rows:,} rows of {arguments.examples:,} examples, {arguments.units:,} units, k = 32, "
        f"{arguments.kept:,} kept, {arguments.concepts} concepts, Polars {pl.__version__}, {loops} compiled loops"
    )
    example, in_cal = chunk.example_of_row(), cal[chunk.example_of_row()]

    entries = pl.DataFrame(
        {"row": chunk.row_of_entry().int().numpy(), "unit": chunk.unit_ids.numpy(), "value": chunk.values.numpy()}
    )
    rows = pl.DataFrame(
        {"row": np.arange(chunk.n_rows, dtype=np.int32), "example": example.int().numpy(), "cal": in_cal.numpy()}
    )
    ours, stats = seconds(lambda: compute_unit_stats([(chunk, cal)], arguments.units), "cpu")
    value = pl.col("value").cast(pl.Float64)
    figures = [
        pl.len().alias("n_active"), value.sum().alias("sum"), (value * value).sum().alias("squares"),
        value.max().alias("max"), *(value.quantile(q, "linear").alias(f"p{q:.0%}"[:-1]) for q in (0.95, 0.99)),
    ]  # fmt: skip
    table, lines = seconds(
        lambda: entries.join(rows, on="row").filter("cal").group_by("unit").agg(figures).sort("unit"), "cpu"
    )
    units = torch.from_numpy(lines["unit"].to_numpy().copy()).long()
    assert torch.equal(stats.n_active[units], torch.from_numpy(lines["n_active"].to_numpy().astype(np.int64)))
    assert np.allclose(stats.p99[units], lines["p99"])
    report("unit statistics", ours, table)

    reasons = torch.full((arguments.units,), 2, dtype=torch.uint8)
    kept_units = stats.n_active.argsort(descending=True)[: arguments.kept].sort().values
    reasons[kept_units] = 0
    mapping = UnitMapping(reasons, "fixed", 0, float("inf"), 0.0, float("nan"), None)
    new_ids = pl.DataFrame({"unit": kept_units.int().numpy(), "new": np.arange(arguments.kept, dtype=np.int32)})
    ours, filtered = seconds(lambda: filter_activations(chunk, mapping), "cpu")
    renamed = "row", pl.col("new").alias("unit"), "value"
    table, narrow = seconds(lambda: entries.join(new_ids, on="unit", maintain_order="left").select(renamed), "cpu")
    assert np.array_equal(narrow["unit"], filtered.unit_ids) and np.array_equal(narrow["value"], filtered.values)
    report("filter", ours, table)

    generator = torch.Generator().manual_seed(arguments.seed + 1)
    labels = torch.rand(arguments.examples, arguments.concepts, generator=generator) < 0.3
    truth_rows = labels[example] & (torch.rand(chunk.n_rows, arguments.concepts, generator=generator) < 0.2)
    truth = GroundTruth(
        tuple(f"c{number}" for number in range(arguments.concepts)), 0, chunk.example_offsets,
        offsets_of(truth_rows.sum(1)), truth_rows.nonzero()[:, 1].int(),
    )  # fmt: skip
    cells = (truth_rows & in_cal[:, None]).nonzero().int()
    labelled = pl.DataFrame({"row": cells[:, 0].numpy(), "concept": cells[:, 1].numpy()})
    calibration = [CalibrationChunk(filtered, truth, cal)]
    ours, cutoffs = seconds(
        lambda: calibrate_thresholds(calibration, concepts=truth.concepts, kept_units=kept_units), "cpu"
    )
    quantiles = [
        value.quantile(1 - tail, "linear").alias(level) for level, tail in zip(LEVELS, TAIL_FRACTIONS, strict=True)
    ]
    pair = "concept", "unit"
    table, levels = seconds(lambda: narrow.join(labelled, on="row").group_by(pair).agg(quantiles).sort(pair), "cpu")
    at = levels["concept"].to_numpy().astype(np.int64), levels["unit"].to_numpy().astype(np.int64)
    assert np.allclose(cutoffs.values[at].numpy(), levels.select(LEVELS).to_numpy())
    assert int(cutoffs.values[: arguments.concepts, :, 0].isfinite().sum()) == len(levels)
    report("thresholds", ours, table)

    splits = tuple("cal" if flag else "test" for flag in cal.tolist())
    ours, counts = seconds(
        lambda: count_detections(
            gather_scores([LabelledChunk(filtered, splits, labels)], n_units=arguments.kept), cutoffs
        ),
        "cpu",
    )
    some = min(10, arguments.concepts)
    columns = {f"c{concept}": labels[:, concept].numpy() for concept in range(some)}
    positive = pl.DataFrame({"example": np.arange(arguments.examples, dtype=np.int32), **columns})

    def detections() -> list[pl.DataFrame]:
        """Return the tables of the first concepts; example scores are computed once, as ours are."""
        scores = narrow.join(rows, on="row").group_by("example", "cal", "unit").agg(value.max().alias("score"))
        scores = scores.join(positive, on="example")
        lines = []
        for concept in range(some):
            side = pl.col(f"c{concept}")
            hits = [pl.col("score") >= pl.col(level) for level in LEVELS]
            sums = [(hit & side).sum().alias(f"tp_{level}") for hit, level in zip(hits, LEVELS, strict=True)]
            sums += [(hit & ~side).sum().alias(f"fp_{level}") for hit, level in zip(hits, LEVELS, strict=True)]
            of_concept = levels.filter(pl.col("concept") == concept).drop("concept")
            lines.append(scores.join(of_concept, on="unit").group_by("cal", "unit").agg(sums))
        return lines

    table, by_concept = seconds(detections, "cpu")
    for concept, lines in enumerate(by_concept):
        tested = lines.filter(~pl.col("cal"))
        units = tested["unit"].to_numpy().astype(np.int64)
        hits = tested.select([f"tp_{level}" for level in LEVELS]).to_numpy()
        assert np.array_equal(counts.true_positives[1, concept][units].numpy(), hits)
    report("scores and detection", ours, table * arguments.concepts / some)
    print(f"{'':24} Polars counted {some} of {arguments.concepts} concepts")


if __name__ == "__main__":
    main()
