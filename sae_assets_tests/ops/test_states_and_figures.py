"""Whatever the process has set before, figures, intervals and p by themselves are the same to the last bit."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sae_assets.ops import adjusted_p, beta, intervals, prevalence_free, rarefaction
from sae_assets.ops.concept_pairs import find_pairs
from sae_assets.ops.example_figures import f1_curve
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.jumprelu import JumpReluEncoder
from sae_assets.ops.random_saes import match_density, random_encoder
from sae_assets.ops.significance import search_null
from sae_assets.ops.sorted_scores import example_scores
from sae_assets_tests.helpers.process_states import EACH, under
from sae_assets_tests.strategies import random_world

GENERATOR = torch.Generator().manual_seed(0)
SHARES = torch.rand(40, generator=GENERATOR, dtype=torch.float64)
SIZES, MORE = 9 * SHARES + 1, 3 * SHARES + 2
NULL = torch.rand(40, 99, generator=GENERATOR, dtype=torch.float64)
TRUTH, DETECTED = (torch.rand(3, 60, generator=GENERATOR) < share for share in (0.4, 0.5))
SCORES = torch.randn(3, 60, generator=GENERATOR)
COUNTS = intervals.counts_of(DETECTED, TRUTH)
OTHERS, DRAWS = COUNTS.roll(1, -2), torch.stack([COUNTS.roll(n, -2) for n in (1, 2, 3)])
CONFUSION = tuple(torch.tensor([9.0 + n, 3.0, 2.0, 30.0], dtype=torch.float64) for n in range(4))
CHANCES = SHARES[:36].view(3, 12)
HITS = TRUTH[:, :12]
WORLD = random_world(3, n_examples=30, rows=4, n_units=6, n_concepts=2)
WHOLE = score_examples(
    [LabelledChunk(WORLD.filtered(), WORLD.splits, torch.from_numpy(WORLD.labels))], n_units=WORLD.n_units
)["test"]
ROWS = WORLD.sparse()
WEIGHT, X = (torch.randn(shape, generator=GENERATOR) for shape in ((8, 20), (50, 8)))
TRAINED = JumpReluEncoder(WEIGHT, torch.full((20,), 2.0))
N_ACTIVE = torch.arange(20)


def matched() -> Tensor:
    return match_density(random_encoder(TRAINED, 1), N_ACTIVE, X).encode(X).values


# More examples than a 16-bit dtype counts.
MANY = 700
FIRES = torch.rand(MANY, 5, generator=GENERATOR) < 0.9
VALUES = torch.rand(MANY, 5, generator=GENERATOR).mul(40).ceil()[FIRES]
LABELS = torch.rand(MANY, 2, generator=GENERATOR) < 0.45
EXAMPLE, UNIT = FIRES.nonzero(as_tuple=True)
LARGE = {
    split: example_scores(UNIT, EXAMPLE, VALUES, labels, n_units=5)
    for split, labels in (("cal", LABELS), ("test", LABELS.flip(0)))
}


FIGURES: dict[str, Callable[[], Tensor]] = {
    "quantiles of beta": lambda: beta.beta_quantile(SIZES, MORE, SHARES),
    "early p": lambda: adjusted_p.sequential_p(SHARES, NULL, 5)[0],
    "max T": lambda: adjusted_p.max_t(SHARES, NULL),
    "Holm": lambda: adjusted_p.holm(SHARES),
    "q": lambda: adjusted_p.benjamini_hochberg(SHARES),
    "weighted F1": lambda: intervals.weighted_f1(COUNTS),
    "Wilson": lambda: intervals.wilson_interval(SHARES, SIZES),
    "F1": lambda: intervals.f1_interval(SIZES, MORE, SHARES),
    "AUROC": lambda: intervals.auroc_interval(SCORES, TRUTH),
    "mean": lambda: intervals.weighted_f1_interval(COUNTS),
    "clusters": lambda: intervals.clustered_f1_intervals(COUNTS),
    "difference": lambda: intervals.weighted_f1_difference(COUNTS, OTHERS),
    "differences": lambda: intervals.clustered_f1_differences(COUNTS, OTHERS),
    "difference to draws": lambda: intervals.difference_to_draws(COUNTS, DRAWS),
    "bootstrap": lambda: intervals.bootstrap_f1(COUNTS, OTHERS, n_resamples=50),
    "Matthews": lambda: prevalence_free.matthews(*CONFUSION),
    "average precision": lambda: prevalence_free.average_precision(SCORES, TRUTH),
    "Brier": lambda: prevalence_free.brier(CHANCES, HITS),
    "calibration": lambda: prevalence_free.calibration_error(CHANCES, HITS),
    "curve": lambda: f1_curve(WHOLE, 2, 0),
    "matched density": matched,
    "exact thresholds": lambda: find_pairs(LARGE).thresholds,
    "p of shuffles": lambda: search_null(LARGE, n_shuffles=19, family="max-t").p,
    "AUROC of shuffles": lambda: search_null(LARGE, n_shuffles=19, family="holm").auroc,
}


@pytest.fixture(scope="module")
def alone() -> dict[str, Tensor]:
    return {name: figure() for name, figure in FIGURES.items()}


@pytest.mark.parametrize("state", EACH)
def test_figures(alone: dict[str, Tensor], state: str) -> None:
    """Each from numbers that were made before."""
    made = under(state, lambda: {name: figure() for name, figure in FIGURES.items()})
    for name, expected in alone.items():
        torch.testing.assert_close(made[name], expected, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("state", ["rounded up", "float64", "subnormals to 0"])
def test_expected_units(state: str) -> None:
    """Of an artifact, as a number."""
    assert under(state, lambda: rarefaction.expected_units(ROWS, 7)) == rarefaction.expected_units(ROWS, 7)
