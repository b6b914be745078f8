"""Seconds and memory of row alignment over all (unit, concept) pairs, against sorting dense columns pair by pair.

The dense way is measured on a few units and concepts, on test and cal alike, and scaled up: its sorts by the number of
units, the rest by the number of pairs. Both ways must agree on the pairs that both computed. Chunks are held in memory.

    python benchmarks/bench_row_alignment.py [--full] [--units 1000] [--rows 102400] [--concepts 100] [--threads 1]
"""

import argparse
import resource
import time

import numpy as np
import torch

from sae_assets.artifacts import GroundTruth, SparseActivations, offsets_of
from sae_assets.ops.row_alignment import RowFigures, align_rows
from sae_assets.ops.row_chance import exchange_maps, rows_of_pairs
from sae_assets.ops.row_chunks import RowChunk

K, ROWS, EXAMPLES = 32, 256, 80  # entries of a row, rows of an example, examples of a chunk
LABELS = 4  # concepts of an example, each on a run of half its rows on average: 2 per row
FEW_UNITS, FEW_CONCEPTS = 6, 4
DRAWS = 1000


def chunk_of(number: int, n_units: int, n_concepts: int, generator: torch.Generator) -> RowChunk:
    """Rows of K units, one from each of K ranges, the first of a range most often; every second example is of test."""
    n_rows = EXAMPLES * ROWS
    width = n_units // K
    drawn = (width * torch.rand(n_rows, K, generator=generator) ** 3).long().clamp(max=width - 1)
    units = drawn + width * torch.arange(K)
    values = torch.empty(n_rows, K).log_normal_(0.5, 0.7, generator=generator)
    named = torch.rand(EXAMPLES, n_concepts, generator=generator).argsort(1)[:, :LABELS]
    ends = (ROWS * torch.rand(EXAMPLES, LABELS, 2, generator=generator).sort(-1).values).long()
    ends[..., 1] = ends[..., 0] + ROWS // 2  # runs wrap around
    row = torch.arange(ROWS)[:, None, None]
    inside = ((row - ends[..., 0]) % ROWS < ROWS // 2).permute(1, 0, 2).reshape(n_rows, LABELS)
    truth = torch.zeros(n_rows, n_concepts, dtype=torch.bool)
    truth.scatter_(1, named.repeat_interleave(ROWS, 0), inside)
    values = torch.where((truth.any(1)[:, None]) & (units % 7 == 0), values * 1.5, values)
    values, order = values.sort(dim=1, descending=True, stable=True)  # units of a row ascend, so ties do too
    example_offsets = offsets_of(torch.full((EXAMPLES,), ROWS))
    activations = SparseActivations(
        first_example=number * EXAMPLES,
        example_offsets=example_offsets,
        row_offsets=offsets_of(torch.full((n_rows,), K)),
        unit_ids=units.gather(1, order).flatten().int(),
        values=values.flatten(),
        n_units=n_units,
        l0=torch.full((n_rows,), K, dtype=torch.int32),
        k_stored=K,
        total_mass=1e12,
        dropped_mass=0.0,
    )
    names = tuple(f"c{concept}" for concept in range(n_concepts))
    located = GroundTruth(
        names, number * EXAMPLES, example_offsets, offsets_of(truth.sum(1)), truth.nonzero()[:, 1].int()
    )
    return RowChunk(activations, located, ("cal", "test") * (EXAMPLES // 2))


def dense_columns(chunks: list[RowChunk], split: str, units: torch.Tensor, concepts: torch.Tensor) -> tuple:
    """float32 [rows, units] and bool [rows, concepts] of a split."""
    values, truths = [], []
    for chunk in chunks:
        rows, inside = chunk.activations, chunk.rows_in(split)
        chosen = torch.isin(rows.unit_ids, units.int()).nonzero().flatten()
        dense = torch.zeros(rows.n_rows, len(units))
        dense[rows.row_of_entry()[chosen], torch.searchsorted(units, rows.unit_ids[chosen].long())] = rows.values[
            chosen
        ]
        truth = torch.zeros(rows.n_rows, len(chunk.truth.concepts), dtype=torch.bool)
        truth[chunk.truth.row_of_positive(), chunk.truth.concept_ids.long()] = True
        values.append(dense[inside].numpy())
        truths.append(truth[inside][:, concepts].numpy())
    return np.concatenate(values), np.concatenate(truths)


def dense_figures(chunks: list[RowChunk], units: torch.Tensor, concepts: torch.Tensor, got: RowFigures) -> tuple:
    """CPU seconds for each unit, and for each pair, of plain vectorised numpy; every figure is compared with ours."""
    data = {split: dense_columns(chunks, split, units, concepts) for split in ("cal", "test")}
    per_unit = per_pair = 0.0
    for column, unit in enumerate(units.tolist()):
        start = time.process_time()
        ranked = {}
        for split, (values, _) in data.items():
            order = np.argsort(-values[:, column], kind="stable")
            falling = values[order, column]
            ranked[split] = order, falling, np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        per_unit += time.process_time() - start
        for position, concept in enumerate(concepts.tolist()):
            start = time.process_time()
            figures, threshold = {}, None
            for split, (_, truth) in data.items():
                order, falling, ends = ranked[split]
                label = truth[order, position]
                true = np.cumsum(label)[ends]
                false = 1 + ends - true
                positive, negative = true[-1], false[-1]
                f1 = 2 * true / (1 + ends + positive)
                if threshold is None:
                    threshold = falling[ends[np.argmax(np.where(falling[ends] > 0, f1, -1))]]
                at = np.searchsorted(-falling[ends], -threshold, side="right") - 1
                precision, recall = true / (1 + ends), np.append(0, true / positive)
                hits = np.append(0, true / positive), np.append(0, false / negative)
                figures[split] = (
                    true[at],
                    false[at],
                    float((np.diff(recall) * precision).sum()),
                    float(np.trapezoid(*hits)),
                )
            per_pair += time.process_time() - start
            assert float(got.thresholds[unit, concept]) == float(threshold)
            for row, split in enumerate(("cal", "test")):
                assert got.counts[row, unit, concept, :2].tolist() == [int(count) for count in figures[split][:2]]
                assert abs(float(got.average_precision[row, unit, concept]) - figures[split][2]) < 1e-9
            assert abs(float(got.auroc[unit, concept]) - figures["test"][3]) < 1e-9
    return per_unit / len(units), per_pair / (len(units) * len(concepts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=102_400)
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-budget", type=int, default=512, help="MiB for values while they are sorted")
    parser.add_argument("--full", action="store_true", help="5,000 units and 1.4 million rows")
    args = parser.parse_args()
    if args.full:
        args.units, args.rows = 5000, 1_400_000
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    n_chunks = max(1, round(args.rows / (EXAMPLES * ROWS)))
    chunks = [chunk_of(number, args.units, args.concepts, generator) for number in range(n_chunks)]
    n_entries = sum(chunk.activations.n_entries for chunk in chunks)
    members = sum(len(chunk.truth.concept_ids) for chunk in chunks)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    wall, cpu = time.perf_counter(), time.process_time()
    names = chunks[0].truth.concepts
    got = align_rows(chunks, concepts=names, n_units=args.units, memory_budget=args.memory_budget * 2**20)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    units = torch.arange(0, args.units, max(1, args.units // FEW_UNITS))[:FEW_UNITS]
    concepts = torch.arange(0, args.concepts, max(1, args.concepts // FEW_CONCEPTS))[:FEW_CONCEPTS]
    per_unit, per_pair = dense_figures(chunks, units, concepts, got)
    dense = per_unit * args.units + per_pair * args.units * args.concepts
    n_rows = n_chunks * EXAMPLES * ROWS
    print(
        f"{n_rows:,} rows, half cal and half test, {n_entries:,} values of {args.units:,} units, "
        f"{args.concepts} concepts, {members / n_rows:.2f} of them per row, {args.threads} thread(s)"
    )
    print(
        f"ours    {wall:10.1f} s wall   {cpu:10.1f} s CPU   peak {peak:,} MiB, {before:,} before (chunks and imports)"
    )
    print(
        f"dense   {dense:10.1f} s CPU, from {len(units)} units x {len(concepts)} concepts: {1e3 * per_unit:.1f} ms per "
        f"unit, {1e3 * per_pair:.2f} ms per pair"
    )
    print(f"ratio   {dense / cpu:10.1f} of CPU seconds")
    cpu = time.process_time()
    pairs = got.best_units
    cutoffs = got.thresholds[pairs.clamp(min=0), torch.arange(args.concepts)]
    rows = rows_of_pairs(chunks, pairs, cutoffs, torch.ones(args.concepts, dtype=torch.bool))
    exchange_maps(rows, n_draws=DRAWS)
    cpu = time.process_time() - cpu
    print(f"null    {cpu:10.1f} s CPU for {DRAWS:,} exchanges, {len(rows.rows):,} rows on which the pairs fire")


if __name__ == "__main__":
    main()
