"""Intervals are tried on points drawn at random: how often do they cover, and would others do better? By it
`ops.intervals` was chosen.

Points are 40 to 2,000 examples, 3 to 97 % positive, and detectors from poor to nearly perfect. Coverage at 95 % is to
lie within .93 and .98: shown is the share of points inside, below and above, the least and the most. F1, precision and
recall are summed up exactly over all counts; the others are simulated, with an error of .007 of each point by 1,000
trials. Of means and of differences, points at which enough tells are shown by themselves.

    python benchmarks/bench_interval_choices.py [--points 60] [--trials 1000] [--seed 0 …] [--small] [--only f1]
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from scipy import special, stats

from sae_assets.ops import auroc as of_auroc
from sae_assets.ops import intervals

# Where enough tells: examples with an error, and examples that tell two detectors apart.
ERRING, APART = 5, 10
Draw = Callable[[np.random.Generator], tuple[float, float]]
DETECTORS: dict[str, Draw] = {  # recall, false positive rate
    "any": lambda rng: (rng.uniform(0.3, 1), rng.uniform(0, 0.3)),
    "good": lambda rng: (1 - 0.6 * rng.random() ** 2, rng.choice([0, 0.005, 0.02, 0.1]) * rng.random()),
    "nearly perfect": lambda rng: (1 - 0.03 * rng.random(), 0.01 * rng.random()),
}


@contextmanager
def constants(module: ModuleType, **values: object) -> Iterator[None]:
    """Other constants of a module for a while."""
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def show(title: str, covered: dict[str, list[float]], tells: list[bool] | None = None, named: str = "tells") -> None:
    for name, each in covered.items():
        values = np.array(each)
        for part, shares in (("", values), (named, values[tells] if tells else values[:0])):
            if not len(shares):
                continue
            below, above = np.mean(shares < 0.93), np.mean(shares > 0.98)
            print(
                f"{title:20} {name:18} {part:5} {len(shares):4} points  inside {1 - below - above:5.0%}  "
                f"below {below:4.0%}  above {above:4.0%}  {shares.min():.3f} to {shares.max():.3f}",
                flush=True,
            )


def size_of(rng: np.random.Generator, least: int, most: int) -> int:
    return int(np.exp(rng.uniform(np.log(least), np.log(most))))


# By share of positives, recall and false positive rate: the share of examples that count, and of successes in them.
PROPORTIONS: dict[str, Callable[[float, float, float], tuple[float, float]]] = {
    "F1": lambda p, recall, false: (p + (1 - p) * false, p * recall / (p + (1 - p) * false)),
    "precision": lambda p, recall, false: (detected := p * recall + (1 - p) * false, p * recall / detected),
    "recall": lambda p, recall, false: (p, recall),
}


def proportions(points: int, seeds: list[int], least: int, most: int) -> None:
    """J = TP / (TP + FP + FN), precision and recall, given that an example counts; how many do is binomial.

    A precision of 1, which no sample can miss, is left out. Shown too are the points that *can be had*: at the others
    no set of consecutive numbers of errors (or of successes, where these are fewer) has a chance within .93 and .98,
    so that only what goes up and down with the number of examples can be inside.
    """
    for figure, of_detector in PROPORTIONS.items():
        for kind, draw in DETECTORS.items():
            covered: dict[str, list[float]] = {}
            can: list[bool] = []
            for seed in seeds:
                rng = np.random.default_rng(seed)
                for _ in range(points):
                    n, prevalence, detector = size_of(rng, least, most), rng.uniform(0.03, 0.97), draw(rng)
                    share, true = of_detector(prevalence, *detector)
                    if 0 < true < 1:
                        coverages, can_be_had = coverage_of(n, share, true)
                        can.append(can_be_had)
                        for name, coverage in coverages.items():
                            covered.setdefault(name, []).append(coverage)
            show(f"{figure}, {kind}", covered, can, "can")


def coverage_of(n: int, share: float, true: float) -> tuple[dict[str, float], bool]:
    """Return the coverage of intervals of a proportion, of a binomial number of n examples that is not 0, and whether
    it can be had."""
    size = np.arange(1, n + 1)
    weight = stats.binom.pmf(size, n, share)
    size, weight = size[weight > 1e-8], weight[weight > 1e-8]
    k, m = np.meshgrid(np.arange(size.max() + 1), size)
    chance = weight[:, None] * stats.binom.pmf(k, m, true)
    some = chance > 1e-7
    k, m, chance = k[some], m[some], chance[some]
    covered = {name: float((chance * each).sum() / chance.sum()) for name, each in holding_share(k, m, true)}
    of_rarer = np.bincount(k if true < 0.5 else m - k, chance) / chance.sum()
    up_to = np.concatenate([[0], of_rarer.cumsum()])
    between = up_to[None, 1:] - up_to[:-1, None]
    return covered, bool(((between >= 0.93) & (between <= 0.98)).any())


def holding_share(k: np.ndarray, m: np.ndarray, true: float) -> Iterator[tuple[str, np.ndarray]]:
    """Yield whether intervals of k in m hold the true share; tails are asked in place of quantiles, which is the
    same."""
    for prior in (0.5, 0.6, 0.7):
        tail = special.betainc(k + prior, m - k + prior, true)
        yield f"prior {prior:.2g}", ((tail >= 0.025) | (k == 0)) & ((tail <= 0.975) | (k == m))
    exactly, below = stats.binom.pmf(k, m, true), stats.binom.cdf(k, m, true)
    for name, part in (("Clopper-Pearson", 0), ("mid-P", 0.5)):
        yield name, (below - part * exactly >= 0.025) & (1 - below + (1 - part) * exactly >= 0.025)
    error = intervals.normal_quantile(0.95) * (true * (1 - true) / m) ** 0.5
    for name, correction in (("Wilson", 0), ("Wilson ± .2", 0.2), ("Wilson ± .5", 0.5)):
        yield name, np.abs(k / m - true) - correction / m <= error + 1e-12
    with np.errstate(divide="ignore"):
        ratio = special.xlogy(k, k / m / true) + special.xlogy(m - k, (1 - k / m) / (1 - true))
    yield "likelihood ratio", 2 * ratio <= intervals.normal_quantile(0.95) ** 2


KINDS = ("normal", "wide", "narrow", "heavy", "exponential", "beta", "levels", "sparse", "firing", "mixture")
BASE = 400_000  # draws that an AUROC is taken from
Scores = Callable[[np.random.Generator, tuple[int, ...], np.ndarray | bool], np.ndarray]  # so many, with their truth


def auroc(points: int, trials: int, seeds: list[int], small: bool) -> None:
    """10 to 200 positives, 10 to 2,000 others, AUROC from .5 to .9 evenly, and from .8 to .999 evenly in its logarithm
    of what it lacks of 1. Scores are normal of equal and unequal spread, heavy-tailed, exponential, beta, of few
    levels, tied at 0 where a unit does not fire (in negatives, or in positives too), or mixed: some positives look like
    the others."""
    ways = {
        "as chosen": {},
        **{f"unseen {k}": {"UNSEEN": k} for k in (0.05, 0.5)},
        "even tails": {"LEANING": 0.0},
    }
    covered: dict[str, list[float]] = {name: [] for name in (*ways, "DeLong, logit", "Newcombe")}
    areas, drawn = [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for _ in range(points):
            n_positive = size_of(rng, *((3, 10) if small else (10, 200)))
            n_negative = size_of(rng, *((10, 200) if small else (10, 2000)))
            near = 1 - np.exp(rng.uniform(np.log(0.001), np.log(0.2)))
            target = rng.uniform(0.5, 0.9) if rng.random() < 0.5 else near
            kind, draw, area = of_area(rng, target)
            if not 0.5 <= area <= 0.9995:
                continue
            truth = np.arange(n_positive + n_negative) < n_positive
            scores, inside = draw(rng, (trials, len(truth)), np.broadcast_to(truth, (trials, len(truth)))), {}
            every = torch.from_numpy(truth).expand(trials, -1)
            for name in ways:
                with constants(of_auroc, **ways[name]):
                    seen, low, high = intervals.auroc_interval(torch.from_numpy(scores), every).T.numpy()
                inside[name] = (low <= area) & (area <= high)
            for name, (low, high) in (
                ("DeLong, logit", delong_on_logits(scores, truth)),
                ("Newcombe", newcombe(seen, n_positive, n_negative)),
            ):
                inside[name] = (low <= area) & (area <= high)
            for name, each in inside.items():
                covered[name].append(float(each.mean()))
            areas.append(area)
            drawn.append(f"{kind}, {n_positive} against {n_negative}, {area:.4f}, {(seen == 1).mean():.2f} in order")
    show("AUROC", covered)
    close = np.array(areas) >= 0.8
    show("AUROC .8 to .999", {name: list(np.array(each)[close]) for name, each in covered.items()})
    for point, coverage in zip(drawn, covered["as chosen"], strict=True):
        if not 0.93 <= coverage <= 0.98:
            print(f"  outside: {point}, covered {coverage:.3f}")


def of_area(rng: np.random.Generator, target: float) -> tuple[str, Scores, float]:
    """Scores of a kind whose AUROC is about this, and what it is."""
    kind, spread, rest = str(rng.choice(KINDS)), rng.uniform(1.3, 3), (rng.uniform(0.02, 0.5), rng.uniform(0.8, 1))
    seed, low, high = int(rng.integers(2**31)), 0.0 if kind in ("exponential", "beta") else -12.0, 14.0
    high = 200.0 if kind == "beta" else high

    def area_at(shift: float, base: int) -> float:
        drawing, draw = np.random.default_rng(seed), scores_of(kind, shift, spread, rest)
        one, two = draw(drawing, (base,), True), np.sort(draw(drawing, (base,), False))
        return float(sum(np.searchsorted(two, one, side).mean() for side in ("left", "right")) / 2 / base)

    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if area_at(middle, 20_000) < target else (low, middle)
    return kind, scores_of(kind, low, spread, rest), area_at(low, BASE)


def scores_of(kind: str, shift: float, spread: float, fires: tuple[float, float]) -> Scores:
    often = 1 / (1 + np.exp(-shift))  # a share that rises with the shift

    def draw(rng: np.random.Generator, shape: tuple[int, ...], truth: np.ndarray | bool) -> np.ndarray:
        if kind == "heavy":
            return np.where(truth, shift, 0) + rng.standard_t(2, shape)
        if kind == "exponential":
            return rng.standard_exponential(shape) * np.where(truth, np.exp(shift), 1)
        if kind == "beta":
            return rng.beta(np.where(truth, 1 + shift, 1), np.where(truth, 1, 1 + shift * fires[0]), shape)
        if kind == "sparse":
            sizes = rng.lognormal(np.where(truth, shift, 0), 1, shape)
            return (rng.random(shape) < np.where(truth, fires[1], fires[0])) * sizes
        if kind == "firing":
            sizes = rng.lognormal(np.where(truth, spread, 0), 1, shape)
            return (rng.random(shape) < np.where(truth, often, fires[0] / 10)) * sizes
        if kind == "mixture":
            seen = truth & (rng.random(shape) < often)
            return rng.normal(np.where(seen, 5, 0), 1, shape)
        width = {"wide": spread, "narrow": 1 / spread}.get(kind, 1.0)
        scores = rng.normal(np.where(truth, shift, 0), np.where(truth, width, 1), shape)
        return scores.round().clip(-1, 4) if kind == "levels" else scores

    return draw


def newcombe(area: np.ndarray, m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Newcombe's interval (2006, method 5): ``|A − seen| = z √V(A)``, V by Hanley & McNeil, of like sizes."""
    weight = (m + n) / 2 - 1

    def beyond(a: np.ndarray) -> np.ndarray:
        variance = a * (1 - a) * (1 + weight * (1 - a) / (2 - a) + weight * a / (1 + a)) / (m * n)
        return (a - area) ** 2 > 1.96**2 * variance

    ends = []
    for far in (np.zeros_like(area), np.ones_like(area)):
        inside = area
        for _ in range(50):
            middle = (inside + far) / 2
            inside, far = np.where(beyond(middle), inside, middle), np.where(beyond(middle), middle, far)
        ends.append(far)
    return ends[0], ends[1]


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


WAYS: dict[str, dict[str, object]] = {
    "as chosen": {},
    "clumped 8": {"CLUMPED": 8.0},
    "prior 0.6": {"MEAN_PRIOR": 0.6},
    "freedom 8": {"FREEDOM": 8.0},
    "normal quantiles": {"FREEDOM": 1e9},
}
OF_DIFFERENCES: dict[str, dict[str, object]] = {
    "as chosen": {},
    "variance as seen": {"_tango": lambda delta, difference, speaks: speaks - difference**2},
}
Pairs = Callable[[int], tuple[np.ndarray, np.ndarray]]  # TP, FP, FN of so many draws of two detectors
Point = tuple[int, int, float, float, Pairs]  # examples, concepts, the figure of each detector


def of_examples(rng: np.random.Generator, least: int, most: int) -> Point:
    """One to ten concepts, exclusive or not, that are hard in the same examples to a degree, and so are detectors."""
    n, n_concepts = size_of(rng, least, min(most, 800)), int(rng.integers(1, 11))
    exclusive, common = n_concepts > 1 and rng.random() < 0.3, rng.choice([0, 0.3, 0.6, 0.9])
    share = rng.dirichlet(np.full(n_concepts, 2.0)) if exclusive else rng.uniform(0.03, 0.97, n_concepts)
    share = share if exclusive else share * rng.choice([1, 0.3])
    missed, false = rng.random(n_concepts) ** 2 * rng.choice([0.05, 0.3, 0.7]), rng.choice([0.002, 0.01, 0.05, 0.2])
    false, alike = false * rng.random(n_concepts), rng.choice([0, 0.5, 0.9])
    kinds = [(1 - missed, false), (1 - missed * rng.choice([0.5, 1, 1.4]), false * rng.choice([0.5, 1, 2]))]
    f1 = [2 * share * r / (share * r + share + (1 - share) * f) for r, f in kinds]

    def together(draws: int, share: float, own: np.ndarray | None = None) -> np.ndarray:
        own = rng.normal(size=(draws, n_concepts, n)) if own is None else own
        return share**0.5 * rng.normal(size=(draws, 1, n)) + (1 - share) ** 0.5 * own

    def pairs(draws: int) -> tuple[np.ndarray, np.ndarray]:
        if exclusive:
            truth = rng.choice(n_concepts, p=share, size=(draws, 1, n)) == np.arange(n_concepts)[:, None]
        else:
            truth = together(draws, common) < stats.norm.ppf(share)[:, None]
        hard, same, counts = rng.normal(size=(draws, 1, n)), rng.normal(size=truth.shape), []
        for recall, false_rate in kinds:
            own = alike**0.5 * same + (1 - alike) ** 0.5 * rng.normal(size=truth.shape)
            ease = common**0.5 * hard + (1 - common) ** 0.5 * own
            limits = stats.norm.ppf(recall)[:, None], stats.norm.ppf(1 - false_rate)[:, None]
            detected = np.where(truth, ease < limits[0], ease > limits[1])
            counts.append(np.stack([detected & truth, detected & ~truth, ~detected & truth], -1))
        return counts[0], counts[1]

    return n, n_concepts, *(float((share * each).sum() / share.sum()) for each in f1), pairs


def of_rows(rng: np.random.Generator, least: int, most: int, *, unlike: bool = False) -> Point:
    """4 to 60 rows an example; recall and false positive rate vary by example, in part for both detectors alike.

    Where they differ, they do so in the examples that they do not have alike.
    """
    n, per_example, spread = size_of(rng, least, min(most, 400)), size_of(rng, 4, 60), np.exp(rng.uniform(-1.2, 3))
    share, recall = rng.uniform(0.03, 0.5), 1 - 0.7 * rng.random() ** 2
    false, clump, alike = rng.choice([0.002, 0.02, 0.1]) * rng.random(), rng.choice([0.5, 3, 100]), rng.random()
    kinds = [(recall, false)] * 2
    if unlike:
        kinds[1] = max(0.05, 1 - (1 - recall) * rng.choice([0.1, 0.4, 0.7, 1.5])), false * rng.choice([0.3, 1, 2])
    mixed = [tuple(alike * a + (1 - alike) * b for a, b in zip(kinds[0], kind, strict=True)) for kind in kinds]
    f1 = [2 * share * r / (share * (1 + r) + (1 - share) * f) for r, f in mixed]

    def varied(mean: float, spread: float, shape: tuple[int, ...]) -> np.ndarray:
        return rng.beta(max(mean * spread, 1e-3), max((1 - mean) * spread, 1e-3), shape)

    def pairs(draws: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (draws, n)
        rows = rng.poisson(per_example, shape)
        positive, both = rng.binomial(rows, varied(share, clump, shape)), rng.random(shape) < alike
        same, counts = (varied(recall, spread, shape), varied(false, spread, shape)), []
        for own in kinds:
            hits = rng.binomial(positive, np.where(both, same[0], varied(own[0], spread, shape)))
            beside = rng.binomial(rows - positive, np.where(both, same[1], varied(own[1], spread, shape)))
            counts.append(np.stack([hits, beside, positive - hits], -1)[:, None])
        return counts[0], counts[1]

    return n, 1, f1[0], f1[1], pairs


def of_unlike_rows(rng: np.random.Generator, least: int, most: int) -> Point:
    """The same of two detectors, of which one is better."""
    return of_rows(rng, least, most, unlike=True)


def means(points: int, trials: int, seed: int, least: int, most: int) -> None:
    """Weighted means of F1, of examples and of rows, and paired differences of two detectors."""
    for kind, draw in (("mean", of_examples), ("row F1", of_rows), ("unlike row F1", of_unlike_rows)):
        rng = np.random.default_rng(seed)
        covered, differs = ({name: [] for name in ways} for ways in (WAYS, OF_DIFFERENCES))
        tells, apart = [], []
        for _ in range(points):
            n, n_concepts, one, two, pairs = draw(rng, least, most)
            block = max(1, 1_000_000 // (n * n_concepts))
            within, n_holding = (dict.fromkeys(ways, 0) for ways in (WAYS, OF_DIFFERENCES))
            rests = np.zeros(2)
            for done in range(0, trials, block):
                counts = [torch.from_numpy(each.astype(np.int64)) for each in pairs(min(block, trials - done))]
                rests[0] += float((counts[0][..., 1:].sum((1, 3)) > 0).sum())
                rests[1] += float((counts[0] != counts[1]).any(-1).any(1).sum())
                for name, values in WAYS.items():
                    with constants(intervals, **values):
                        within[name] += holding(intervals.weighted_f1_interval(counts[0]), one)
                for name, values in OF_DIFFERENCES.items():
                    with constants(intervals, **values):
                        n_holding[name] += holding(intervals.weighted_f1_difference(*counts), one - two)
            for name, number in within.items():
                covered[name].append(number / trials)
            for name, number in n_holding.items():
                differs[name].append(number / trials)
            tells.append(rests[0] / trials >= ERRING)
            apart.append(rests[1] / trials >= APART)
        if draw is not of_unlike_rows:  # the first detector is the same
            show(kind, covered, tells)
        show(f"difference of {kind}s", differs, apart)


def holding(result: torch.Tensor, true: float) -> int:
    """Count the draws in which the interval holds the true figure."""
    _, low, high = result.T.numpy()
    return int(((low <= true + 1e-12) & (true - 1e-12 <= high)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=[0], nargs="+", help="of points; means and differences take one")
    parser.add_argument("--small", action="store_true", help="12 to 40 examples, of AUROC 3 to 10 positives")
    parser.add_argument("--only", choices=("f1", "auroc", "means"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = (12, 40) if args.small else (40, 2000)
    if args.only in (None, "f1"):
        proportions(args.points, args.seed, *sizes)
    if args.only in (None, "auroc"):
        auroc(args.points, args.trials, args.seed, args.small)
    if args.only in (None, "means"):
        means(args.points, args.trials, args.seed[0], *sizes)


if __name__ == "__main__":
    main()
