"""What a report shows of a unit, against sorted lists and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from sae_assets.ops.example_figures import f1_curve, scores_of, sort_out
from sae_assets_tests.helpers.ops_of_worlds import dense_scores, many_rows, score, world_of


@pytest.mark.parametrize("seed", [40, 81, 130])
def test_the_curve_is_scikit_learns(seed: int) -> None:
    """At every score; below the smallest, where everything is called positive, no threshold stands."""
    world = many_rows(seed)
    dense, scores = dense_scores(world, "test"), score(world)["test"]
    truth = world.labels[world.examples_in("test")]
    for unit in range(world.n_units):
        assert np.array_equal(scores_of(scores, unit).numpy(), dense[:, unit])
        for concept in range(2):
            curve = f1_curve(scores, unit, concept).numpy()
            precision, recall, thresholds = precision_recall_curve(truth[:, concept], dense[:, unit])
            with np.errstate(invalid="ignore"):
                f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
            fires = thresholds > 0
            assert np.array_equal(curve[:, 0], thresholds[fires].astype(float))
            assert curve[:, 1] == pytest.approx(f1[fires])


@pytest.mark.parametrize("threshold", [0.5, 3.0, 1e9])
def test_examples_are_sorted_out(threshold: float) -> None:
    world = many_rows(120)
    dense, scores = dense_scores(world, "test"), score(world)["test"]
    truth = world.labels[world.examples_in("test")][:, 1]
    for unit in range(world.n_units):
        values, found = dense[:, unit], dense[:, unit] >= threshold
        falling = sorted(range(len(values)), key=lambda n: (-values[n], n))
        rising = sorted(range(len(values)), key=lambda n: (values[n], n))
        got = sort_out(scores, unit, threshold, 1, 3)
        assert got.top == [n for n in falling if values[n] > 0][:3]
        assert got.hits == [n for n in falling if found[n] and truth[n]][:3]
        assert got.false_positives == [n for n in falling if found[n] and not truth[n]][:3]
        assert got.misses == [n for n in rising if truth[n] and not found[n]][:3]
        counts = (got.n_hits, got.n_false_positives, got.n_misses)
        assert counts == ((found & truth).sum(), (found & ~truth).sum(), (~found & truth).sum())


def test_without_a_unit_everything_is_missed_and_without_positives_there_is_no_curve() -> None:
    world = world_of({"cal": [1.0], "test": [2.0, 0.0, 5.0]}, {"cal": [True], "test": [False, False, False]})
    scores = score(world)["test"]
    assert f1_curve(scores, 0, 0)[:, 1].isnan().all() and f1_curve(scores, 0, 0)[:, 0].tolist() == [2.0, 5.0]
    world = world_of({"cal": [1.0], "test": [2.0, 0.0, 5.0]}, {"cal": [True], "test": [True, False, True]})
    nobody = sort_out(score(world)["test"], -1, float("nan"), 0, 5)
    assert (nobody.top, nobody.hits, nobody.misses, nobody.n_misses) == ([], [], [0, 2], 2)
