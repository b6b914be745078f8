"""Do intervals cover, and are tests right about noise, as often as they say? Fails if a figure leaves its region.

Intervals of F1, precision and recall are summed up exactly over all counts; the others are simulated, and so are noise
worlds, in which labels have nothing to do with scores. Coverage at 95 % is to lie within .93 and .98, rejections at 5 %
within .04 and .06; regions of simulated figures are wider by 99.9 % binomial bounds. Holm's only has an upper edge.

    python benchmarks/bench_statistics_validity.py [--trials 1000] [--sets 20] [--shuffles 79] [--seed 0]
        [--cost | --rows | --noise] [--concepts 40] [--joint] [--world NAME]
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from scipy import stats

from sae_assets.ops.concept_pairs import find_pairs
from sae_assets.ops.held_out_null import shuffle_held_out
from sae_assets.ops.intervals import (
    auroc_interval,
    beta_interval,
    bootstrap_f1,
    counts_of,
    f1_interval,
    weighted_f1_difference,
    weighted_f1_interval,
    wilson_interval,
)
from sae_assets.ops.row_chance import PairRows, exchange_maps
from sae_assets.ops.significance import search_null
from sae_assets.ops.sorted_scores import example_scores
from sae_assets.ops.truth_sets import truth_sets

COVERED, REJECTED = (0.93, 0.98), (0.04, 0.06)
outside: list[str] = []


def row(name: str, figure: float, region: tuple[float, float] | None, trials: int = 0, beside: str = "") -> None:
    """One line of the table; ``trials`` is 0 for exact figures, no region for what is shown to compare."""
    low, high = region or (0.0, 1.0)
    if trials and region:
        low, high = stats.binom(trials, low).ppf(0.0005) / trials, stats.binom(trials, high).ppf(0.9995) / trials
    inside = low <= figure <= high
    if not inside:
        outside.append(name)
    print(f"{name:64} {figure:6.3f}  {'' if inside else f'OUTSIDE {low:.3f} to {high:.3f} '}{beside}", flush=True)


# F1, precision and recall: n examples, share of positives, recall, false positive rate --------------------------------

POINTS = [
    (76, 0.5, 0.991, 0.009),  # F1 .991
    (76, 0.3, 0.991, 0.0039),
    (400, 0.05, 0.991, 0.00047),
    (76, 0.5, 0.973, 0.027),  # F1 .973
    (76, 0.3, 0.973, 0.0116),
    (200, 0.05, 0.973, 0.00142),
    (76, 0.05, 0.973, 0.00142),
    (300, 0.05, 0.9, 0.0053),
    (150, 0.05, 0.5, 0.02),
    (250, 0.05, 0.8, 0.0),
    (100, 0.05, 0.6, 0.1),
    (20, 0.2, 0.8, 0.05),
    (20, 0.5, 0.7, 0.2),
    (12, 0.4, 0.6, 0.2),
    (30, 0.1, 0.6, 0.05),
    (40, 0.3, 0.7, 0.1),
    (50, 0.1, 0.97, 0.0),
    (50, 0.5, 0.9, 0.1),
    (76, 0.9, 0.9, 0.3),
    (100, 0.3, 0.2, 0.05),
    (120, 0.2, 0.99, 0.01),
    (166, 0.33, 0.95, 0.02),
    (166, 0.33, 0.6, 0.3),
    (250, 0.1, 0.3, 0.01),
    (250, 0.5, 0.97, 0.02),
    (300, 0.02, 0.7, 0.005),
]


def exact(size: np.ndarray, weight: np.ndarray, share: float, interval: Callable) -> float:
    """Coverage of a proportion of a random number of examples, given that there is one."""
    k, m = np.meshgrid(np.arange(size.max() + 1), size)
    chance = weight[:, None] * stats.binom.pmf(k, m, share)
    some = chance > 1e-9
    low, high = interval(torch.from_numpy(k[some]), torch.from_numpy(m[some])).T.numpy()
    return float((chance[some] * (low <= share + 1e-12) * (share - 1e-12 <= high)).sum() / weight.sum())


def counts() -> None:
    for n, prevalence, recall, false_rate in POINTS:
        size = np.arange(1, n + 1)
        share = prevalence + (1 - prevalence) * false_rate
        j = prevalence * recall / share
        weight = stats.binom.pmf(size, n, share)

        def of_f1(k: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
            limits = f1_interval(k, m - k, torch.zeros_like(k))
            return limits / (2 - limits)

        wilson = exact(size, weight, j, wilson_interval)
        name = f"F1 {2 * j / (1 + j):.3f}: n {n}, {prevalence:.0%} positive, recall {recall}, false {false_rate}"
        row(name, exact(size, weight, j, of_f1), COVERED, beside=f"Wilson {wilson:.3f}")
    for n, prevalence, recall, false_rate in POINTS[::5]:
        size = np.arange(1, n + 1)
        detects = prevalence * recall + (1 - prevalence) * false_rate
        for name, share, figure in (
            ("precision", detects, prevalence * recall / detects),
            ("recall", prevalence, recall),
        ):
            weight = stats.binom.pmf(size, n, share)
            both = [exact(size, weight, figure, each) for each in (beta_interval, wilson_interval)]
            row(f"{name} {figure:.3f}: n {n}, {share:.1%} of them", both[0], COVERED, beside=f"Wilson {both[1]:.3f}")


# AUROC ----------------------------------------------------------------------------------------------------------------

AREAS = [
    (38, 38, "normal", 3.0),
    (10, 66, "normal", 3.0),
    (10, 40, "normal", 1.0),
    (10, 90, "normal", 2.0),
    (4, 72, "normal", 3.3),
    (38, 38, "normal", 4.0),
    (3, 17, "normal", 1.0),
    (100, 200, "normal", 1.0),
    (10, 90, "sparse", 0.9),
    (38, 38, "sparse", 0.98),
    (10, 190, "sparse", 0.5),
    (60, 240, "sparse", 0.7),
    (20, 80, "wide", 2.0),
    (20, 80, "wide", 4.0),
]


def areas(trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed + 11)
    for n_positive, n_negative, kind, shift in AREAS:
        truth = np.arange(n_positive + n_negative) < n_positive
        if kind == "sparse":  # what does not fire is tied at 0
            fires = rng.random((trials, len(truth))) < np.where(truth, shift, 0.1)
            scores = fires * rng.lognormal(np.where(truth, 1, 0), 1, (trials, len(truth)))
            area = 0.1 * shift * stats.norm.cdf(0.5**0.5) + 0.9 * shift + 0.45 * (1 - shift)
        else:
            width = 2 if kind == "wide" else 1
            scores = rng.normal(np.where(truth, shift, 0), np.where(truth, width, 1), (trials, len(truth)))
            area = stats.norm.cdf(shift / (1 + width**2) ** 0.5)
        _, low, high = auroc_interval(torch.from_numpy(scores), torch.from_numpy(truth).expand(trials, -1)).T.numpy()
        covered = float(((low <= area) & (area <= high)).mean())
        row(f"AUROC {area:.3f}: {kind}, {n_positive} against {n_negative}", covered, COVERED, trials)


# Means, differences, rows ---------------------------------------------------------------------------------------------

# n examples, shares of positives, recall, false positive rate, share of difficulty that concepts have in common
MEANS = [
    (76, (0.1, 0.2, 0.3), 0.8, 0.03, 0.0),
    (76, (0.3,) * 3, 0.97, 0.005, 0.3),
    (166, (1 / 3,) * 6, 0.97, 0.01, 0.5),
    (166, (1 / 3,) * 6, 0.97, 0.01, 0.0),
    (100, (0.03, 0.05, 0.07) * 3, 0.7, 0.01, 0.6),
    (300, (0.05,) * 10, 0.95, 0.002, 0.3),
    (60, (0.05,) * 20, 0.5, 0.05, 0.3),
    (300, (0.2,) * 3, 0.6, 0.1, 0.3),
]


def means(trials: int, seed: int) -> None:
    rng = np.random.default_rng(seed + 12)
    for n, shares, recall, false_rate, common in MEANS:
        share = np.array(shares)
        f1 = 2 * share * recall / (share * recall + share + (1 - share) * false_rate)
        expected = float((share * f1).sum() / share.sum())
        covered = np.zeros(4)
        for trial in range(trials):
            truth = rng.random((len(share), n)) < share[:, None]
            hard, both = rng.normal(size=n), []
            for _ in range(2):
                ease = stats.norm.cdf(common**0.5 * hard + (1 - common) ** 0.5 * rng.normal(size=truth.shape))
                detected = np.where(truth, ease < recall, ease > 1 - false_rate)
                both.append(counts_of(torch.from_numpy(detected), torch.from_numpy(truth)))
            results = (
                (weighted_f1_interval(both[0]), expected),
                (weighted_f1_difference(*both), 0.0),
                (bootstrap_f1(both[0], n_resamples=500, seed=trial), expected),
                (bootstrap_f1(*both, n_resamples=500, seed=trial), 0.0),
            )
            covered += [bool(low <= value <= high) for (_, low, high), value in results]
        covered /= trials
        name = f"{len(share)} concepts, F1 {expected:.3f}: n {n}, {share.mean():.0%} positive, {common:.0%} in common"
        row(f"mean of {name}", covered[0], COVERED, trials, f"BCa {covered[2]:.3f}")
        row(f"difference, {name}", covered[1], COVERED, trials, f"BCa {covered[3]:.3f}")


# n positives, and how many of them each detector is expected to find alone
PAIRS = [(60, 0.5, 0.5), (60, 1, 1), (60, 1.25, 1.25), (60, 2, 2), (60, 3, 3), (60, 10, 10), (60, 1, 8), (60, 0, 4)]
PAIRS += [(150, 0, 3), (150, 0, 4), (150, 0, 7), (150, 1, 4), (150, 3, 9)]


def pairs() -> None:
    """Differences of two detectors that tell a few positives apart, in exact sums.

    From 2.5 such examples on, 4 if all speak for one detector, coverage has to be within the region. With fewer it is
    above: an interval that excluded 0 as soon as three examples all speak for one detector, as it would have to,
    falls short with four (shown beside).
    """
    for n, only_one, only_two in PAIRS:
        shares = only_one / n, only_two / n
        up_to = np.arange(int(stats.binom(n, max(shares)).ppf(1 - 1e-7)) + 2)
        b, c = (each.ravel() for each in np.meshgrid(up_to, up_to))
        chance = stats.multinomial.pmf(np.stack([b, c, n - b - c], -1), n, [*shares, 1 - sum(shares)])
        some = chance > 1e-9
        b, c, chance = b[some], c[some], chance[some] / chance[some].sum()
        number, truth = np.arange(n), torch.ones(int(some.sum()), 1, n, dtype=torch.bool)
        missed = (number >= b[:, None]) & (number < (b + c)[:, None]), number < b[:, None]
        both = [counts_of(torch.from_numpy(~each)[:, None], truth) for each in missed]
        _, low, high = weighted_f1_difference(*both).T.numpy()
        one, two = (2 * (1 - share) / (2 - share) for share in reversed(shares))
        inside = (low <= one - two + 1e-12) & (one - two - 1e-12 <= high)
        sooner = inside & ~((np.maximum(b, c) == 3) & (np.minimum(b, c) == 0))
        beside = f"0 excluded from 3 on {(chance * sooner).sum():.3f}" if only_one == only_two else ""
        name = f"difference, {only_one:g} and {only_two:g} of {n} positives found by one alone"
        enough = only_one + only_two >= (2.5 if only_one else 4)
        row(name, float((chance * inside).sum()), COVERED if enough else None, beside=beside)


def rows(trials: int, seed: int) -> None:
    """Rows of an example are right or wrong together, to a degree: Dirichlet shares of TP, FP, FN per example."""
    rng = np.random.default_rng(seed + 13)
    for n, per_example, spread, shares in (
        (40, 20, 1.0, (0.6, 0.2, 0.2)),
        (80, 50, 0.5, (0.4, 0.4, 0.2)),
        (150, 10, 3.0, (0.9, 0.05, 0.05)),
        (30, 8, 10.0, (0.3, 0.3, 0.4)),
    ):
        expected, covered = 2 * shares[0] / (2 * shares[0] + shares[1] + shares[2]), np.zeros(2)
        for trial in range(trials):
            mixed = rng.dirichlet(np.array(shares) * spread, n)
            each = torch.from_numpy(rng.multinomial(rng.poisson(per_example, n), mixed))[None]
            for number, interval in enumerate(
                (weighted_f1_interval(each), bootstrap_f1(each, n_resamples=500, seed=trial))
            ):
                covered[number] += float(interval[1]) <= expected <= float(interval[2])
        covered /= trials
        name = f"F1 of rows {expected:.3f}: {n} examples of about {per_example} rows, spread {spread}"
        row(name, covered[0], COVERED, trials, f"BCa {covered[1]:.3f}")


# Noise ----------------------------------------------------------------------------------------------------------------

WORLDS = {
    "plain": {},
    "rare concepts": {"prevalence": 0.05, "n": (60, 60)},
    "common concepts": {"prevalence": 0.6},
    "ties": {"levels": 2},
    "one score for all": {"levels": 1},
    "short lists": {"share": 0.04},
    "full lists": {"share": 1.0},
    "correlated concepts": {"correlation": 0.9},
    "one unit": {"n_units": 1},
    "two silent units": {"n_units": 2, "share": 0.05},
    "many units": {"n_units": 300},
    "small test split": {"n": (80, 15)},
}
OTHERS = {  # not looked at while the nulls were made
    "others: common, large": {"prevalence": 0.9, "n": (200, 120), "n_units": 40},
    "others: tiny splits": {"n": (30, 20), "prevalence": 0.3},
    "others: five levels, 100 units": {"levels": 5, "share": 0.8, "n_units": 100},
    "others: rare, correlated, wide": {"prevalence": 0.08, "correlation": 0.5, "n": (120, 90), "n_units": 60},
    "unseen: very rare": {"prevalence": (0.03, 0.03), "n": (150, 150), "n_units": 40, "share": 0.3},
    "unseen: long texts": {"texts": True, "prevalence": (0.2, 0.2), "n": (90, 70), "n_units": 80, "share": 0.05},
    "unseen: one concept each": {"exclusive": True, "n": (72, 60), "n_units": 25, "share": 0.3},
    "unseen: rarer on test": {"prevalence": (0.3, 0.12), "n": (100, 50), "n_units": 25, "share": 0.3},
    "unseen: three levels": {"levels": 3, "prevalence": (0.2, 0.2), "n": (64, 64), "n_units": 25, "share": 0.3},
}


def noise(
    seed: int,
    n=(50, 50),
    n_units=20,
    n_concepts=40,
    share=0.4,
    levels=10**6,
    prevalence=0.25,
    correlation=0.0,
    texts=False,
    exclusive=False,
) -> Iterator:
    """Scores of cal and test, and labels that have nothing to do with them.

    Scores of ``texts`` are the largest of heavy-tailed values of a text's rows, and lengths of texts are of all sizes.
    """
    rng = np.random.default_rng(seed)
    for size, positive in zip(n, np.broadcast_to(prevalence, 2), strict=True):
        dense = rng.integers(1, levels + 1, (size, n_units)) * (rng.random((size, n_units)) < share)
        if texts:
            firing = rng.binomial(1 + rng.lognormal(3, 1, size).astype(int)[:, None], share, (size, n_units))
            dense = (firing > 0) * (1 - rng.random((size, n_units)) ** (1 / firing.clip(1))) ** (-2 / 3)
        common = correlation**0.5 * rng.normal(size=(size, 1))
        labels = common + (1 - correlation) ** 0.5 * rng.normal(size=(size, n_concepts)) < stats.norm.ppf(positive)
        if exclusive:
            labels = np.eye(n_concepts, dtype=bool)[rng.integers(n_concepts, size=size)]
        example, unit = dense.nonzero()
        parts = [torch.from_numpy(part) for part in (unit, example, dense[example, unit].astype(np.float32), labels)]
        yield example_scores(*parts, n_units=n_units)


def tests_of_noise(
    sets: int, shuffles: int, first: int, n_concepts: int, families: tuple[Literal["max-t", "holm"], ...], only: str
) -> None:
    """Concepts of a set share scores; their labels are independent, save in the correlated world."""
    for name, options in {**WORLDS, **OTHERS}.items():
        if only not in name:
            continue
        options = {**options, "n_concepts": n_concepts}
        for family in families:
            p, against, any_of, discovered = [], [], [], []
            for seed in range(first, first + sets):
                scores = dict(zip(("cal", "test"), noise(seed, **options), strict=True))
                got = search_null(scores, n_shuffles=shuffles, family=family, stop_after=1 + shuffles // 20, seed=seed)
                p.append(got.p)
                against.append(got.p_ties_against)
                any_of.append((got.family_p <= 0.05).any(1).tolist())
                discovered.append((got.q <= 0.05).any(1).tolist())
            for split, each in enumerate(torch.cat(p, 1)):
                tested = int((~each.isnan()).sum())
                safe = float((torch.cat(against, 1)[split] <= 0.05).sum()) / tested
                # Correlated concepts of a set are about one trial.
                trials = sets if "correlation" in options else tested
                level = float((each <= 0.05).sum()) / tested
                title = f"{'shared' if family == 'holm' else 'joint'} null of {('cal', 'test')[split]}: {name}"
                row(title, level, REJECTED, trials, f"ties against {safe:.3f}")
            # Holm and q need denominators of p that few shuffles do not have: they have an upper edge alone.
            for split in (0, 1):
                of = f"any of {n_concepts} concepts of {('cal', 'test')[split]}"
                region = (0.0, 0.06) if family == "holm" else REJECTED
                row(f"{of} by {family}: {name}", float(np.mean(any_of, 0)[split]), region, sets)
                row(f"{of} by q, {family}: {name}", float(np.mean(discovered, 0)[split]), (0.0, 0.06), sets)
        held_out(name, options, sets, shuffles, first)


def held_out(name: str, options: dict, sets: int, shuffles: int, first: int) -> None:
    """The same with the pairs chosen once: what stands beside test figures in the pipeline."""
    p, any_of, discovered, weighted = [], [], [], []
    for seed in range(first, first + sets):
        scores = dict(zip(("cal", "test"), noise(seed, **options), strict=True))
        best = find_pairs(scores, min_support=1)
        units, every = best.units, torch.ones(len(best.units), dtype=torch.bool)
        got = shuffle_held_out(scores["test"], units, best.thresholds, every, n_shuffles=shuffles, seed=seed)
        p.append(got.p[units >= 0])
        any_of.append(bool((got.family_p <= 0.05).any()))
        discovered.append(bool((got.q <= 0.05).any()))
        weighted.append(float(got.weighted[2]))
    tested = torch.cat(p)
    tested = tested[~tested.isnan()]
    trials = sets if "correlation" in options else len(tested)
    row(f"held-out null of test: {name}", float((tested <= 0.05).double().mean()), REJECTED, trials)
    of = f"any of {options['n_concepts']} concepts"
    row(f"{of}, held out: {name}", float(np.mean(any_of)), REJECTED, sets)
    row(f"{of} by q, held out: {name}", float(np.mean(discovered)), (0.0, 0.06), sets)
    row(f"weighted mean, held out: {name}", float((np.array(weighted) <= 0.05).mean()), REJECTED, sets)


# Rows of noise --------------------------------------------------------------------------------------------------------

LENGTHS = {
    "images": lambda rng, n: np.full(n, 16),
    "texts": lambda rng, n: rng.lognormal(3, 0.6, n).astype(int).clip(3, 200),
    "wild texts": lambda rng, n: rng.lognormal(2.5, 1.2, n).astype(int).clip(1, 400),
}
CLUMPS = ("whole", "spans", "by length", "first rows")


def clumps(rng: np.random.Generator, lengths: np.ndarray, kind: str) -> np.ndarray:
    """Rows of three in ten examples: all, spans anywhere, or the first; or spans of three at an even rate per row."""
    parts = []
    for length in lengths.tolist():
        part, some = np.zeros(length, bool), rng.random() < 0.3
        if kind == "by length":
            for first in np.flatnonzero(rng.random(length) < 0.015):
                part[first : first + 3] = True
        elif some:
            first = int(rng.integers(length)) if kind == "spans" else 0
            part[first : length if kind == "whole" else first + int(rng.integers(1, 6))] = True
        parts.append(part)
    return np.concatenate(parts)


def rows_of_noise(sets: int, seed: int, draws: int = 59, n: int = 60) -> None:
    """Clumps of rows on which a unit fires, which have nothing to do with those of the concept."""
    rng, one, tables = np.random.default_rng(seed + 14), torch.ones(1, dtype=torch.bool), []
    for name, draw in LENGTHS.items():
        for kind in CLUMPS:
            rejected = np.zeros(2)
            for number in range(sets):
                lengths = draw(rng, n)
                truth, fires = clumps(rng, lengths, kind), clumps(rng, lengths, CLUMPS[number % 4])
                if not truth.any() or not fires.any():
                    continue
                at, offsets = torch.from_numpy(fires.nonzero()[0]), torch.from_numpy(np.append(0, truth.cumsum()))
                sets_of_rows = truth_sets(offsets, torch.zeros(int(truth.sum()), dtype=torch.int64), 1)
                counts = torch.zeros(1, n, 3, dtype=torch.int64)
                rows = PairRows(sets_of_rows, torch.from_numpy(lengths), torch.zeros_like(at), at, counts, one, one)
                shifts = rng.integers(len(truth), size=draws)
                shared = np.array([(truth & fires).sum(), *((np.roll(truth, by) & fires).sum() for by in shifts)])
                shared = shared + rng.random(draws + 1) / 2
                rejected += (
                    float(exchange_maps(rows, n_draws=draws, seed=number).p) <= 0.05,
                    ((shared[1:] >= shared[0]).sum() + 1) / (draws + 1) <= 0.05,
                )
            rejected /= sets
            tables.append(rejected)
            row(f"exchanged maps: {name}, {kind}", rejected[0], REJECTED, sets, f"shift {rejected[1]:.3f}")
    low, mean, high = (each(np.array(tables), 0) for each in (np.min, np.mean, np.max))
    print(
        "least, mean, most: " + "; ".join(f"{a:.3f}, {b:.3f}, {c:.3f}" for a, b, c in zip(low, mean, high, strict=True))
    )


def cost() -> None:
    """CPU seconds of 1,000 shuffles: 5,000 units that fire in a fifth of 1,000 examples, 100 concepts."""
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(100, generator=generator) * 0.3
    scores = {}
    for split in ("cal", "test"):
        cell = (torch.rand(5000 * 500, generator=generator) < 0.2).nonzero().flatten()
        value = torch.empty(len(cell)).log_normal_(generator=generator)
        labels = torch.rand(500, 100, generator=generator) < shares
        scores[split] = example_scores(cell // 500, cell % 500, value, labels, n_units=5000)
    for family in ("max-t", "holm"):
        start = time.process_time()
        got = search_null(scores, n_shuffles=1000, min_support=3, family=family)
        seconds, mean = time.process_time() - start, float(got.n_shuffles.double().mean())
        print(f"{family:8} {seconds:6.1f} s of CPU, {got.seconds:6.1f} s, {mean:,.0f} shuffles per concept", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000, help="of every simulated interval")
    parser.add_argument("--sets", type=int, default=20, help="of scores and 40 concepts, of every noise world")
    parser.add_argument("--shuffles", type=int, default=79)
    parser.add_argument("--cost", action="store_true", help="the seconds of a large null, and nothing else")
    parser.add_argument("--seed", type=int, default=0, help="first of the seeds; sets take as many, so step by 100")
    parser.add_argument("--rows", action="store_true", help="the null of rows with 1,000 sets, and nothing else")
    parser.add_argument("--noise", action="store_true", help="the nulls of examples, and nothing else")
    parser.add_argument("--concepts", type=int, default=40, help="of every set of a noise world")
    parser.add_argument("--world", default="", help="of noise worlds, those with this in their name alone")
    parser.add_argument("--joint", action="store_true", help="of noise worlds, joint nulls alone")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.cost:
        cost()
        return
    if args.rows:
        rows_of_noise(1000, args.seed)
        return
    if not args.noise:
        counts()
        areas(args.trials, args.seed)
        pairs()
        means(args.trials // 4, args.seed)
        rows(args.trials // 4, args.seed)
    families = ("max-t",) if args.joint else ("max-t", "holm")
    tests_of_noise(args.sets, args.shuffles, args.seed, args.concepts, families, args.world)
    if not args.noise:
        rows_of_noise(10 * args.sets, args.seed)
    print(f"{len(outside)} outside" + "".join(f"\n  {name}" for name in outside))
    sys.exit(bool(outside))


if __name__ == "__main__":
    main()
