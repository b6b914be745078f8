"""Figures of pages: what stands beside them."""

import pyarrow as pa
import pytest
import torch

from sae_assets.artifacts.detection import too_few
from sae_assets.pages.figures import StageTable, Tables


@pytest.mark.parametrize(("positive", "negative", "few"), [(5, 5, False), (4, 90, True), (90, 4, True), (0, 90, True)])
def test_few_examples_of_a_class_are_marked(positive, negative, few):
    """Beside the number of test positives, whichever class is small; of numbers as of tensors."""
    cells = {"test_tp": positive, "test_fn": 0, "test_fp": negative, "test_tn": 0}
    line = pa.table({"concept": ["sky"], **{name: [value] for name, value in cells.items()}})
    shown = Tables({"best_pairs": StageTable("best_pairs", line, {})}).shown_sum("sky")
    assert f">{positive}</data>" in shown and ("?" in shown) == few
    counts = torch.tensor([positive, positive + negative])
    assert bool(too_few(*counts)) == few
