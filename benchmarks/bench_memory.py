"""Peak memory of what goes through all chunks, over 10 and over 1,000 of the same size, read from files.

Chunks are written once to a temporary store and read through the store's ``ChunkReader``, as the assets read them. Each
measurement is a process of its own (``resource.ru_maxrss``), beside one that only imports; the process that starts them
imports nothing, because a child's peak begins at its parent's. Seconds are of CPU. Passes over the chunks are counted.

    python benchmarks/bench_memory.py [--chunks 10 1000] [--examples 2] [--units 65536] [--budget-mb 64] [--plot FILE]
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_assets.storage.address import Address

STAGES = ("sparse_activations", "filtered_activations", "ground_truth")
KEPT, CONCEPTS = 2000, 20
WORK = ("import", "unit_stats", "thresholds", "scores", "exact search", "detection")


def address(stage: str, number: int) -> "Address":
    from sae_assets.storage.address import Address

    return Address("bench", stage, "patch", "synthetic", f"{number:04d}")


def write(root: str, n_chunks: int, examples: int, units: int) -> None:
    """``n_chunks`` chunks, ten different ones over and over."""
    import torch
    from synthetic import synthetic_chunk

    from sae_assets.artifacts import GroundTruth, UnitMapping, offsets_of
    from sae_assets.ops.filtered_activations import filter_activations
    from sae_assets.storage.provenance import Provenance
    from sae_assets.storage.store import ArtifactStore, stored

    store, generator = ArtifactStore(root), torch.Generator().manual_seed(1)
    artifacts: list[tuple[Any, ...]] = []
    reasons = torch.full((units,), 2, dtype=torch.uint8)
    for number in range(min(10, n_chunks)):
        sparse = synthetic_chunk(examples, 256, units, 32, seed=number)
        if number == 0:
            reasons[torch.bincount(sparse.unit_ids, minlength=units).argsort(descending=True)[:KEPT]] = 0
        mapping = UnitMapping(reasons, "fixed", 0, float("inf"), 0.0, float("nan"), None)
        rows = torch.rand(sparse.n_rows, CONCEPTS, generator=generator) < 0.05
        names = tuple(f"c{concept}" for concept in range(CONCEPTS))
        truth = GroundTruth(names, 0, sparse.example_offsets, offsets_of(rows.sum(1)), rows.nonzero()[:, 1].int())
        artifacts.append((sparse, filter_activations(sparse, mapping), truth))
    for number in range(n_chunks):
        for stage, artifact in zip(STAGES, artifacts[number % len(artifacts)], strict=True):
            moved = dataclasses.replace(artifact, first_example=number * examples)
            where = address(stage, number)
            store.write(where, stored(moved, Provenance(stage, "bench", "patch", "synthetic", where.chunk, "1")))


def work(root: str, what: str, n_chunks: int, units: int, budget: int) -> None:
    """One measurement: prints bytes of peak memory, CPU seconds, and passes over the chunks."""
    import torch

    from sae_assets.artifacts import Thresholds
    from sae_assets.ops import compiled
    from sae_assets.ops.concept_pairs import find_pairs
    from sae_assets.ops.detection_stats import count_detections
    from sae_assets.ops.example_scores import LabelledChunk, gather_scores, score_examples
    from sae_assets.ops.thresholds import TAIL_FRACTIONS, CalibrationChunk, calibrate_thresholds
    from sae_assets.ops.unit_stats import compute_unit_stats
    from sae_assets.pipeline.stage import Rereadable
    from sae_assets.storage.chunk_reader import ChunkReader
    from sae_assets.storage.store import ArtifactStore

    compiled.loops_for(compiled.FIRST)  # loops, where Numba is installed, which else only long work would load
    passes, start = [0], time.process_time()
    store = ArtifactStore(root)
    reader = {stage: ChunkReader(store, {f"{n:04d}": address(stage, n) for n in range(n_chunks)}) for stage in STAGES}

    def pairs() -> Iterator:
        passes[0] += 1
        for item in map(reader["sparse_activations"].__getitem__, reader["sparse_activations"]):
            yield item.artifact, torch.ones(item.artifact.n_examples, dtype=torch.bool)

    def calibration() -> Iterator:
        passes[0] += 1
        for key in reader["filtered_activations"]:
            rows, truth = reader["filtered_activations"][key].artifact, reader["ground_truth"][key].artifact
            yield CalibrationChunk(rows, truth, torch.ones(rows.n_examples, dtype=torch.bool))

    generator = torch.Generator().manual_seed(2)

    def labelled(stage: str) -> Iterator:
        passes[0] += 1
        for number, key in enumerate(reader[stage]):
            rows = reader[stage][key].artifact
            splits = tuple(("cal", "test")[(number + index) % 2] for index in range(rows.n_examples))
            yield LabelledChunk(rows, splits, torch.rand(rows.n_examples, CONCEPTS, generator=generator) < 0.3)

    if what == "unit_stats":
        compute_unit_stats(Rereadable(pairs), units, memory_budget=budget)
    elif what == "thresholds":
        names = tuple(f"c{index}" for index in range(CONCEPTS))
        calibrate_thresholds(
            Rereadable(calibration), concepts=names, kept_units=torch.arange(KEPT), memory_budget=budget
        )  # fmt: skip
    elif what == "scores":
        score_examples(labelled("sparse_activations"), n_units=units, memory_budget=budget)
    elif what == "exact search":
        find_pairs(score_examples(labelled("sparse_activations"), n_units=units, memory_budget=budget))
    elif what == "detection":
        values = 1 + torch.rand(CONCEPTS + 1, KEPT, len(TAIL_FRACTIONS), generator=generator, dtype=torch.float64)
        values, counts = values.sort(descending=True).values, torch.ones(CONCEPTS + 1, KEPT, dtype=torch.int64)
        names = tuple(f"c{index}" for index in range(CONCEPTS))
        cutoffs = Thresholds(names, torch.arange(KEPT), TAIL_FRACTIONS, counts, values)
        count_detections(
            gather_scores(labelled("filtered_activations"), n_units=KEPT, memory_budget=budget), cutoffs
        )  # fmt: skip
    seconds = time.process_time() - start
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, seconds, passes[0])


def plot(path: Path, chunks: list[int], rows: int, peaks: dict[str, list[int]], times: dict[str, list[float]]) -> None:
    """CPU seconds and peak memory against rows, of every kind of work; a dashed line is linear time."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "sae_assets", "svg.fonttype": "none", "font.size": 8, "font.family": "sans-serif"}
    import matplotlib.pyplot as plt

    x = [number * rows for number in chunks]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 2.8), layout="constrained")
    for what in list(peaks)[1:]:
        left.loglog(x, times[what], "o-", markersize=3, label=what.replace("_", " "))
        right.semilogx(x, [peak / 2**20 for peak in peaks[what]], "o-", markersize=3)
    slowest = max(each[-1] for each in times.values())
    left.loglog(x, [slowest * each / x[-1] for each in x], "k--", linewidth=0.7, label="linear")
    right.axhline(peaks["import"][0] / 2**20, color="black", linestyle=":", linewidth=0.7)
    right.set_ylim(0)
    left.set(xlabel=f"rows, in chunks of {rows:,}", ylabel="CPU seconds")
    right.set(xlabel="rows (dotted: imports alone)", ylabel="peak, MiB")
    for axes in (left, right):
        above = axes.secondary_xaxis("top", functions=(lambda each: each / rows, lambda each: each * rows))
        above.set_xlabel("chunks")
        axes.minorticks_off()
        above.minorticks_off()
    left.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--examples", type=int, default=2, help="of 256 rows, per chunk")
    parser.add_argument("--units", type=int, default=65_536)
    parser.add_argument("--budget-mb", type=int, default=64)
    parser.add_argument("--only", nargs="+", choices=WORK[1:], default=WORK[1:])
    parser.add_argument("--plot", type=Path, help="an SVG of seconds and peak against rows and chunks")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        root, what, n_chunks = args.work
        if what == "write":
            write(root, int(n_chunks), args.examples, args.units)
        else:
            work(root, what, int(n_chunks), args.units, args.budget_mb * 2**20)
        return

    def measured(what: str, n_chunks: int) -> list[str]:
        command = [sys.executable, __file__, "--work", root, what, str(n_chunks), "--examples", str(args.examples)]
        command += ["--units", str(args.units), "--budget-mb", str(args.budget_mb)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    entries = args.examples * 256 * 32
    print(f"chunks of {args.examples * 256:,} rows, {args.units:,} units, k = 32, memory_budget {args.budget_mb} MiB")
    with tempfile.TemporaryDirectory() as root:
        measured("write", max(args.chunks))
        size = sum(path.stat().st_size for path in Path(root).rglob("sparse_activations/*"))
        print(f"{size / max(args.chunks):,.0f} bytes of activations per chunk on disk")
        peaks: dict[str, list[int]] = {}
        times: dict[str, list[float]] = {}
        for what in ("import", *args.only):
            for n_chunks in args.chunks[: 1 if what == "import" else None]:
                figures = measured(what, n_chunks)
                peaks.setdefault(what, []).append(int(figures[0]))
                times.setdefault(what, []).append(float(figures[1]))
                values = "" if what == "import" else f"{n_chunks:6,} chunks  {n_chunks * entries:12,} entries  "
                print(
                    f"{what:12} {values:42} peak {int(figures[0]) / 2**20:6,.0f} MiB  {float(figures[1]):7.2f} s  "
                    f"{figures[2]} passes", flush=True
                )  # fmt: skip
    if args.plot:
        plot(args.plot, args.chunks, args.examples * 256, peaks, times)
    for what in args.only:
        first, last = peaks[what][0], peaks[what][-1]
        above = (last - peaks["import"][0]) / 2**20
        print(f"{what:12} ratio {last / first:.2f}, {above:,.0f} MiB above the imports")


if __name__ == "__main__":
    main()
