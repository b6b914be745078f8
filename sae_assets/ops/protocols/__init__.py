"""Other repositories report units and concepts by their own formulas, thresholds and splits (numerics 15).

One module per repository, named as it is; each says where its formula stands there. These figures are to compare with
published tables: some choose on test, which nothing else here does.
"""

from types import ModuleType
from typing import TYPE_CHECKING

from sae_assets.package import submodule

if TYPE_CHECKING:
    from sae_assets.ops.protocols import interplm as interplm
    from sae_assets.ops.protocols import netdissect as netdissect
    from sae_assets.ops.protocols import sae_probes as sae_probes
    from sae_assets.ops.protocols import saev as saev
    from sae_assets.ops.protocols import superactivators as superactivators


def __getattr__(name: str) -> ModuleType:
    """Return a module of this package, imported when it is first asked for: they load torch."""
    return submodule(__name__, name)
