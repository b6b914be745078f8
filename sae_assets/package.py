"""The package has a version, loads its modules when they are asked for, and says how processes collect and end.

Heads of packages whose modules load torch or Dagster hand these out by ``submodule`` (PEP 562): ``from sae_assets
import ops`` costs nothing then, and ``ops.thresholds`` is the module of that name.
"""

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType

VERSION = "0.1.0"
SELDOM = 100  # times that young objects are looked through, by default 10

_codes: list[int] = []


def collect_seldom() -> None:
    """Let Python look through all objects for cycles more seldom, in a process of this package's own.

    While torch, Dagster and models' libraries load it would do so nine times, through up to 770,000 objects, and find
    nothing. Young objects are looked through as ever. When the process ends nobody looks any more, which takes half a
    second after Dagster: the memory of all objects goes with it.
    """
    youngest, young, _ = gc.get_threshold()
    gc.set_threshold(youngest, young, SELDOM)
    atexit.register(_leave)  # before all others, so that it comes last


def end_with(code: object) -> None:
    """Say that this process has done its work, and what it ends with (of ``SystemExit``).

    It then ends as soon as all is done that is to be done at exit: to take its objects apart, one by one, takes two
    seconds after torch, and all that is written is written.
    """
    _codes[:] = [code if isinstance(code, int) else int(code is not None)]


@contextmanager
def without_looks() -> Iterator[None]:
    """Make many objects, none of which is garbage until all are made: meanwhile Python does not look for cycles.

    Looking takes a good part of the time in which the definitions of ten data sets are made.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _leave() -> None:
    with suppress(AttributeError, OSError, ValueError):  # a stream that is closed, which Python tells of
        for stream in (sys.stdout, sys.stderr) if _codes else ():
            stream.flush()
        if _codes:
            os._exit(_codes[0] & 0xFF)
    if "torch" not in sys.modules:  # libraries that it loads print what is still there when they are unloaded
        gc.freeze()


def submodule(package: str, name: str) -> ModuleType:
    """The module ``name`` of a package, for its ``__getattr__``.

    Raises:
        AttributeError: the package has no such module.
    """
    full = f"{package}.{name}"
    try:
        if not name.startswith("_"):
            return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:  # a library that the module needs
            raise
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
