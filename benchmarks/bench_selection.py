"""Seconds of the permutation null: all shuffles of a concept at once, against one shuffle after another.

A few concepts are measured and scaled up to ``--concepts``; both ways must give the same choice on every shuffle.

    python benchmarks/bench_selection.py [--units 5000] [--examples 1500] [--share 0.2] [--permutations 100]
"""

import argparse
import time

import torch

from sae_assets.artifacts import Thresholds, offsets_of
from sae_assets.ops.chance import permutation_null
from sae_assets.ops.choice import best_pair
from sae_assets.ops.detection_stats import ExampleScores
from sae_assets.ops.segments import pack_descending
from sae_assets.ops.thresholds import TAIL_FRACTIONS

MEASURED = 4  # concepts, and shuffles of the slow way


def scores_of(
    n_examples: int, n_units: int, n_concepts: int, share: float, generator: torch.Generator
) -> ExampleScores:
    """Log-normal scores of a unit in ``share`` of the examples, labels at random."""
    place = (torch.rand(n_units * n_examples, generator=generator) < share).nonzero().flatten()
    unit, example = place // n_examples, place % n_examples
    order = pack_descending(unit, torch.empty(len(place)).log_normal_(generator=generator)).sort()
    labels = torch.rand(n_examples, n_concepts, generator=generator) < 0.2
    return ExampleScores(
        order.values, offsets_of(torch.bincount(unit, minlength=n_units)), example[order.indices], labels
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=5000)
    parser.add_argument("--examples", type=int, default=1500, help="of cal and test together, halves")
    parser.add_argument("--share", type=float, default=0.2, help="of the examples in which a unit fires")
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--permutations", type=int, default=100)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    half = args.examples // 2
    scores = {split: scores_of(half, args.units, MEASURED, args.share, generator) for split in ("cal", "test")}
    top = torch.empty(MEASURED + 1, args.units, 1, dtype=torch.float64).log_normal_(generator=generator)
    thresholds = Thresholds(
        concepts=tuple(f"c{number}" for number in range(MEASURED)),
        kept_units=torch.arange(args.units),
        tail_fractions=TAIL_FRACTIONS,
        n_positive=torch.ones(MEASURED + 1, args.units, dtype=torch.int64),
        values=4 * top * (1 - torch.tensor(TAIL_FRACTIONS, dtype=torch.float64)),
    )
    start = time.perf_counter()
    permutation_null(thresholds, scores, args.permutations, torch.Generator().manual_seed(1))
    ours = (time.perf_counter() - start) / MEASURED * args.concepts

    points, _ = permutation_null(thresholds, scores, MEASURED, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    orders = [(torch.randperm(half, generator=generator), torch.randperm(half, generator=generator)) for _ in range(4)]
    cal, valid, means = scores["cal"], torch.ones(args.units, dtype=torch.bool), []
    start = time.perf_counter()
    for concept in range(MEASURED):
        places = cal.places(thresholds.values[concept])
        predicted, reached = places - cal.starts[:-1, None], []
        for order, _ in orders:
            truth = cal.labels[order, concept]
            hits = cal.positives(places, truth)
            pair = best_pair(hits, predicted - hits, int(truth.sum()), valid)
            reached.append(2 * int(hits[pair]) / (int(predicted[pair]) + int(truth.sum())))
        means.append(sum(reached) / len(reached))
    slow = (time.perf_counter() - start) / MEASURED**2 * args.concepts * args.permutations
    assert torch.allclose(points[0, :, 0], torch.tensor(means, dtype=torch.float64), rtol=1e-12)
    print(
        f"{args.units:,} units x {len(TAIL_FRACTIONS)} fractions, {args.concepts} concepts, {args.permutations} "
        f"permutations, {args.examples:,} examples, units fire in {args.share:.0%} of them"
    )
    print(f"permutation null         ours {ours:8.1f} s   one by one {slow:8.1f} s   ratio {slow / ours:6.1f}")


if __name__ == "__main__":
    main()
