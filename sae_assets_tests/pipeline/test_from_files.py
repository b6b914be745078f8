"""Everything that is stored after encoding follows from the stored files alone; images and texts, in three chunks."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from sae_assets.catalog import load_catalog
from sae_assets.commands.figures import summarize
from sae_assets.commands.requests import parse_options
from sae_assets.commands.session import open_session
from sae_assets.errors import CatalogError
from sae_assets.pipeline.options import ChoiceOptions
from sae_assets.pipeline.stage import Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets_tests.pipeline.fresh_runs import make_texts, run, text_catalog
from sae_assets_tests.pipeline.recomputed import FRACTIONS, Recomputed, read
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

CELLS = ("tp", "fp", "fn", "tn")
TAILS = {"selection": "tails", "n_permutations": 50}


def images(base: Path) -> tuple[Path, Recomputed]:
    root = make_dataset(base / "data", 12)
    catalog = write_catalog(base / "catalog.yaml", root, chunk_size=4, token_kinds=["patch"], detection=TAILS)
    folder = run(base / "home", catalog)
    assert len(list((folder / "examples").glob("*.parquet"))) == 3
    return folder / "patch" / "clip-mini", Recomputed(folder, "patch", "clip-mini", "image", 5000, 1024)


def texts(base: Path) -> tuple[Path, Recomputed]:
    catalog = text_catalog(base / "catalog.yaml", make_texts(base / "data", 45), chunk_size=15, detection=TAILS)
    folder = run(base / "home", catalog)
    return folder / "token" / "gemma-mini", Recomputed(folder, "token", "gemma-mini", "text", 3000, 1280)


@pytest.fixture(scope="module", params=[images, texts], ids=["images", "texts"])
def both(request, tmp_path_factory) -> tuple[Path, Recomputed]:
    """The folder of a model's stored stages, and what NumPy makes of the first three of them."""
    return request.param(tmp_path_factory.mktemp(request.param.__name__))


def columns(folder: Path, stage: str) -> dict[str, list]:
    return pq.read_table(folder / stage / "all.parquet").to_pydict()


def floats(values: list) -> np.ndarray:
    """Nulls as NaN; a NaN that is stored as one would be a mistake."""
    assert not any(value is not None and value != value for value in values)
    return np.array([np.nan if value is None else value for value in values])


pytestmark = [pytest.mark.long, pytest.mark.xdist_group("from files")]


def test_unit_stats(both):
    folder, own = both
    stored = columns(folder, "unit_stats")
    assert stored["unit_id"] == list(range(len(own.reasons))) and own.n_rows == own.cal.sum()
    for name in ("n_active", "density", "max"):
        np.testing.assert_array_equal(floats(stored[name]), own.stats[name], err_msg=name)
    for name in ("sum", "sum_sq", "mean", "p95", "p99"):
        np.testing.assert_allclose(floats(stored[name]), own.stats[name], rtol=1e-12, atol=0, err_msg=name)
    np.testing.assert_allclose(floats(stored["selectivity"]), own.stats["selectivity"], rtol=1e-9, atol=1e-12)


def test_unit_mapping_and_filtered_rows(both):
    folder, own = both
    stored = columns(folder, "unit_mapping")
    assert stored["reason"] == own.reasons.tolist() and len(own.kept) > 1
    index = {unit: place for place, unit in enumerate(own.kept.tolist())}
    assert stored["kept_index"] == [index.get(unit) for unit in range(len(own.reasons))]
    rows, before = read(folder / "filtered_activations"), read(folder / "sparse_activations")
    for row, original in zip(rows, before, strict=True):
        pairs = zip(original["unit_ids"], original["values"], strict=True)
        kept = [(index[unit], value) for unit, value in pairs if unit in index]
        assert list(zip(row["kept_indices"], row["values"], strict=True)) == kept
        assert [row[name] for name in ("example_index", "position")] == [
            original[name] for name in ("example_index", "position")
        ]


def test_thresholds(both):
    folder, own = both
    stored = columns(folder, "thresholds")
    shape = own.thresholds.shape
    assert stored["concept"] == np.repeat([*own.concepts, None], shape[1] * shape[2]).tolist()
    assert stored["unit_id"][: shape[1] * shape[2]] == np.repeat(own.kept, shape[2]).tolist()
    assert stored["tail_fraction"][: shape[2]] == list(FRACTIONS)
    np.testing.assert_array_equal(np.array(stored["n_positive"]).reshape(shape)[..., 0], own.n_positive)
    np.testing.assert_allclose(floats(stored["threshold"]).reshape(shape), own.thresholds, rtol=1e-12, atol=0)


def test_detection_stats(both):
    folder, own = both
    stored = columns(folder, "detection_stats")
    shape = own.counts["cal"].shape[1:]
    valid = np.array(stored["valid"]).reshape(shape)[..., 0]
    np.testing.assert_array_equal(valid, own.n_positive[:-1] > 0)
    for split in ("cal", "test"):
        for name, count in zip(CELLS, own.counts[split], strict=True):
            np.testing.assert_array_equal(np.array(stored[f"{split}_{name}"]).reshape(shape), count, err_msg=name)
        np.testing.assert_array_equal(floats(stored[f"{split}_f1"]).reshape(shape), own.f1(split))


def test_best_pairs(both):
    """The pair of every concept by cal F1, its counts and rates on both splits, and the always-positive F1."""
    folder, own = both
    stored = columns(folder, "best_pairs")
    assert stored["concept"] == own.concepts and any(pair is not None for pair in own.best)
    for concept, pair in enumerate(own.best):
        found = {name: values[concept] for name, values in stored.items()}
        if pair is None or own.counts["cal"][[1, 3]][:, concept].sum() == 0:
            assert found["unit_id"] is found["tail_fraction"] is found["threshold"] is None
            continue
        unit, place = pair
        assert (found["unit_id"], found["tail_fraction"]) == (own.kept[unit], FRACTIONS[place])
        assert found["threshold"] == pytest.approx(own.thresholds[concept, unit, place], rel=1e-12)
        for split in ("cal", "test"):
            tp, fp, fn, tn = (int(count) for count in own.counts[split][:, concept, unit, place])
            assert [found[f"{split}_{name}"] for name in CELLS] == [tp, fp, fn, tn]
            rates = {
                "precision": tp / (tp + fp) if tp + fp else 0.0,
                "recall": tp / max(tp + fn, 1),
                "f1": 2 * tp / (2 * tp + fp + fn) if tp + fn else 0.0,
                "accuracy": (tp + tn) / (tp + fp + fn + tn),
                "always_positive_f1": 2 * (tp + fn) / (2 * (tp + fn) + fp + tn),
            }
            for name, rate in rates.items():
                expected = None if tp + fn == 0 or fp + tn == 0 else pytest.approx(rate, rel=1e-12)
                assert found[f"{split}_{name}"] == expected, (split, name)
        assert (found["test_null_f1_mean"] is None) == (tp + fn == 0 or fp + tn == 0)
        assert found["cal_null_f1_mean"] is None  # the grid has none


def test_folds_are_one_more_figure_and_nothing_else_changes(both):
    """Asked for, they fill their column and the summary's figure; the choice is made again, the same pairs."""
    folder, own = both
    kind, model = folder.parts[-2:]
    before, figures_before = columns(folder, "chosen_pairs"), columns(folder, "best_pairs")
    with open_session(folder.parents[3], folder.parents[4] / "catalog.yaml") as session:
        made, _ = session.materialize(["small"], options=parse_options(n_folds=3))
        figures = summarize(session, ["small"])[f"small/{kind}/{model}"]["concepts"]
    after = columns(folder, "chosen_pairs")
    # Made are the choice, what it is worth, and the page that shows it.
    assert made == 3 and columns(folder, "best_pairs") == figures_before and set(before.pop("cal_fold_f1")) == {None}
    folds = after.pop("cal_fold_f1")
    assert before == after and [found["cal_fold_f1"] for found in figures.values()] == folds
    assert any(figure is not None and 0 <= figure <= 1 for figure in folds)
    assert all(folds[place] is None for place, pair in enumerate(own.best) if pair is None)


def test_folds_are_configured_per_run():
    """Off by default; one fold is refused, as a configuration and by name."""
    target = Target(load_catalog(), Address("clevr_mini", "chosen_pairs", "patch", "clip-mini"))
    settings = STAGES["chosen_pairs"].settings
    rules = {"pooling": "max", "selection": "exact", "choose_by": "rows", "min_support": 3, "n_folds": 0, "seed": 0}
    rules["concepts"] = list(load_catalog().datasets["clevr_mini"].concepts)
    assert settings(target, ChoiceOptions()) == rules
    assert settings(target, ChoiceOptions(n_folds=5)) == {**rules, "n_folds": 5}
    for wrong in (1, -1):
        with pytest.raises(ValidationError, match="n_folds"):
            ChoiceOptions(n_folds=wrong)
        with pytest.raises(CatalogError, match="n_folds"):
            parse_options(n_folds=wrong)
