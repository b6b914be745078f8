"""Run configuration of the assets in Dagster's launchpad: the options of the stages, as Dagster wants them."""

from functools import cache
from typing import Any

import dagster as dg

from sae_assets.pipeline.options import Options


@cache
def config_of(options: type[Options]) -> type[dg.Config]:
    """Return Dagster's configuration class with the fields, defaults and descriptions of a kind of options."""
    fields: dict[str, Any] = dict(options.model_fields)
    annotations = {name: field.annotation for name, field in fields.items()}
    name = options.__name__.removesuffix("Options") + "Config"
    return type(name, (dg.Config,), {"__annotations__": annotations, "__doc__": options.__doc__, **fields})


def options_from(config: Any, options: type[Options]) -> Options:
    """Return the options that a configuration holds.

    Raises:
        ValidationError: values that the options refuse (pydantic's, which Dagster shows).
    """
    return options(**config.model_dump(exclude_none=True))
