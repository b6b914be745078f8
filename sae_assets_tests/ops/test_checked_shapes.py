"""Tests in this folder check the shapes that signatures of ops name; a setting that failed to do so would go unseen."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import Any, Literal

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


def test_what_was_checked_is_checked_again_only_where_types_or_shapes_differ() -> None:
    """Of an argument and of what comes back; texts, and what collections hold, are looked at too."""
    returned: list[Tensor] = []

    @jaxtyping.jaxtyped(typechecker=shapes.checked)
    def last(
        x: Float[Tensor, " n"], how: Literal["mean", "sum"], *, parts: Sequence[Float[Tensor, " n"]] = ()
    ) -> Float[Tensor, " n"]:
        return returned.pop()

    def call(result: Tensor, x: Any, how: Any = "mean", **kwargs: Any) -> None:
        returned.append(result)
        assert last(x, how, **kwargs) is result

    for _ in range(2):
        call(ones(2), zeros(2))
        call(ones(2), zeros(2), parts=[ones(2)])
        call(ones(3), zeros(3), "sum")
        for arguments in (
            (ones(3), zeros(2)),
            (ones(2, dtype=torch.int64), zeros(2)),
            (ones(2), zeros(2, dtype=torch.int64)),
            (ones(2), zeros(2, 1)),
            (ones(2), [0.0, 0.0]),
            (ones(2), zeros(2), "median"),
        ):
            with pytest.raises(jaxtyping.TypeCheckError):
                call(*arguments)
        for parts in ([ones(3)], (ones(3),), {"part": ones(2)}):
            with pytest.raises(jaxtyping.TypeCheckError):
                call(ones(2), zeros(2), parts=parts)


def test_a_check_is_carried_out_once_for_calls_that_no_annotation_tells_apart() -> None:
    checks = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def check(*args: Any, **kwargs: Any) -> Any:
            checks.append(args)
            return function(*args, **kwargs)

        return check

    @jaxtyping.jaxtyped(typechecker=counted)
    def total(x: Float[Tensor, " n"], mapping: dict[str, int]) -> float:
        return float(x.sum())

    assert [total(ones(2), mapping={}), total(zeros(2), mapping={})] == [2, 0]
    assert len(checks) == 4  # of arguments and result, twice: whatever a dictionary may hold is not remembered

    @jaxtyping.jaxtyped(typechecker=counted)
    def largest(x: Float[Tensor, " n"]) -> float:
        return float(x.max())

    assert [largest(ones(2)), largest(zeros(2)), largest(ones(3))] == [1, 0, 1]
    assert len(checks) == 4 + 4


def test_a_result_that_waits_for_its_check_is_that_of_its_own_call() -> None:
    """A function that calls itself, and returns one dtype and then another."""

    @jaxtyping.jaxtyped(typechecker=shapes.checked)
    def halved(x: Float[Tensor, " n"], depth: int) -> Tensor:
        return halved(x, depth - 1) / 2 if depth else x.to(dtypes[0])

    dtypes = [torch.float32]
    assert halved(ones(2), 2).tolist() == [0.25, 0.25]
    dtypes = [torch.float64]
    assert halved(ones(2), 2).tolist() == [0.25, 0.25]
    assert halved(ones(3), 0).tolist() == [1, 1, 1]
