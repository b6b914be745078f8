"""Figures of pages: what stands beside them."""

import pyarrow as pa
import pytest
import torch

from sae_assets.artifacts.detection import too_few
from sae_assets.pages.figures import StageTable, Tables, element, figure


@pytest.mark.parametrize(("positive", "negative", "few"), [(5, 5, False), (4, 90, True), (90, 4, True), (0, 90, True)])
def test_few_examples_of_a_class_are_marked(positive, negative, few):
    """Beside the number of test positives, whichever class is small; of numbers as of tensors."""
    cells = {"test_tp": positive, "test_fn": 0, "test_fp": negative, "test_tn": 0}
    line = pa.table({"concept": ["sky"], **{name: [value] for name, value in cells.items()}})
    shown = Tables({"best_pairs": StageTable("best_pairs", line, {})}).shown_sum("sky")
    assert f">{positive}</data>" in shown and ("?" in shown) == few
    counts = torch.tensor([positive, positive + negative])
    assert bool(too_few(*counts)) == few


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [(0.0184, "0.018", "+0.018"), (-0.0684, "−0.068", "−0.068"), (12345.6, "12,345.6", "+12,345.6"), (None, "–", "–")],
)
def test_differences_have_a_sign(value, plain, signed):
    assert (figure(value), figure(value, signed=True)) == (plain, signed)
    assert f">{signed}<" in element(value, signed=True, column="difference")
