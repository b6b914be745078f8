"""What all tests share: shapes that can be checked, a clean environment, no network, no telemetry, and one demo run."""

import atexit
import gc
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

gc.disable()  # until all is imported, of which nothing is garbage

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("SAE_ASSETS_") and "TEST" not in name]:
    if name != "SAE_ASSETS_SCREENSHOTS" and not name.startswith("SAE_ASSETS_REQUIRE_"):
        del os.environ[name]
os.environ.pop("DAGSTER_HOME", None)

import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import config as shapes  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

from sae_assets_tests.helpers.shapes import checked, modules_with_shapes, remembering  # noqa: E402

jaxtyping.jaxtyped = remembering(jaxtyping.jaxtyped)  # what the import hook puts on every function
install_import_hook(modules_with_shapes(), f"{checked.__module__}.{checked.__name__}")  # before anything imports ops
shapes.update("jaxtyping_disable", True)  # an eighth of a pipeline's CPU; the tests in ops/ check them

LONGEST = ("daemon", "scheduler", "living", "deciders")  # groups of minutes each, more than `.ci/run` has processes
LAST_COLLECTED = "test_wording.py"
MANY_MODULES = 100  # that were imported since, after which it is worth it to look again at what stays
_left_alone = 0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _group(item: pytest.Item) -> str:
    """Of pytest-xdist; empty for a test by itself."""
    marker = item.get_closest_marker("xdist_group")
    return str(marker.args[0]) if marker and marker.args else ""


@contextmanager
def in_turn_if_nothing_is_compiled() -> Iterator[None]:
    """In a fresh environment one process imports after the other.

    Python compiles what it imports: the first process does so for all, where else each would at the same time. It has
    done so once the last module of tests is compiled, whenever the others look.
    """
    import fcntl

    last = Path(__file__).with_name(LAST_COLLECTED)
    compiled = Path(importlib.util.cache_from_source(str(last))).parent.glob(f"{last.stem}.*-pytest-*.pyc")
    if sys.dont_write_bytecode or any(compiled):
        yield
        return
    with open(__file__) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    with in_turn_if_nothing_is_compiled():
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that it is not what all wait for at the end; and groups hold.

    A process is always given the next group too: a short test follows each of the longest, so that none stands behind
    another. The order holds with ``--no-loadscope-reorder`` alone.

    Groups hold also where pytest keeps a test's id elsewhere than pytest-xdist writes the group to.
    With pytest 9.2 and pytest-xdist 3.8 (its issue 1386) groups are silently ignored: each process makes the demo anew.
    """
    items.sort(
        key=lambda item: (not item.get_closest_marker("living"), "demo" not in getattr(item, "fixturenames", ()))
    )
    longest = [item for item in items if _group(item) in LONGEST]
    if longest:
        short = [item for item in items if not _group(item)][: len(LONGEST)]
        first = {*longest, *short}
        items[:] = [*longest, *short, *(item for item in items if item not in first)]
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        written: str = getattr(item, "_nodeid", item.nodeid)
        if written != item.nodeid:
            path, *names = written.split("::")
            item._id = type(item._id)(path=path, names=tuple(names))  # type: ignore[attr-defined]
        if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid} has a group that pytest-xdist does not see")


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look through it at every model that is dropped.

    Nor at what a test imports while it runs: it looks as seldom as in commands (``package.collect_seldom``). At the
    very end all of it goes: nanobind, which Triton uses, prints a page of leaks about what is still frozen.
    """
    from sae_assets.package import SELDOM

    _leave_imports_alone()
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
    gc.enable()
    atexit.register(gc.unfreeze)


def pytest_runtest_setup() -> None:
    """So does what earlier tests have imported, torch and Dagster among it: a tenth of a pipeline's CPU."""
    if len(sys.modules) > _left_alone + MANY_MODULES:
        gc.collect()
        _leave_imports_alone()


def _leave_imports_alone() -> None:
    global _left_alone
    gc.freeze()
    _left_alone = len(sys.modules)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a command sets in the environment ends with its test; nothing reaches the person's own home."""
    before = dict(os.environ)
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Home, summary and output of ``sae-assets demo`` as a wheel installs it, that wheel and its command.

    Tests that use it run in one process (group ``demo``).
    """
    from sae_assets_tests.helpers.wheel import ROOT, build, install, lend_loops, run

    folder = tmp_path_factory.mktemp("demo")
    (folder / "sources").mkdir()
    wheel = build(folder / "sources")
    (command, packages), home = install(wheel, folder), folder / "home"
    lend_loops(ROOT, packages)
    output = run([str(command), "demo", "--home", str(home), "--summary", str(folder / "summary.json")], folder)
    lend_loops(packages, ROOT)  # those of a fresh clone, which other tests would compile once more
    summary = json.loads((folder / "summary.json").read_text())
    return {"home": home, "output": output, "summary": summary, "wheel": wheel, "command": str(command)}


@pytest.fixture
def quick_homes() -> Iterator[None]:
    """Homes that a test makes are quick, as all of ``pipeline/`` are (``helpers.swift``)."""
    from sae_assets_tests.helpers.swift import swift_homes

    with swift_homes():
        yield


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Copies of small homes, made once for all processes (``helpers.homes.Homes``)."""
    from sae_assets_tests.helpers.homes import Homes

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "homes"
    folder.mkdir(exist_ok=True)
    return Homes(folder)
