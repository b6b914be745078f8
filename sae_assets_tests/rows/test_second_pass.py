"""Rows that go through the model once more: the largest score of each example, and what is refused."""

import numpy as np
import pytest
import torch

from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import open_dataset
from sae_assets.errors import MismatchError
from sae_assets.rows.second_pass import largest_scores
from sae_assets_tests.rows.test_control_inputs import dataset, embeddings, encode, model, texts  # noqa: F401
from sae_assets_tests.rows.test_text_chunks import chunk_of

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["token", "cls"])
@pytest.mark.parametrize("forward_batch", [1, 3])
def test_the_largest_score_of_the_rows_of_each_example(
    dataset: Dataset,  # noqa: F811
    model: Model,  # noqa: F811
    kind: str,
    forward_batch: int,
) -> None:
    """As numpy has it, of tokens also where `cls` is pooled from them; a text without tokens has none."""
    means = encode(dataset, model, forward_batch=forward_batch).control_inputs[kind].mean_embeddings
    rows, ids = embeddings(dataset, model), list(chunk_of(dataset).example_ids)
    directions = torch.randn(means.shape[1], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some = [3, 1, 0]
    options = {"dataset": dataset, "model": model, "reader": open_dataset(dataset), "device": "cpu"}
    options |= {"precision": "float32", "forward_batch": forward_batch}
    got, n_rows = largest_scores([ids[each] for each in some], means[some], directions, kind, **options)
    products = [rows[each].double().numpy() @ directions.numpy() for each in some]
    expected = [each.max(0, initial=-np.inf) for each in products]
    np.testing.assert_allclose(got, expected, rtol=1e-3 if forward_batch > 1 else 1e-12)
    assert n_rows == sum(map(len, products)) and bool((got[1] == -torch.inf).all())
    with pytest.raises(MismatchError, match=f"rows of '{ids[3]}' are others than those that were encoded"):
        largest_scores([ids[3]], means[[0]], directions, kind, **options)
    nothing, n_rows = largest_scores([], means[:0], directions, kind, **options)
    assert nothing.shape == (0, 3) and n_rows == 0
