"""Compiled code that is kept is never older than what it was made from."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from sae_assets.ops import detection_kernels, encoding_kernels, jit, search_kernels, sieve_kernels, value_kernels
from sae_assets_tests.helpers.compiled_loops import expect_compiled

MODULES = encoding_kernels, value_kernels, detection_kernels, search_kernels, sieve_kernels

LOOP = """
from sae_assets.ops.jit import loop

@loop
def twice(number):
    return 2 * number
"""


def _opened(path: Path) -> ModuleType:
    """The module in a file, as another process would import it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _was_kept(path: Path) -> bool:
    """Whether the loop in a file had been compiled already when it is called."""
    module = _opened(path)
    assert module.twice(2) == 4
    return sum(module.twice.stats.cache_hits.values()) == 1


def test_a_loop_is_compiled_anew_when_what_it_is_made_with_changes(tmp_path, monkeypatch):
    """And only then, or when its own file does."""
    expect_compiled()
    path = tmp_path / "loops.py"
    path.write_text(LOOP)
    assert [_was_kept(path) for _ in "ab"] == [False, True]
    (tmp_path / "shared.py").write_text("HALF = 0.5")
    monkeypatch.setattr(jit, "SHARED", (str(tmp_path / "shared"),))
    assert [_was_kept(path) for _ in "ab"] == [False, True]
    (tmp_path / "shared.py").write_text("HALF = 0.25")
    assert [_was_kept(path) for _ in "ab"] == [False, True]
    path.write_text(LOOP.replace("2 * number", "number + number"))
    assert [_was_kept(path) for _ in "ab"] == [False, True]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_loops_take_nothing_from_other_files_than_those(module):
    """Whose change would not be noticed."""
    parts = ast.walk(ast.parse(Path(module.__file__).read_text()))
    modules = [part.module for part in parts if isinstance(part, ast.ImportFrom) and part.module is not None]
    ours = {name.removeprefix("sae_assets.ops.") for name in modules if name.startswith("sae_assets")}
    assert "jit" in ours and ours <= {*jit.SHARED}
