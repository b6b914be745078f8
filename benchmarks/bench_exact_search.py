"""Seconds of the exact threshold search over all (unit, concept) pairs, against numpy pair by pair; and of coalitions.

The plain way sorts a unit's scores once and takes cumulative sums for every concept. It is measured on a few units with
all concepts and scaled up; both ways must choose the same pairs among these units. CPU seconds, one thread.

    python benchmarks/bench_exact_search.py [--units 5000] [--examples 1000] [--concepts 100] [--fires 0.2]
        [--share 0.03]
"""

import argparse
import time

import numpy as np
import torch

from sae_assets.ops.coalitions import RULES, grow_coalitions
from sae_assets.ops.concept_pairs import MIN_SUPPORT, find_pairs
from sae_assets.ops.segments import unpack_descending
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores, sort_scores

FEW = 40  # units of the plain way


def scores_of(args: argparse.Namespace, generator: torch.Generator) -> ExampleScores:
    """Log-normal scores of a unit in a share of the examples, labels at random."""
    at = (torch.rand(args.units * args.examples, generator=generator) < args.fires).nonzero().flatten()
    values = torch.empty(len(at)).log_normal_(generator=generator)
    labels = torch.rand(args.examples, args.concepts, generator=generator) < args.share
    return sort_scores(at // args.examples, values, at % args.examples, labels, args.units)


def plain_seconds(cal: ExampleScores, test: ExampleScores) -> float:
    """CPU seconds per unit, with the counts on both splits; the best pairs among these units must be ours."""
    spent = 0.0
    labels = [split.labels.numpy() for split in (cal, test)]
    n_positive = labels[0].sum(0)
    best: list[tuple] = [(-1.0,)] * labels[0].shape[1]
    for unit in range(FEW):
        columns = []
        for split in (cal, test):
            dense = np.zeros(len(split.labels), np.float32)
            run = slice(int(split.starts[unit]), int(split.starts[unit + 1]))
            dense[split.example[run]] = unpack_descending(split.keys[run])[1]
            columns.append(dense)
        start = time.process_time()
        order = np.argsort(-columns[0], kind="stable")
        falling = columns[0][order]
        ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        for concept in range(labels[0].shape[1]):
            true = np.cumsum(labels[0][order, concept])[ends]
            f1 = np.where((true >= MIN_SUPPORT) & (falling[ends] > 0), 2 * true / (ends + 1 + n_positive[concept]), -1)
            last = len(f1) - 1 - np.argmax(f1[::-1])
            threshold = falling[ends[last]]
            detected = columns[1] >= threshold
            n_detected = int((detected & labels[1][:, concept]).sum())
            if f1[last] > 0:
                best[concept] = max(best[concept], (f1[last], true[last], threshold, -unit, n_detected))
        spent += time.process_time() - start
    got = find_pairs({"cal": cal, "test": test}, allowed=torch.arange(len(cal.starts) - 1) < FEW)
    for concept, (f1, true, threshold, unit, n_detected) in enumerate(best):
        ours = got.counts[0, concept, 0], got.thresholds[concept], -got.units[concept], got.counts[1, concept, 0]
        assert f1 > 0 and (true, threshold, unit, n_detected) == tuple(float(each) for each in ours)
    return spent / FEW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=5000)
    parser.add_argument("--examples", type=int, default=1000, help="of cal, and as many of test")
    parser.add_argument("--concepts", type=int, default=100)
    parser.add_argument("--fires", type=float, default=0.2, help="share of the examples in which a unit fires")
    parser.add_argument("--share", type=float, default=0.03, help="share of the examples that have a concept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    scores = {split: scores_of(args, generator) for split in EVALUATED}
    start = time.process_time()
    got = find_pairs(scores)
    ours = time.process_time() - start
    plain = plain_seconds(scores["cal"], scores["test"]) * args.units
    print(
        f"{args.units:,} units x {args.concepts} concepts, {args.examples:,} examples of cal and of test, units fire "
        f"in {args.fires:.0%}, a concept is in {args.share:.0%}"
    )
    print(f"exact search   ours {ours:7.2f} s   pair by pair {plain:7.1f} s   ratio {plain / ours:5.1f}")
    for rule in RULES:
        start = time.process_time()
        sizes = grow_coalitions(got, scores, rule=rule).sizes.double()
        print(f"coalitions ({rule})  {time.process_time() - start:7.2f} s   {sizes.mean():.1f} members")


if __name__ == "__main__":
    main()
