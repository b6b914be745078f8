"""Every tensor that the package makes says its dtype and its device: the defaults of a process belong to others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sae_assets

PACKAGE = Path(sae_assets.__file__).parent
FLOATS = ("zeros", "ones", "full", "empty", "tensor", "eye", "linspace", "rand", "randn")  # else of the default dtype
ELSEWHERE = (*FLOATS, "arange", "randint", "randperm", "as_tensor", "asarray")  # else on the default device


def unnamed(source: str) -> Iterator[str]:
    """Calls that make a tensor and leave open what it is or where."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            continue
        named = {keyword.arg for keyword in node.keywords}
        for keyword, makers in (("device", ELSEWHERE), ("dtype", FLOATS)):
            if node.func.attr in makers and keyword not in named:
                yield f"line {node.lineno}: {ast.unparse(node)} without {keyword}"


@pytest.mark.parametrize("source", ["torch.zeros(3, device=d)", "torch.arange(3)", "f(torch.tensor([1], dtype=t))"])
def test_what_is_left_open_is_seen(source: str) -> None:
    assert len(list(unnamed(source))) == 1


def test_nothing_is_left_open() -> None:
    found = {str(path.relative_to(PACKAGE)): list(unnamed(path.read_text("utf-8"))) for path in PACKAGE.rglob("*.py")}
    assert {path: calls for path, calls in found.items() if calls} == {}
