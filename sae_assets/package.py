"""What this package is as a package: its version, and modules that are imported when they are first asked for.

Heads of packages whose modules load torch or Dagster use the latter (PEP 562): ``from sae_assets import ops`` costs
nothing then, and ``ops.thresholds`` is the module of that name.
"""

import importlib
from types import ModuleType

VERSION = "0.1.0"


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
