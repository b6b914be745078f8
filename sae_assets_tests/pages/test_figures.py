"""Figures of pages: what stands beside them."""

import pyarrow as pa
import pytest
import torch

from sae_assets.artifacts.detection import rests_on_few, too_few
from sae_assets.pages.figures import StageTable, Tables, element, figure


@pytest.mark.parametrize(
    ("positive", "negative", "few"), [(10, 10, False), (9, 90, True), (90, 9, True), (0, 90, True)]
)
def test_few_examples_of_a_class_are_marked(positive, negative, few):
    """Beside the number of test positives, whichever class is small; of numbers as of tensors."""
    cells = {"test_tp": positive, "test_fn": 0, "test_fp": negative, "test_tn": 0}
    line = pa.table({"concept": ["sky"], **{name: [value] for name, value in cells.items()}})
    shown = Tables({"best_pairs": StageTable("best_pairs", line, {})}).shown_sum("sky")
    assert f">{positive}</data>" in shown and ("?" in shown) == few
    counts = torch.tensor([positive, positive + negative])
    assert bool(too_few(*counts)) == rests_on_few(line.to_pylist()[0]) == few


def test_no_interval_is_shown_as_a_point():
    """As many digits as tell its ends apart, and where the table has none, a dash."""
    line = {"concept": ["a"], "test_f1_low": [0.99962], "test_f1_high": [0.99998]}
    tables = Tables({"best_pairs": StageTable("best_pairs", pa.table(line), {})})
    shown = tables.interval("best_pairs", "test_f1", "a")
    assert ">0.9996</data> – " in shown and shown.endswith(">1.0000</data></span>")
    assert tables.interval("best_pairs", "test_auroc", "a") == tables.interval("controls", "test_f1", "a") == "–"


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [(0.0184, "0.018", "+0.018"), (-0.0684, "−0.068", "−0.068"), (12345.6, "12,345.6", "+12,345.6"), (None, "–", "–")],
)
def test_differences_have_a_sign(value, plain, signed):
    assert (figure(value), figure(value, signed=True)) == (plain, signed)
    assert f">{signed}<" in element(value, signed=True, column="difference")
