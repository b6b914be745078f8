"""How often do intervals cover on points drawn at random, and would others do better? By it `ops.intervals` was chosen.

Points are 40 to 2,000 examples, 3 to 97 % positive, and detectors from poor to nearly perfect. Coverage at 95 % is to
lie within .93 and .98: shown is the share of points inside, below and above, the least and the most. F1 is summed up
exactly over all counts; AUROC and means of F1 are simulated, with an error of .01 of each point by 500 trials.

    python benchmarks/bench_interval_choices.py [--points 60] [--trials 500] [--seed 0] [--small] [--only f1]
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy import stats

from sae_assets.ops import intervals

Draw = Callable[[np.random.Generator], tuple[float, float]]
DETECTORS: dict[str, Draw] = {  # recall, false positive rate
    "any": lambda rng: (rng.uniform(0.3, 1), rng.uniform(0, 0.3)),
    "good": lambda rng: (1 - 0.6 * rng.random() ** 2, rng.choice([0, 0.005, 0.02, 0.1]) * rng.random()),
    "nearly perfect": lambda rng: (1 - 0.03 * rng.random(), 0.01 * rng.random()),
}


@contextmanager
def constants(**values: float) -> Iterator[None]:
    """Other constants of ``ops.intervals`` for a while."""
    before = {name: getattr(intervals, name) for name in values}
    try:
        for name, value in values.items():
            setattr(intervals, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(intervals, name, value)


def show(title: str, covered: dict[str, list[float]]) -> None:
    for name, each in covered.items():
        values = np.array(each)
        below, above = np.mean(values < 0.93), np.mean(values > 0.98)
        print(
            f"{title:26} {name:22} inside {1 - below - above:5.0%}  below {below:4.0%}  above {above:4.0%}  "
            f"{values.min():.3f} to {values.max():.3f}",
            flush=True,
        )


def size_of(rng: np.random.Generator, least: int, most: int) -> int:
    return int(np.exp(rng.uniform(np.log(least), np.log(most))))


def f1(points: int, seed: int, least: int, most: int) -> None:
    """J = TP / (TP + FP + FN) given that there is a positive or a detection, whose number is binomial.

    Quantiles are scipy's, which is faster for millions of counts; tests hold ours to them.
    """
    for kind, draw in DETECTORS.items():
        rng = np.random.default_rng(seed)
        priors = {f"prior {prior:.2g}": prior for prior in (0.5, 0.6, 0.7)}
        covered: dict[str, list[float]] = {name: [] for name in (*priors, "Wilson")}
        for _ in range(points):
            n, prevalence, (recall, false_rate) = size_of(rng, least, most), rng.uniform(0.03, 0.97), draw(rng)
            share = prevalence + (1 - prevalence) * false_rate
            j, size = prevalence * recall / share, np.arange(1, n + 1)
            weight = stats.binom.pmf(size, n, share)
            size, weight = size[weight > 1e-8], weight[weight > 1e-8]
            k, m = np.meshgrid(np.arange(size.max() + 1), size)
            chance = weight[:, None] * stats.binom.pmf(k, m, j)
            some = chance > 1e-7
            tp, total = k[some], m[some]
            for name in covered:
                if name == "Wilson":
                    counts = torch.from_numpy(tp), torch.from_numpy(total)
                    low, high = intervals.wilson_interval(*counts).T.numpy()
                else:
                    prior = priors[name]
                    low = np.where(tp > 0, stats.beta.ppf(0.025, tp + prior, total - tp + prior), 0)
                    high = np.where(tp < total, stats.beta.ppf(0.975, tp + prior, total - tp + prior), 1)
                inside = (low <= j + 1e-12) & (j - 1e-12 <= high)
                covered[name].append(float((chance[some] * inside).sum() / chance[some].sum()))
        show(f"F1, {kind}", covered)


def auroc(points: int, trials: int, seed: int, least: int, most: int) -> None:
    """Normal scores of equal and unequal spread, heavy tails, and scores of which many are tied at 0."""
    rng = np.random.default_rng(seed)
    covered: dict[str, list[float]] = {f"pseudo examples {k}": [] for k in (0.5, 2, 4, 8, 1000)} | {"DeLong, logit": []}
    for _ in range(points):
        n, shift = size_of(rng, least, min(most, 1000)), rng.choice([rng.uniform(0, 4), rng.uniform(2, 5)])
        n_positive = min(max(2, round(n * rng.uniform(0.03, 0.97))), n - 2)
        truth = np.arange(n) < n_positive
        kind = rng.choice(["normal", "wide", "narrow", "heavy", "sparse"])
        fires = rng.uniform(0.3, 1), rng.uniform(0, 0.5)

        def draw(shape: tuple[int, ...], truth: np.ndarray | bool, kind=kind, shift=shift, fires=fires) -> np.ndarray:
            spread = {"wide": 2.5, "narrow": 0.4}.get(kind, 1.0)
            if kind == "heavy":
                return np.where(truth, shift, 0) + rng.standard_t(2, shape)
            if kind == "sparse":
                return (rng.random(shape) < np.where(truth, *fires)) * rng.lognormal(
                    np.where(truth, shift / 2, 0), 1, shape
                )
            return rng.normal(np.where(truth, shift, 0), np.where(truth, spread, 1), shape)

        one, two = draw((2_000_000,), True), draw((2_000_000,), False)
        area = float(((one > two) + (one == two) / 2).mean())
        scores = torch.from_numpy(draw((trials, n), np.broadcast_to(truth, (trials, n))))
        every = torch.from_numpy(truth).expand(trials, -1)
        for name in covered:
            if name.startswith("pseudo"):
                with constants(PSEUDO_EXAMPLES=float(name.split()[-1])):
                    limits = torch.cat(
                        [
                            intervals.auroc_interval(*each)
                            for each in zip(scores.split(200), every.split(200), strict=True)
                        ]
                    )
                _, low, high = limits.T.numpy()
            else:
                low, high = delong_on_logits(scores.numpy(), truth)
            covered[name].append(float(((low <= area) & (area <= high)).mean()))
    show("AUROC", covered)


def delong_on_logits(scores: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong's interval on the logit scale; without a width where nothing is out of order."""
    placed = []
    for mine, others in ((truth, ~truth), (~truth, truth)):
        rest = np.sort(scores[:, others], 1)
        both = [
            [np.searchsorted(row, x, side) for row, x in zip(rest, scores[:, mine], strict=True)]
            for side in ("left", "right")
        ]
        placed.append(np.array(both).mean(0) / others.sum())
    area = placed[0].mean(1)
    error = np.sqrt(sum(each.var(1, ddof=1) / each.shape[1] for each in placed))
    with np.errstate(divide="ignore", invalid="ignore"):
        logit, width = np.log(area / (1 - area)), 1.96 * error / (area * (1 - area))
        low, high = (1 / (1 + np.exp(-(logit + side * width))) for side in (-1, 1))
    certain = (area == 0) | (area == 1)
    return np.where(certain, area, low), np.where(certain, area, high)


def means(points: int, trials: int, seed: int, least: int, most: int) -> None:
    """Two to ten concepts, exclusive or not, that are hard in the same examples to a degree."""
    rng = np.random.default_rng(seed)
    ways = {
        "as chosen": {},
        **{f"pseudo errors {w}": {"PSEUDO_ERRORS": float(w)} for w in (2, 32)},
        "prior 0.5": {"PRIOR": 0.5},
    }
    covered: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(points):
        n, n_concepts = size_of(rng, least, min(most, 800)), int(rng.integers(2, 11))
        exclusive, common = rng.random() < 0.3, rng.choice([0, 0.3, 0.6, 0.9])
        share = rng.dirichlet(np.full(n_concepts, 2.0)) if exclusive else rng.uniform(0.03, 0.97, n_concepts)
        recall = 1 - rng.random(n_concepts) ** 2 * rng.choice([0.05, 0.3, 0.7])
        false_rate = rng.choice([0.002, 0.01, 0.05, 0.2]) * rng.random(n_concepts)
        each = 2 * share * recall / (share * recall + share + (1 - share) * false_rate)
        expected, hits = float((share * each).sum() / share.sum()), dict.fromkeys(ways, 0)

        def together(shape=(n_concepts, n), common=common) -> np.ndarray:
            return common**0.5 * rng.normal(size=(1, shape[1])) + (1 - common) ** 0.5 * rng.normal(size=shape)

        for _ in range(trials):
            if exclusive:
                truth = rng.choice(n_concepts, p=share, size=n) == np.arange(n_concepts)[:, None]
            else:
                truth = stats.norm.cdf(together()) < share[:, None]
            ease = stats.norm.cdf(together())
            detected = np.where(truth, ease < recall[:, None], ease > 1 - false_rate[:, None])
            counts = intervals.counts_of(torch.from_numpy(detected), torch.from_numpy(truth))
            for name, values in ways.items():
                with constants(**values):
                    _, low, high = intervals.weighted_f1_interval(counts).tolist()
                hits[name] += low <= expected + 1e-12 and expected - 1e-12 <= high
        for name, number in hits.items():
            covered[name].append(number / trials)
    show("weighted mean of F1", covered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="12 to 40 examples in place of 40 to 2,000")
    parser.add_argument("--only", choices=("f1", "auroc", "means"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (12, 40) if args.small else (40, 2000)
    if args.only in (None, "f1"):
        f1(args.points, args.seed, *sizes)
    if args.only in (None, "auroc"):
        auroc(args.points, args.trials, args.seed, *sizes)
    if args.only in (None, "means"):
        means(args.points, args.trials, args.seed, *sizes)


if __name__ == "__main__":
    main()
