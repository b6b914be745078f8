"""A figure that does not exist is null in every file and JSON, and one "–" in print; never 0, never NaN."""

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sae_assets.cli.display import console
from sae_assets.cli.summary import print_summary
from sae_assets.commands.figures import plain
from sae_assets.ops.detection_stats import count_detections
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.parquet import to_table
from sae_assets_tests.helpers.ops_of_worlds import calibrate, choose, score
from sae_assets_tests.strategies import World, random_world


@pytest.fixture(scope="module")
def world() -> World:
    """Concept 0 everywhere, concept 1 not on cal, concept 2 not on test; unit 0 silent on cal."""
    found = random_world(0, n_examples=40, n_concepts=3)
    labels, truth, dense = found.labels.copy(), found.truth.copy(), found.activations.copy()
    for concept, split in ((1, "cal"), (2, "test")):
        labels[found.examples_in(split), concept] = truth[found.rows_in(split), concept] = False
    dense[found.rows_in("cal"), 0] = 0
    return World(dense, found.lengths, found.splits, truth, labels)


def counts_of(artifact: Any) -> dict[str, Any]:
    """The figures that its stage shows of an artifact."""
    return STAGES[artifact.kind].counts(artifact)


def test_nulls_in_detection_stats(world):
    """F1 of cal for concept 1 and of test for concept 2, and of the silent unit everywhere; all others exist."""
    table = to_table(count_detections(score(world), calibrate(world)))[0].to_pandas()
    silent = ~table["valid"]
    for split, concept in (("cal", "concept 1"), ("test", "concept 2")):
        assert (table[f"{split}_f1"].isna() == (silent | (table["concept"] == concept))).all()
    assert (table["unit_id"][silent] == 0).any() and (table["concept"][silent] == "concept 1").any()


def test_nulls_in_best_pairs_and_their_metadata(world):
    """A concept without cal positives has no pair and no cal figure; one without test positives has no test figure."""
    best = choose(world)
    rows = {row["concept"]: row for row in to_table(best)[0].to_pylist()}
    figures = [name for name, value in rows["concept 0"].items() if isinstance(value, float)]
    assert not any(row[name] is not None and math.isnan(row[name]) for row in rows.values() for name in figures)
    of_test = {name for name in figures if name.startswith("test_")}
    of_pair = {"tail_fraction", "threshold", "test_auroc", "test_average_precision", "test_mcc", "test_ece"}
    of_pair |= {"test_balanced_accuracy", "test_brier", "test_auroc_low", "test_auroc_high"}
    of_cal = {name for name in figures if name.startswith("cal_")}
    assert {name for name in figures if rows["concept 1"][name] is None} == of_pair | of_cal
    assert rows["concept 1"]["test_f1"] == 0  # no unit detects it anywhere
    assert {name for name in figures if rows["concept 2"][name] is None} == of_test
    shown = counts_of(best)
    assert "test_f1[concept 0]" in shown and "test_f1[concept 2]" not in shown


def test_metadata_of_a_chunk_without_rows(world):
    """Shares and means of nothing are left out; counts are true zeros."""
    empty = World(world.activations[:0], np.zeros(2, int), ("cal", "test"), world.truth[:0], world.labels[:2])
    shown = counts_of(empty.sparse())
    assert shown["rows"] == shown["entries"] == 0
    assert not {name for name in shown if name.endswith(("share", "per_row", "l0"))}
    assert {"l0", "truncated_rows_share", "dropped_mass_share", "mean_entries_per_row"} <= set(
        counts_of(world.sparse())
    )


def test_one_dash_in_print_within_100_columns(monkeypatch):
    """Also where an interval has no ends; a unit that fires beside its concept is marked, and too few examples are."""
    absent = dict.fromkeys(("unit_id", "cal_f1", "test_f1", "chance_f1", "q", "auroc"))
    absent |= dict.fromkeys(("row", "audit", "selection", "coalition", "controls"))
    absent |= {"test_f1_interval": [None, None], "too_few": False}
    there = {"unit_id": 65_535, "cal_f1": 1.0, "test_f1": 0.5, "test_f1_interval": [0.25, 0.75], "too_few": True}
    there |= {"chance_f1": 0.375, "q": 0.002, "auroc": 0.75}
    there |= {
        "row": {
            "precision": 0.25,
            "recall": 0.75,
            "f1": 0.125,
            "iou": 0.5,
            "pixel_iou": 1.0,
            "q": 0.0625,
            "beside": True,
        },
        "audit": None,
        "selection": "exact",
        "controls": None,
        "coalition": None,
    }
    whole = {
        "n_rows": 1, "n_units": 1, "n_kept": 1, "dense_bytes": 1, "stored_bytes": 1, "compression_ratio": 1.0,
        "fit": {"fvu": math.nan, "mean_l0": math.nan, "dead_units_share": math.nan, "stated_l0": None},
        "weighted_test_f1": math.nan, "weighted_test_f1_interval": [math.nan] * 2, "always_positive_f1": np.nan,
        "null_f1": {"mean": math.nan, "p95": math.nan}, "seconds": {}, "stale_stages": [],
        "inapplicable_stages": [], "rows": None, "controls": None,
        "concepts": {"material::plastic-opaque": there, "absent": absent},
    }  # fmt: skip
    figures = json.loads(json.dumps(plain({"a/patch/b": whole}), allow_nan=False))
    session = SimpleNamespace(settings=SimpleNamespace(store="store", home="home", catalog=None))
    monkeypatch.setattr(console, "width", 100)
    with console.capture() as capture:
        print_summary(figures, session, 0, 0)
    assert "? marks figures of fewer than 10 positive or negative test examples" in capture.get()
    assert "FVU –, mean L0 –, – of the units fire on no row" in capture.get()
    lines = {line.split()[0]: line.split() for line in capture.get().splitlines() if line.strip()}
    assert lines["absent"][1:] == ["–"] * 12
    expected = ["65535", "1.000", "0.500", "0.25–0.75?", "0.375", "0.002", "0.750", "0.25!", "0.75", "0.12", "0.062"]
    assert lines["material::plastic-opaque"][1:] == [*expected, "1.00"]
    assert lines["weighted"][1:] == ["mean", *["–"] * 3]
