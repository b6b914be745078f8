"""``materialize``, whose options stand in ``materializing``."""

from collections.abc import Callable

from sae_assets.cli.common import app
from sae_assets.cli.later import Later


@app.command(cls=Later)
def materialize() -> Callable[..., None]:
    """Materialize stages of data sets; what is up to date is skipped."""
    from sae_assets.cli import materializing  # noqa: PLC0415 - loads the catalog, for what the options mean

    return materializing.materialize
