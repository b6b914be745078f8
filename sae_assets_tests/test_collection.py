"""In a fresh environment one process of the tests compiles what all import."""

import fcntl
import importlib.util
import sys
from pathlib import Path

import pytest

from sae_assets_tests import conftest
from sae_assets_tests.conftest import LAST_COLLECTED, in_turn_if_nothing_is_compiled


def test_the_last_module_is_the_last() -> None:
    """Its compiled file says that all others are compiled."""
    folder = Path(conftest.__file__).parent
    assert max(path.name for path in folder.iterdir() if (path / "__init__.py").exists()
                                 or path.match("test_*.py")) == LAST_COLLECTED  # fmt: skip


def is_held() -> bool:
    """Whether another process that collects now would wait."""
    with open(conftest.__file__) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize(
    ("writes", "compiled", "waits"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_processes_wait_for_the_first_if_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool, compiled: bool, waits: bool
) -> None:
    """Only then, and only where it leaves something for them; afterwards nobody waits."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", not writes)
    if compiled:
        cached = Path(importlib.util.cache_from_source(str(Path(conftest.__file__).with_name(LAST_COLLECTED))))
        cached.parent.mkdir(parents=True)
        cached.with_name(f"{cached.stem}-pytest-{pytest.__version__}.pyc").touch()
    with in_turn_if_nothing_is_compiled():
        assert is_held() == waits
    assert not is_held()
