"""A dense float64 oracle reproduces every stage of the demo's outputs, from the embeddings on.

The oracle (``reference``) is NumPy on dense matrices; it shares no code with ``ops``.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, jaccard_score, roc_auc_score

from sae_assets.catalog import load_catalog
from sae_assets.datasets import open_dataset
from sae_assets.ops.intervals import auroc_interval
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.reference import localization
from sae_assets_tests.reference.concept_pairs import best_threshold, best_unit
from sae_assets_tests.reference.detection_stats import confusion, example_scores
from sae_assets_tests.reference.sparse_activations import pre_activations
from sae_assets_tests.reference.thresholds import thresholds as dense_thresholds
from sae_assets_tests.reference.unit_mapping import adaptive_limits, prune
from sae_assets_tests.reference.unit_stats import unit_stats
from sae_assets_tests.strategies import densify

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]
CHUNKS = [f"{number:04d}" for number in range(4)]


class Demo:
    """The demo's stored artifacts, dense where an oracle wants them."""

    def __init__(self, home: Path, kind: str):
        self.store, self.kind = ArtifactStore(str(home / "store")), kind

    def chunks(self, stage):
        if stage == "labels":
            return [self.store.read(Address("clevr_mini", stage, chunk=key)).artifact for key in CHUNKS]
        return [self.store.read(Address("clevr_mini", stage, self.kind, "clip-mini", key)).artifact for key in CHUNKS]

    def model(self, stage):
        return self.store.read(Address("clevr_mini", stage, self.kind, "clip-mini")).artifact


@pytest.fixture(scope="module")
def embeddings(demo) -> dict[str, np.ndarray]:
    """Rows of both token kinds, in data set order, straight from the transformer."""
    catalog = load_catalog()
    model = catalog.models["clip-mini"]
    reader = open_dataset(catalog.datasets["clevr_mini"])
    vision = VisionTransformer(model.transformer, model.layer)
    images = (vision.geometry.tensor(reader.image(record.example_id)) for record in reader.records)
    rows = torch.cat([vision.embed(image[None]) for image in images])
    return {"patch": rows[:, 1:].flatten(0, 1).numpy(), "cls": rows[:, 0].numpy()}


@pytest.fixture(scope="module")
def sae() -> dict[str, np.ndarray]:
    content = torch.load(load_catalog().models["clip-mini"].sae.path, weights_only=True)
    return {"k": content["k"], **{name: t.double().numpy() for name, t in content["model_state_dict"].items()}}


@pytest.fixture(scope="module", params=["patch", "cls"])
def world(request, demo, embeddings, sae):
    """What the oracle makes of the embeddings, and what is stored."""
    kind = request.param
    stored = Demo(demo["home"], kind)
    ids, values = [], []
    for block in np.array_split(embeddings[kind].astype(np.float64), max(1, len(embeddings[kind]) // 4096)):
        pre = pre_activations(block, sae["enc"], sae["pre_b"])
        least = np.partition(pre, -sae["k"], axis=1)[:, -sae["k"]]
        for row, kth in zip(pre, np.maximum(least, 0), strict=True):
            units = np.flatnonzero((row >= kth) & (row > 0))
            order = np.argsort(-row[units], kind="stable")  # stable: ties keep the lower unit first
            ids.append(units[order[: sae["k"]]])
            values.append(row[ids[-1]])
    return {"stored": stored, "ids": ids, "values": values, "n_units": sae["enc"].shape[1]}


def dense(rows: list[np.ndarray], values: list[np.ndarray], chosen: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """float64 [rows, len(columns)] of the chosen rows."""
    lengths = [len(rows[row]) for row in chosen]
    units, entries = (np.concatenate([of[row] for row in chosen]) for of in (rows, values))
    column_of = np.full(max(int(units.max()), int(columns.max())) + 1, -1)
    column_of[columns] = np.arange(len(columns))
    wanted = column_of[units] >= 0
    matrix = np.zeros((len(chosen), len(columns)))
    matrix[np.repeat(np.arange(len(chosen)), lengths)[wanted], column_of[units[wanted]]] = entries[wanted]
    return matrix


def test_every_stage(world):
    stored, kind = world["stored"], world["stored"].kind
    # 1. encode: the same ids and values in the same order
    chunks = stored.chunks("sparse_activations")
    lengths = np.concatenate([chunk.entries_per_row().numpy() for chunk in chunks])
    np.testing.assert_array_equal(lengths, [len(row) for row in world["ids"]])
    np.testing.assert_array_equal(torch.cat([chunk.unit_ids for chunk in chunks]), np.concatenate(world["ids"]))
    values = torch.cat([chunk.values for chunk in chunks]).numpy()
    np.testing.assert_allclose(values, np.concatenate(world["values"]), rtol=1e-6, atol=1e-12)

    said = stored.chunks("labels")
    splits = np.array([split for chunk in said for split in chunk.splits])
    labels = np.concatenate([chunk.labels.numpy() for chunk in said])
    per_example = len(world["ids"]) // len(splits)
    example_of_row = np.repeat(np.arange(len(splits)), per_example)
    cal_rows = np.flatnonzero(splits[example_of_row] == "cal")
    truth = np.zeros((len(example_of_row), labels.shape[1]), dtype=bool)
    first = 0
    for chunk in stored.chunks("ground_truth"):
        truth[first + chunk.row_of_positive().numpy(), chunk.concept_ids.numpy()] = True
        first += chunk.n_rows
    if kind == "cls":
        assert (truth == labels).all()

    # 2. statistics, 3. mapping
    everything = np.arange(world["n_units"])
    stats = unit_stats(dense(world["ids"], world["values"], cal_rows, everything))
    found = stored.model("unit_stats")
    assert found.n_rows == len(cal_rows) and (found.n_active.numpy() == stats["n_active"]).all()
    for name, got in (("max", found.max), ("p95", found.p95), ("p99", found.p99), ("mean", found.mean),
                      ("density", found.density), ("selectivity", found.selectivity)):  # fmt: skip
        np.testing.assert_allclose(got.numpy(), stats[name], rtol=1e-6, equal_nan=True, err_msg=name)
    mapping = stored.model("unit_mapping")
    if kind == "patch":
        kept, _ = prune(stats, **adaptive_limits(truth[cal_rows].sum(0).tolist()), target=5000)
    else:
        kept = np.flatnonzero(stats["n_active"] > 0)
    assert mapping.kept_units.tolist() == list(kept)

    # 4. filter
    activity = dense(world["ids"], world["values"], np.arange(len(example_of_row)), kept)
    first = 0
    for chunk in stored.chunks("filtered_activations"):
        block = np.zeros((chunk.n_rows, len(kept)))
        block[chunk.row_of_entry().numpy(), chunk.unit_ids.numpy()] = chunk.values.numpy()
        np.testing.assert_allclose(block, activity[first : first + chunk.n_rows], rtol=1e-6)
        first += chunk.n_rows

    # 5. thresholds, from the float32 values that are stored
    activity = activity.astype(np.float32).astype(np.float64)
    thresholds = stored.model("thresholds")
    fractions = np.array(thresholds.tail_fractions)
    expected = dense_thresholds(activity, truth, splits[example_of_row] == "cal", fractions)
    np.testing.assert_allclose(thresholds.values[:-1].numpy(), expected, rtol=1e-6, equal_nan=True)

    # 6. detection: the same counts
    detection = stored.model("detection_stats")
    scores = example_scores(activity, example_of_row, len(splits))
    own = thresholds.values[:-1].numpy()  # equal to 1e-6; counts are compared at the stored cut-offs
    counts = {}
    for place, split in enumerate(("cal", "test")):
        chosen = splits == split
        cells = confusion(scores[chosen], labels[chosen], own)
        counts[split] = dict(zip(("tp", "fp", "fn", "tn"), cells, strict=True))
        for name, got in (
            ("tp", detection.true_positives), ("fp", detection.false_positives),
            ("fn", detection.false_negatives), ("tn", detection.true_negatives),
        ):  # fmt: skip
            assert (got[place].numpy() == counts[split][name]).all(), (split, name)
    # 7. rows, over all thresholds
    aligned = stored.model("row_alignment")
    on = {split: splits[example_of_row] == split for split in ("cal", "test")}
    assert aligned.n_rows.tolist() == [int(rows.sum()) for rows in on.values()]
    firing = dense(world["ids"], world["values"], np.arange(len(truth)), everything).astype(np.float32)
    f1_of = best_f1s(firing[on["cal"]], truth[on["cal"]])
    for concept, pair in enumerate(aligned.best.tolist()):
        unit = int(aligned.unit_ids[pair])
        assert f1_of[unit, concept] == f1_of[:, concept].max() == float(aligned.rate("f1")[0, pair])
        for place, rows in enumerate(on.values()):
            there, values = truth[rows, concept], firing[rows, unit]
            predicted = values >= float(aligned.thresholds[pair])
            assert int(aligned.predicted[place, pair]) == predicted.sum()
            for name, rate in (("f1", f1_score), ("iou", jaccard_score)):
                assert float(aligned.rate(name)[place, pair]) == pytest.approx(rate(there, predicted), rel=1e-12)
            precision = average_precision_score(there, values)
            assert float(aligned.average_precision[place, pair]) == pytest.approx(precision, rel=1e-9)
        assert float(aligned.auroc[pair]) == pytest.approx(roc_auc_score(there, values), rel=1e-9)

    # 8. the pair: of patches the unit that rows choose, of whole images the one that examples do; its best threshold
    best = stored.model("best_pairs")
    scores = example_scores(firing, example_of_row, len(splits))
    for concept in range(labels.shape[1]):
        truths = {split: labels[splits == split, concept] for split in on}
        values = {split: scores[splits == split] for split in on}
        unit = best_unit(values["cal"], truths["cal"], 3)
        if kind == "patch":
            unit = int(aligned.unit_ids[aligned.best[concept]])
        threshold = best_threshold(values["cal"][:, unit], truths["cal"], 3)
        assert (int(best.unit_ids[concept]), float(best.thresholds[concept])) == (unit, threshold)
        for place, split in enumerate(on):
            found = values[split][:, unit] >= threshold
            cells = confusion_matrix(truths[split], found, labels=[True, False]).flatten()[[0, 2, 1, 3]]
            assert best.counts[place, concept].tolist() == cells.tolist()
        ranked = auroc_interval(torch.from_numpy(values["test"][:, unit]), torch.from_numpy(truths["test"]))
        np.testing.assert_allclose([best.scores[concept, 0], *best.auroc_interval[concept]], ranked, rtol=1e-12)

    # 9. where in its examples each concept is
    places, values = (
        stored.model("localization"),
        np.concatenate([densify(chunk) for chunk in chunks]).astype(np.float64),
    )
    fitted, norms = on["cal"] | (splits[example_of_row] == "train"), np.linalg.norm(values, axis=1)
    assert places.located.tolist() == [kind != "cls"] * labels.shape[1]
    for concept, (unit, threshold) in enumerate(zip(best.unit_ids.tolist(), best.thresholds.tolist(), strict=True)):
        towards = localization.direction(values, unit, threshold, fitted)
        np.testing.assert_allclose(places.direction(concept).numpy(), towards, rtol=1e-9, atol=1e-15)
        inside = localization.detected(values, unit, threshold, example_of_row)
        cutoffs = places.cutoffs[:, concept].tolist()
        similar = localization.similarities(values, towards, norms)
        if kind == "cls":
            assert np.isnan(cutoffs[1:]).all()
            continue
        lower = inside & (values[:, unit] >= cutoffs[1])
        alike = inside & (similar >= cutoffs[2]) & (similar > 0)
        marks = (values[:, unit] >= threshold, lower, alike)
        for method, marked in enumerate(marks):
            for place, rows in enumerate(on.values()):
                cells = localization.confusion(marked[rows], truth[rows, concept])
                assert tuple(places.counts[method, place, concept].tolist()) == cells

    # 10. several units for one concept
    together, scores = stored.model("coalitions"), example_scores(values, example_of_row, len(splits))
    for concept in range(labels.shape[1]):
        low, high = together.member_offsets[concept : concept + 2].tolist()
        members = zip(together.unit_ids[low:high].tolist(), together.thresholds[low:high].tolist(), strict=True)
        detects = [scores[:, unit] >= threshold for unit, threshold in members]
        found = (np.all if together.rule(concept) == "and" else np.any)(detects, 0)
        for place, split in enumerate(("train", "cal", "test")):
            rows = splits == split
            cells = localization.confusion(found[rows], labels[rows, concept])
            assert tuple(together.counts[place, concept].tolist()) == cells


def best_f1s(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The largest F1 [units, concepts] over all thresholds above 0, of values [rows, units] as they rank."""
    best = np.zeros((values.shape[1], truth.shape[1]))
    for unit, column in enumerate(np.ascontiguousarray(values.T)):
        rows = np.flatnonzero(column > 0)
        order = rows[np.argsort(-column[rows], kind="stable")]
        ends = np.flatnonzero(np.append(np.diff(column[order]) < 0, True)) if len(rows) else np.array([], int)
        hits = truth[order].cumsum(0)[ends]
        best[unit] = (2 * hits / (ends[:, None] + 1 + truth.sum(0))).max(0, initial=0)
    return best


def test_text_activations_are_the_dense_jumprelu_ones(demo):
    """Every stored token row of one chunk, from the transformer's rows on, in float64 and dense."""
    from sae_assets.rows.texts import open_text_rows

    catalog = load_catalog()
    model, entry = catalog.models["gemma-mini"], catalog.datasets["moods_mini"]
    reader = open_dataset(entry)
    store = ArtifactStore(str(demo["home"] / "store"))
    chunk = store.read(Address("moods_mini", "sparse_activations", "token", "gemma-mini", "0001")).artifact
    examples = store.read(Address("moods_mini", "examples", chunk="0001")).artifact
    source = open_text_rows(reader, model, ("token",), "cpu", model.precision)
    rows = [next(source.embed([example])).rows["token"] for example in examples.example_ids]
    assert chunk.example_offsets.diff().tolist() == [len(part) for part in rows]
    assert model.sae.path is not None
    with np.load(model.sae.path / "average_l0_22" / "params.npz", allow_pickle=False) as params:
        weights, bias, threshold = (params[name].astype(np.float64) for name in ("W_enc", "b_enc", "threshold"))
    z = (torch.cat(rows).numpy().astype(np.float64) @ weights + bias).astype(np.float32)
    active = np.where((z > threshold.astype(np.float32)) & (z > 0), z, 0)
    assert chunk.l0.tolist() == (active > 0).sum(1).tolist()
    offsets = chunk.row_offsets.tolist()
    for row, dense in enumerate(active):
        order = np.lexsort((np.arange(len(dense)), -dense))[: min(64, int((dense > 0).sum()))]
        stored = slice(offsets[row], offsets[row + 1])
        assert chunk.unit_ids[stored].tolist() == order.tolist()
        assert chunk.values[stored].numpy() == pytest.approx(dense[order], rel=1e-6)
