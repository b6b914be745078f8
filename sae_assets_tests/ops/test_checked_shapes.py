"""Tests in this folder check the shapes that signatures of ops name; a setting that failed to do so would go unseen."""

import jaxtyping
import pytest
import torch

from sae_assets.ops.logistic import stratified_folds


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        stratified_folds(torch.ones(3, 1, dtype=torch.bool, device="cpu"), torch.arange(2, device="cpu"))
