"""``plan``, whose options stand in ``materializing``."""

from collections.abc import Callable

from sae_assets.cli.common import app
from sae_assets.cli.later import Later


@app.command(cls=Later)
def plan() -> Callable[..., None]:
    """Say what `materialize` with the same options would make, why and at what cost, and make nothing."""
    from sae_assets.cli import materializing  # noqa: PLC0415 - loads the catalog, for what the options mean

    return materializing.plan
