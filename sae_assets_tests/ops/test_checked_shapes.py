"""Tests in this folder check the shapes that signatures of ops name; a setting that failed to do so would go unseen."""

import importlib
import pkgutil
from collections.abc import Callable

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor, ones, zeros

from sae_assets import ops
from sae_assets.ops.logistic import stratified_folds
from sae_assets_tests.helpers import shapes


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        stratified_folds(torch.ones(3, 1, dtype=torch.bool, device="cpu"), torch.arange(2, device="cpu"))


def test_every_module_that_names_shapes_is_checked() -> None:
    """And no other: the import hook leaves jaxtyping's name in a module."""
    checked, naming = set(), set()
    for each in pkgutil.walk_packages(ops.__path__, "sae_assets.ops."):
        names = vars(importlib.import_module(each.name))
        checked |= {each.name} if "jaxtyping" in names else set()
        naming |= {each.name for value in names.values() if getattr(value, "__module__", "") == Float.__module__}
    assert checked == naming and len(checked) > 50


def _doubled(result: Tensor) -> Callable[..., Tensor]:
    """A function within another, checked, that returns this."""

    @jaxtyping.jaxtyped(typechecker=shapes.checked)
    def doubled(x: Float[Tensor, " n"], *, weights: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
        return result

    return doubled


def test_what_comes_back_is_checked_by_the_sizes_of_the_arguments() -> None:
    """So is each argument, of a function that is defined for the second time too, and the wrong one is named."""
    for _ in range(2):
        assert _doubled(ones(2))(ones(3), weights=ones(3, 2)).tolist() == [1, 1]
        with pytest.raises(jaxtyping.TypeCheckError, match=r"checking the return value .*_doubled"):
            _doubled(ones(3))(ones(3), weights=ones(3, 2))
        with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'weights'"):
            _doubled(ones(2))(ones(3), weights=ones(2, 3))
        with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'x'"):
            _doubled(ones(2))(zeros(3, dtype=torch.int64), weights=ones(3, 2))


def test_functions_of_one_name_are_checked_each_by_its_own_shapes() -> None:
    def measured(shape: str) -> Callable[[Tensor], int]:
        @jaxtyping.jaxtyped(typechecker=shapes.checked)
        def size(x: Float[Tensor, shape]) -> int:
            return x.numel()

        return size

    assert measured("a")(ones(2)) == measured("a b")(ones(2, 1)) == 2
    with pytest.raises(jaxtyping.TypeCheckError):
        measured("a b")(ones(2))
