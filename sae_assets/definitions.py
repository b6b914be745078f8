"""Dagster's entry point, for its webserver, daemon and run processes. Nothing of this package imports it."""

from sae_assets.package import without_looks

with without_looks():
    from sae_assets.catalog import load_catalog
    from sae_assets.orchestration.build import build_definitions
    from sae_assets.settings import load_settings

    defs = build_definitions(load_catalog(load_settings().catalog))
