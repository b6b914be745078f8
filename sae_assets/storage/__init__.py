"""Files: where they lie, how they are written whole or not at all, and what stands in them.

Storage knows artifacts and bytes; it knows no Dagster and computes no statistics. The normative description of every
file is ``docs/storage-format.md``.
"""

from types import ModuleType
from typing import TYPE_CHECKING

from sae_assets.package import submodule

if TYPE_CHECKING:
    from sae_assets.storage import html as html
    from sae_assets.storage import parquet as parquet
    from sae_assets.storage import pt as pt
    from sae_assets.storage import tables as tables


def __getattr__(name: str) -> ModuleType:
    """Return a module of this package, imported when it is first asked for: formats and tables load torch and
    pyarrow."""
    return submodule(__name__, name)
