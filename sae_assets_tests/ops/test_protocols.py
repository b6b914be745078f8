"""Figures of other repositories' protocols against dense ones, one pair at a time, and scikit-learn's."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from sae_assets.errors import ArtifactError
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.protocols.interplm import SHARES, score_regions
from sae_assets.ops.protocols.netdissect import dissect
from sae_assets.ops.protocols.rows import above, connected_regions
from sae_assets.ops.protocols.sae_probes import KS, probe_examples
from sae_assets.ops.protocols.saev import probe_rows
from sae_assets.ops.protocols.superactivators import choose_on_test
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.sorted_scores import EVALUATED
from sae_assets_tests.helpers.ops_of_worlds import calibrate, dense_scores, score
from sae_assets_tests.reference import protocols as reference
from sae_assets_tests.strategies import ORDINARY, PROPERTY, World, chunkings, random_world, worlds

pytestmark = pytest.mark.slow


def chunks_of(world: World, parts=None) -> list[RowChunk]:
    taken = [world] if parts is None else [world.take(part) for part in parts]
    return [RowChunk(part.filtered(), part.ground_truth(), part.splits) for part in taken]


def located(world: World) -> torch.Tensor:
    return torch.ones(len(world.concepts), dtype=torch.bool)


def options(world: World) -> dict:
    return {"concepts": world.concepts, "n_units": world.n_units, "located": located(world)}


@PROPERTY
@given(data=st.data(), world=worlds(max_rows=8))
def test_netdissect(data, world):
    """Threshold, IoU and concept of every unit over all rows of all splits, in any chunks."""
    got = dissect(chunks_of(world, data.draw(chunkings(len(world.lengths)))), **options(world))
    for unit in range(world.n_units):
        threshold, strongest = reference.quantile_above(world.activations[:, unit], 0.005)
        np.testing.assert_allclose(float(got.thresholds[unit]), threshold, rtol=1e-12)
        union = [(strongest | truth).sum() for truth in world.truth.T]
        iou = [(strongest & truth).sum() / max(n, 1) for truth, n in zip(world.truth.T, union, strict=True)]
        np.testing.assert_allclose(got.iou[unit].numpy(), iou, rtol=1e-12)
        assert int(got.concept_of_unit[unit]) == (int(np.argmax(iou)) if max(iou) > 0.04 else -1)


def test_netdissect_by_hand():
    """400 rows, two of them strongest: T lies above the third, and one of the concept's four rows is met."""
    values = np.zeros((400, 1), np.float32)
    values[[0, 1, 2, 3], 0] = 8, 6, 2, 1
    truth = np.zeros((400, 1), bool)
    truth[[0, 5, 6, 7]] = True
    world = World(values, np.array([400]), ("cal",), truth, np.ones((1, 1), bool))
    got = dissect(chunks_of(world), **options(world))
    assert float(got.thresholds[0]) == pytest.approx(2 + 0.005 * 4) and float(got.iou[0, 0]) == 1 / 5
    assert got.concept_of_unit.tolist() == [0]
    nowhere = dissect(chunks_of(world), **options(world) | {"located": torch.tensor([False])})
    assert nowhere.concept_of_unit.tolist() == [-1]


@PROPERTY
@given(world=worlds(max_rows=9), width=st.sampled_from([None, 2, 3]))
def test_regions_are_those_of_flooding(world, width):
    """Two positive rows of a concept have one number exactly if flooding from one reaches the other."""
    truth = world.ground_truth()
    got = connected_regions(truth, width)
    ends = np.cumsum(world.lengths)
    expected = set()
    for example, length in enumerate(world.lengths):
        first = ends[example] - length
        for concept in range(len(world.concepts)):
            for region in reference.regions(world.truth[first : first + length, concept], width):
                expected.add(frozenset((first + row, concept) for row in region))
    pairs = zip(truth.row_of_positive().tolist(), truth.concept_ids.tolist(), got.tolist(), strict=True)
    by_number: dict[int, set] = {}
    for row, concept, number in pairs:
        by_number.setdefault(number, set()).add((row, concept))
    assert {frozenset(members) for members in by_number.values()} == expected


@PROPERTY
@given(data=st.data(), world=worlds(max_rows=8), width=st.sampled_from([None, 2]))
def test_interplm(data, world, width):
    """F1 of every pair over five thresholds on both splits, the one chosen on cal, and test's F1 there."""
    chunks = chunks_of(world, data.draw(chunkings(len(world.lengths), shuffled=False)))
    if not world.rows_in("train").any():
        with pytest.raises(ArtifactError, match="There are no train rows"):
            score_regions(chunks, width=width, **options(world))
        return
    got = score_regions(chunks, width=width, **options(world))
    ends = np.cumsum(world.lengths)
    for unit, concept in np.ndindex(*got.shares.shape):
        values = world.activations[:, unit].astype(np.float64)
        top = values[world.rows_in("train")].max()
        of_split = []
        for place, split in enumerate(EVALUATED):
            places = [
                {int(ends[example] - world.lengths[example]) + row for row in region}
                for example in np.flatnonzero(world.examples_in(split))
                for region in reference.regions(
                    world.truth[ends[example] - world.lengths[example] : ends[example], concept], width
                )
            ]
            assert int(got.n_regions[place, concept]) == len(places)
            inside = world.rows_in(split)
            strong = [inside & (values > share * top) & (top > 0) for share in SHARES]
            of_split.append([reference.region_f1(each, world.truth[:, concept] & inside, places) for each in strong])
        for place, figures in enumerate(of_split):
            best = max((each[0] for each in figures if each), default=np.nan)
            np.testing.assert_allclose(float(got.f1[place, unit, concept]), best, rtol=1e-12)
        ranked = [(*each, -share) for each, share in zip(of_split[0], SHARES, strict=True) if each]
        chosen = -max(ranked)[2] if ranked else np.nan
        np.testing.assert_equal(float(got.shares[unit, concept]), chosen)
        if ranked:
            on_test = of_split[1][SHARES.index(chosen)]
            np.testing.assert_allclose(float(got.carried_f1[unit, concept]), on_test[0] if on_test else 0, rtol=1e-12)
            np.testing.assert_allclose(float(got.row_f1[unit, concept]), max(ranked)[1], rtol=1e-12)
    for concept, unit in enumerate(got.best_units.tolist()):
        ranks = [
            (float(got.f1[0, u, concept]), float(got.row_f1[u, concept]), -u)
            for u in range(world.n_units)
            if not np.isnan(float(got.f1[0, u, concept]))
        ]
        assert unit == (-max(ranks)[2] if ranks else -1)


def test_above_is_the_next_float():
    """A strict comparison with a float64 threshold, of float32 values, also beside subnormal ones."""
    thresholds = torch.tensor([0.0, 0.1, 1.0, 1e-45, 0.15 * 3.7], dtype=torch.float64)
    smallest = above(thresholds)
    assert bool((smallest > thresholds).all()) and torch.equal(smallest, smallest.float().double())
    before = torch.nextafter(smallest.float(), torch.zeros(5)).double()
    assert bool((before <= thresholds).all())


@pytest.mark.parametrize("coarse", [False, True])
def test_saev(coarse):
    """Losses of all pairs to 1e-6 of an optimiser's, the best unit of each concept, and its figures on test."""
    world = random_world(11, n_examples=60, n_units=6, n_concepts=3)
    if coarse:  # many ties, a unit that never fires, and one that is never beside its concept
        dense = np.round(world.activations)
        dense[:, 4] = 0
        dense[:, 5] = np.where(world.truth[:, 2], 0, dense[:, 5] + 1)
        world = dataclasses.replace(world, activations=dense)
    got = probe_rows(chunks_of(world), **options(world))
    train, test = world.rows_in("train"), world.rows_in("test")
    for concept in range(3):
        truth = world.truth[:, concept]
        fits = [reference.probe(world.activations[train, unit], truth[train]) for unit in range(6)]
        losses = [loss for loss, _, _ in fits]
        unit = int(np.argmin(losses))
        assert int(got.unit_ids[concept]) == unit
        assert float(got.losses[0, concept]) == pytest.approx(losses[unit], abs=1e-6)
        z = float(got.weights[concept]) * world.activations[test, unit].astype(np.float64) + float(got.biases[concept])
        entropy = (np.logaddexp(0, z) - truth[test] * z).mean()
        assert float(got.losses[1, concept]) == pytest.approx(entropy, abs=1e-9)
        for place, rows in enumerate((train, test)):
            share = truth[rows].mean()
            prior = -share * np.log(share) - (1 - share) * np.log(1 - share)
            assert float(got.baselines[place, concept]) == pytest.approx(prior, abs=1e-12)
        assert float(got.average_precision[concept]) == pytest.approx(average_precision_score(truth[test], z), abs=1e-9)
        assert float(got.f1[concept]) == pytest.approx(f1_score(truth[test], z > 0, zero_division=0), abs=1e-9)
    expected = 1 - got.losses.mean(1) / got.baselines.mean(1)
    assert torch.allclose(got.probe_r, expected, rtol=1e-12)
    assert got.coverage == float((got.average_precision >= 0.3).double().mean())
    if coarse:
        assert int(got.unit_ids[2]) in (2, 5)


def test_saev_takes_units_block_by_block(monkeypatch):
    """A few values at a time, in any chunks: the same units and losses."""
    world = random_world(12, n_units=7, n_concepts=2)
    whole = probe_rows(chunks_of(world), **options(world))
    monkeypatch.setattr("sae_assets.ops.protocols.saev.CELLS_AT_ONCE", 1)
    parts = probe_rows(chunks_of(world, [list(range(20)), list(range(20, 60))]), **options(world))
    assert torch.equal(whole.unit_ids, parts.unit_ids)
    torch.testing.assert_close(whole.losses, parts.losses, rtol=1e-9, atol=0)
    only_cal = dataclasses.replace(world, splits=("cal",) * 60)
    with pytest.raises(ArtifactError, match="no train rows"):
        probe_rows(chunks_of(only_cal), **options(only_cal))


@pytest.mark.parametrize(
    ("n", "seed", "ks"),
    [
        pytest.param(30, 0, (4,), id="pairs out", marks=pytest.mark.long),
        pytest.param(150, 1, (2,), id="six folds", marks=pytest.mark.long),
        pytest.param(600, 2, KS, id="last fifth"),
    ],
)
def test_sae_probes(n, seed, ks):
    """Ranking and AUROC of every k against scikit-learn's, with the strength chosen as there.

    Of one k where a fit is one of hundreds: all of them with few.
    """
    world = random_world(seed, n_examples=n, rows=3, n_units=10, n_concepts=1)
    chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
    got = probe_examples([chunk], n_units=10, pooling=Pooling("max"), ks=ks)
    assert got.ks == ((1, 2, 4, 8) if ks == KS else ks)
    train, test = (world.examples_in(split) for split in ("train", "test"))
    x, z = (dense_scores(world, split).astype(float) for split in ("train", "test"))
    y, there = world.labels[train, 0], world.labels[test, 0]
    order = reference.ranked_units(x, y)
    assert got.units[0].tolist() == order[: got.ks[-1]].tolist()
    for column, k in enumerate(got.ks):
        auc, within, f1, accuracy = by_scikit_learn(x[:, order[:k]], y, z[:, order[:k]], there)
        assert float(got.auc[0, column]) == pytest.approx(auc, abs=1e-6)
        assert float(got.val_auc[0, column]) == pytest.approx(within, abs=1e-6)
        assert float(got.f1[0, column]) == pytest.approx(f1, abs=1e-6)
        assert float(got.accuracy[0, column]) == pytest.approx(accuracy, abs=1e-6)


def by_scikit_learn(x, y, z, there):
    """Strength by pairs left out up to 12 examples, six folds up to 127, else on the last fifth; refitted on all."""
    from sklearn.model_selection import LeavePOut, StratifiedKFold

    if len(y) <= 12:
        parts = list(LeavePOut(2).split(x))
    elif len(y) < 128:
        parts = list(StratifiedKFold(6, shuffle=True, random_state=42).split(x, y))
    else:
        size = len(y) - min(len(y) // 5, 100)
        parts = [(np.arange(size), np.arange(size, len(y)))]
    means = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for strength in np.logspace(5, -5, 10):
            reached = []
            for a, b in parts:
                if len(np.unique(y[b])) == 2:
                    model = LogisticRegression(C=strength, max_iter=1000).fit(x[a], y[a])
                    reached.append(roc_auc_score(y[b], model.predict_proba(x[b])[:, 1]))
            means.append(np.mean(reached))
        order = np.random.RandomState(42).permutation(len(y))
        model = LogisticRegression(C=np.logspace(5, -5, 10)[int(np.argmax(means))], max_iter=1000)
        model.fit(x[order], y[order])
    said = model.predict(z)
    auc = roc_auc_score(there, model.predict_proba(z)[:, 1])
    return auc, max(means), f1_score(there, said, average="weighted"), accuracy_score(there, said)


def test_sae_probes_without_two_classes():
    """No figures then; no train examples are refused."""
    world = random_world(0, n_concepts=1)
    chunk = LabelledChunk(world.filtered(), world.splits, torch.zeros(60, 1, dtype=torch.bool))
    assert bool(probe_examples([chunk], n_units=12, pooling=Pooling("max"), ks=(1,)).auc.isnan().all())
    with pytest.raises(ArtifactError, match="no train examples"):
        probe_examples([dataclasses.replace(chunk, splits=("cal",) * 60)], n_units=12, pooling=Pooling("max"))


@PROPERTY
@given(world=worlds(pool=ORDINARY))
def test_superactivators(world):
    """The best test F1 of all (unit, tail fraction), with thresholds of cal rows."""
    thresholds = calibrate(world, (0.1, 0.5, 0.9))
    stats = count_detections(score(world), thresholds)
    got = choose_on_test(stats, thresholds)
    labels, scores = world.labels[world.examples_in("test")], dense_scores(world, "test")
    for concept in range(len(world.concepts)):
        reached = []
        for unit, fraction in np.ndindex(world.n_units, 3):
            cutoff = float(thresholds.values[concept, unit, fraction])
            if not np.isnan(cutoff):
                detected = scores[:, unit] >= cutoff
                true = (detected & labels[:, concept]).sum()
                bottom = detected.sum() + labels[:, concept].sum()
                reached.append((2 * true / max(bottom, 1), true, -fraction, -unit))
        if not reached or not labels[:, concept].any():
            assert int(got.unit_ids[concept]) == -1 and np.isnan(float(got.f1[concept]))
            continue
        f1, _, fraction, unit = max(reached)
        assert float(got.f1[concept]) == pytest.approx(f1) and int(got.unit_ids[concept]) == -2 * unit
        assert float(got.tail_fractions[concept]) == (0.1, 0.5, 0.9)[-fraction]
