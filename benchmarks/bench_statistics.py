"""Seconds of every stage after encoding, ours on sparse rows against vectorised dense torch, on one chunk.

Seconds are of CPU (on a GPU: of the wall), the least of three of each, and of more of what is quick.

Dense statistics are measured on a slice of the units and scaled up, since the dense matrix does not fit: the slice is
printed. Results of both are compared, so that the same thing is timed. With Numba installed (``pip install
sae-assets[fast]``) loops are compiled where that pays; ``NUMBA_DISABLE_JIT=1`` leaves them out. Unit statistics stand
beside the plainest sparse way in NumPy, too, one sort of all values, and thresholds and detection beside what filling
their result alone takes. ``--null`` also draws 1,000 shuffles of all labels, and searches each exactly
(numerics 9).

    python benchmarks/bench_statistics.py [--examples 200] [--rows 256] [--units 65536] [--kept 2000] [--concepts 20]
        [--null]
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
import torch
from synthetic import synthetic_chunk

from sae_assets.artifacts import GroundTruth, SparseActivations, UnitMapping, offsets_of
from sae_assets.ops import compiled
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, gather_scores
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.scratch import zeros
from sae_assets.ops.significance import search_null
from sae_assets.ops.thresholds import TAIL_FRACTIONS, CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_stats import compute_unit_stats

FAMILIES: tuple[Literal["max-t", "holm"], ...] = ("max-t", "holm")


def seconds(call: Callable[[], object], device: str, repeat: int = 3) -> tuple[float, object]:
    """Best of ``repeat``, and of more as long as all take less than a second; the device is waited for."""
    best, total, result = float("inf"), 0.0, None
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    while repeat > 0 or total < 1:
        start = clock()
        result = call()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        spent = clock() - start
        best, total, repeat = min(best, spent), total + spent, repeat - 1
    return best, result


def report(name: str, ours: float, dense: float, result: float = 0.0) -> None:
    """``result``: seconds that it takes to fill the result alone."""
    most = f"   at least {result:.4f} s" if result else ""
    print(f"{name:24} ours {ours:9.4f} s   dense {dense:10.3f} s   ratio {dense / ours:10,.0f}{most}", flush=True)


def one_sort(chunk: SparseActivations, cal: torch.Tensor) -> np.ndarray:
    """float64 [6, units], by NumPy alone: count, sum, sum of squares, p95, p99 and maximum, from one sort of all values
    with their units. It checks nothing, and holds every value at once."""
    inside = np.repeat(cal.numpy()[chunk.example_of_row().numpy()], np.diff(chunk.row_offsets.numpy()))
    units, values = chunk.unit_ids.numpy()[inside], chunk.values.numpy()[inside]
    keys = units.astype(np.int64) << 32 | values.view(np.int32)
    keys.sort()
    ordered = keys.astype(np.int32).view(np.float32).astype(np.float64)
    counts = np.bincount(units, minlength=chunk.n_units)
    filled = counts > 0
    n = counts[filled]
    starts = n.cumsum() - n
    figures = np.full((6, chunk.n_units), np.nan)
    figures[0], figures[1:3] = counts, 0
    figures[1, filled], figures[2, filled] = (np.add.reduceat(each, starts) for each in (ordered, ordered * ordered))
    for number, q in enumerate((0.95, 0.99)):
        rank = (n - 1) * q
        low = rank.astype(np.int64)
        below, above = ordered[starts + low], ordered[starts + np.minimum(low + 1, n - 1)]
        figures[3 + number, filled] = below + (above - below) * (rank - low)
    figures[5, filled] = ordered[starts + n - 1]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--rows", type=int, default=256, help="of each example")
    parser.add_argument("--units", type=int, default=65_536)
    parser.add_argument("--kept", type=int, default=2000)
    parser.add_argument("--concepts", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of what is measured")
    parser.add_argument("--null", action="store_true", help="the null of 1,000 shuffles, too")
    args = parser.parse_args()
    device = args.device
    chunk = synthetic_chunk(args.examples, args.rows, args.units, 32, args.seed)
    cal = torch.arange(args.examples) % 2 == 0
    print(
        f"{chunk.n_rows:,} rows of {args.examples:,} examples, {args.units:,} units, k = 32, "
        f"{args.kept:,} kept, {args.concepts} concepts, {device}, "
        f"{'with' if compiled.loops_for(compiled.FIRST, device) else 'without'} compiled loops"
    )

    # Unit statistics: dense columns are densified and reduced in blocks of 256 units, two blocks measured.
    ours, stats = seconds(lambda: compute_unit_stats([(chunk, cal)], args.units, device=device), device)
    rows = cal[chunk.example_of_row()]
    common = stats.n_active.argsort(descending=True)[:512].sort().values

    def dense_block(units: torch.Tensor) -> torch.Tensor:
        index = torch.full((args.units,), -1)
        index[units] = torch.arange(len(units))
        entry = index[chunk.unit_ids.long()]
        block = torch.zeros(chunk.n_rows, len(units))
        block[chunk.row_of_entry()[entry >= 0], entry[entry >= 0]] = chunk.values[entry >= 0]
        return block

    blocks = [dense_block(common[:256])[rows].to(device), dense_block(common[256:])[rows].to(device)]
    q = torch.tensor([0.95, 0.99], device=device)

    def dense_stats() -> torch.Tensor:
        results = []
        for block in blocks:
            positive = block.masked_fill(block <= 0, torch.nan)
            _ = (block > 0).sum(0), block.sum(0), block.square().sum(0), block.max(0)
            results.append(torch.cat([column[None] for column in positive.T.contiguous().nanquantile(q, 1)]))
        return torch.cat(results, 1)

    dense, quantiles = seconds(dense_stats, device)
    assert torch.allclose(quantiles[1].cpu().double(), stats.p99[common], rtol=1e-5)
    report("unit statistics", ours, dense * args.units / 512)
    if not device.startswith("cuda"):
        sorted_once, results = seconds(lambda: one_sort(chunk, cal), device)
        assert np.array_equal(results[0], stats.n_active.numpy())
        for row, column in zip(
            results[1:], (stats.total, stats.total_sq, stats.p95, stats.p99, stats.max), strict=True
        ):
            assert np.allclose(row, column.numpy(), rtol=1e-10, equal_nan=True)
        beside = f"NumPy {sorted_once:10.4f} s   ours takes {ours / sorted_once:.2f} of it"
        print(f"{'  one sort, in NumPy':24} ours {ours:9.4f} s   {beside}")

    # Filter: dense is a column gather of the kept units, in row blocks.
    reasons = torch.full((args.units,), 2, dtype=torch.uint8)
    kept_units = stats.n_active.argsort(descending=True)[: args.kept].sort().values
    reasons[kept_units] = 0
    mapping = UnitMapping(reasons, "fixed", 0, float("inf"), 0.0, float("nan"), None)
    ours, filtered = seconds(lambda: filter_activations(chunk, mapping, device=device), device)
    slice_rows = 2048
    row = chunk.row_of_entry()
    first = row < slice_rows
    wide = torch.zeros(slice_rows, args.units)
    wide[row[first], chunk.unit_ids[first].long()] = chunk.values[first]
    wide, chosen = wide.to(device), kept_units.to(device)

    def dense_filter() -> torch.Tensor:
        return wide[:, chosen].topk(32, 1).values  # gathered, then made sparse again

    dense, _ = seconds(dense_filter, device)
    report("filter", ours, dense * chunk.n_rows / slice_rows)

    # Thresholds and detection.
    generator = torch.Generator().manual_seed(args.seed + 1)
    labels = torch.rand(args.examples, args.concepts, generator=generator) < 0.3
    truth_rows = labels[chunk.example_of_row()] & (torch.rand(chunk.n_rows, args.concepts, generator=generator) < 0.2)
    truth = GroundTruth(
        tuple(f"c{number}" for number in range(args.concepts)), 0, chunk.example_offsets,
        offsets_of(truth_rows.sum(1)), truth_rows.nonzero()[:, 1].int(),
    )  # fmt: skip
    calibration = [CalibrationChunk(filtered, truth, cal)]
    ours, cutoffs = seconds(
        lambda: calibrate_thresholds(calibration, concepts=truth.concepts, kept_units=kept_units, device=device), device
    )
    some = min(64, args.kept)
    entry = filtered.unit_ids < some

    def dense_rows() -> torch.Tensor:
        matrix = torch.zeros(chunk.n_rows, some)
        matrix[filtered.row_of_entry()[entry], filtered.unit_ids[entry].long()] = filtered.values[entry]
        return matrix

    matrix, narrow = seconds(dense_rows, "cpu")
    print(f"{'making dense rows':24} {'':16}   dense {matrix * args.kept / some:10.3f} s   not part of what follows")
    narrow, where = narrow.to(device), truth_rows.to(device) & rows[:, None].to(device)
    q = 1 - torch.tensor(TAIL_FRACTIONS, device=device)

    def dense_thresholds() -> torch.Tensor:
        results = []
        for concept in range(args.concepts):
            block = narrow[where[:, concept]]
            results.append(block.masked_fill(block <= 0, torch.nan).nanquantile(q, 0).T)
        return torch.stack(results)

    dense, values = seconds(dense_thresholds, device)
    assert torch.allclose(values.cpu().double(), cutoffs.values[:-1, :some], rtol=1e-5, equal_nan=True)
    shape = cutoffs.values.shape
    filled, _ = seconds(lambda: zeros(*shape, dtype=torch.float64).fill_(1), "cpu")
    report("thresholds", ours, dense * args.kept / some, filled)

    splits = tuple("cal" if flag else "test" for flag in cal.tolist())

    def detect() -> object:
        scores = gather_scores([LabelledChunk(filtered, splits, labels)], n_units=args.kept, device=device)
        return count_detections(scores, cutoffs)

    ours, stats_ours = seconds(detect, device)

    def dense_detection() -> torch.Tensor:
        scores = narrow.view(args.examples, args.rows, some).amax(1)[~cal.to(device)].double()
        positive = labels[~cal].to(device)
        results = []
        for concept in range(args.concepts):
            hit = scores[:, :, None] >= cutoffs.values[concept, :some].to(device)
            results.append((hit & positive[:, concept, None, None]).sum(0))
            _ = (hit & ~positive[:, concept, None, None]).sum(0)
        return torch.stack(results)

    def dense_products() -> torch.Tensor:
        """The same counts by matrix products, positives and negatives of a concept against all its detections."""
        scores = narrow.view(args.examples, args.rows, some).amax(1)[~cal.to(device)].double()
        positive = labels[~cal].to(device).float()
        sides = torch.stack([positive, 1 - positive], 1)
        results = []
        for concept in range(args.concepts):
            hit = (scores[:, :, None] >= cutoffs.values[concept, :some].to(device)).float().flatten(1)
            results.append((sides[:, :, concept].T @ hit)[0].view(some, -1))
        return torch.stack(results)

    by_products, hits = seconds(dense_products, device)
    assert torch.equal(hits.cpu().int(), stats_ours.true_positives[1, :, :some])
    dense, hits = seconds(dense_detection, device)
    assert torch.equal(hits.cpu().int(), stats_ours.true_positives[1, :, :some])
    counts = (stats_ours.true_positives, stats_ours.false_positives)
    filled, _ = seconds(lambda: [zeros(*each.shape, dtype=torch.int32).fill_(1) for each in counts], "cpu")
    report("scores and detection", ours, dense * args.kept / some * 2, filled)  # two splits
    report("  dense by products", ours, by_products * args.kept / some * 2)
    if args.null:
        everything = gather_scores([LabelledChunk(filtered, splits, labels)], n_units=args.kept, device=device).whole()
        for family in FAMILIES:
            ours, null = seconds(partial(search_null, everything, n_shuffles=1000, family=family), device, 1)
            print(f"null, {family:18} ours {ours:9.4f} s   {null.n_shuffles.double().mean():,.0f} shuffles per concept")


if __name__ == "__main__":
    main()
