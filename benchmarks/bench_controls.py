"""Does a random SAE, given as the SAE, differ from random SAEs by nothing, and does a trained one differ? Fails if not.

Rows of 12 to an example hold Gaussian noise and, where a concept is, its direction. Six random TopK SAEs choose units
and thresholds on cal as the pipeline does; one of them is compared with the other five on test. 0 has to lie in the
interval in at least .93 of the trials (99.9 % binomial bounds). Then the concepts' own directions, as an SAE that found
them: how often the interval excludes 0.

    python benchmarks/bench_controls.py [--trials 100]
"""

import argparse
import sys

import numpy as np
import torch
from scipy import stats

from sae_assets.ops.intervals import counts_of, difference_to_draws, weighted_f1
from sae_assets.ops.items import Items, UnitScores
from sae_assets.ops.unit_detectors import searched_units

N_ROWS, D, K = 12, 64, 8
SETTINGS = [  # examples of cal and of test each, units, share of positives, strength of a concept's direction
    (70, 64, 0.33, 0.6),
    (70, 256, 0.33, 0.5),
    (180, 256, 0.15, 0.7),
    (300, 256, 0.05, 0.8),
]


def pooled(x: np.ndarray, directions: np.ndarray) -> UnitScores:
    """Scores of a TopK SAE with these directions [n_units, D], pooled by the maximum; x is [examples, rows, D]."""
    z = torch.from_numpy(x @ directions.T).float()
    values, units = z.topk(K, dim=-1)
    codes = torch.zeros_like(z).scatter_(-1, units, values.clamp(min=0)).amax(1)
    item, unit = codes.nonzero(as_tuple=True)
    return UnitScores.of(unit, item, codes[item, unit], codes.shape[1])


def counts(labels: torch.Tensor, split: torch.Tensor, scores: UnitScores) -> torch.Tensor:
    """TP, FP and FN of each test example under the unit that cal chooses, per concept."""
    nothing, order = torch.zeros(len(labels), 1), torch.arange(len(labels))
    items = Items(labels, split, order, torch.zeros(len(labels), dtype=torch.bool), nothing, scores)
    return counts_of(searched_units(items).detected, labels[items.tests].T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    trials, rng, outside, n_concepts = parser.parse_args().trials, np.random.default_rng(0), 0, 3
    print(f"{'examples, units, share, strength':36} F1 random  holds 0: concepts  means   F1 found  told from random")
    for n, n_units, share, strength in SETTINGS:
        n_holding, held_means, told, f1, f1_found = 0, 0, 0, [], []
        for _ in range(trials):
            truth = rng.random((2 * n, n_concepts)) < share
            concepts = rng.normal(size=(n_concepts, D)) / np.sqrt(D)
            where = truth[:, None] & (rng.random((2 * n, N_ROWS, n_concepts)) < 0.4)
            x = rng.normal(size=(2 * n, N_ROWS, D)) / np.sqrt(D) + strength * where @ concepts
            split, labels = torch.arange(2 * n) // n + 1, torch.from_numpy(truth)
            drawn = [rng.normal(size=(n_units, D)) / np.sqrt(D) for _ in range(6)]
            first, *others = (counts(labels, split, pooled(x, each)) for each in drawn)
            draws = torch.stack(others)
            for concept in range(n_concepts):
                _, low, high = difference_to_draws(first[[concept]], draws[:, [concept]]).tolist()
                n_holding += low <= 0 <= high
            _, low, high = difference_to_draws(first, draws).tolist()
            held_means += low <= 0 <= high
            of_means = counts(labels, split, pooled(x, np.concatenate([concepts, drawn[0][n_concepts:]])))
            told += difference_to_draws(of_means, draws)[1].item() > 0
            f1.append(float(weighted_f1(first)))
            f1_found.append(float(weighted_f1(of_means)))
        for hits, of in ((n_holding, n_concepts * trials), (held_means, trials)):
            outside += hits < stats.binom(of, 0.93).ppf(0.0005)
        setting = f"{n} + {n}, {n_units}, {share:g}, {strength:g}"
        null = f"{n_holding / n_concepts / trials:18.3f} {held_means / trials:6.3f}"
        print(f"{setting:36} {np.mean(f1):9.3f} {null} {np.mean(f1_found):10.3f} {told / trials:17.3f}", flush=True)
    sys.exit(f"{outside} figures lie outside" if outside else 0)


if __name__ == "__main__":
    main()
