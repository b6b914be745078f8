"""Each function does what a command does, without printing: it takes plain values and returns plain values."""

from types import ModuleType
from typing import TYPE_CHECKING

from sae_assets.package import submodule

if TYPE_CHECKING:
    from sae_assets.commands import comparing as comparing
    from sae_assets.commands import concept_figures as concept_figures
    from sae_assets.commands import figures as figures
    from sae_assets.commands import importing as importing
    from sae_assets.commands import inspecting as inspecting
    from sae_assets.commands import plans as plans
    from sae_assets.commands import protocols as protocols
    from sae_assets.commands import removing as removing
    from sae_assets.commands import reports as reports
    from sae_assets.commands import requests as requests
    from sae_assets.commands import session as session
    from sae_assets.commands import show as show
    from sae_assets.commands import status as status
    from sae_assets.commands import verifying as verifying


def __getattr__(name: str) -> ModuleType:
    """Return a module of this package, imported when it is first asked for: they load Dagster."""
    return submodule(__name__, name)
