"""Everything of one catalog as Dagster's ``Definitions``, from one pure function.

It reads nothing: no torch, no weights, no network. ``sae_assets.definitions`` calls it for Dagster's processes.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sae_assets.catalog import Catalog
from sae_assets.orchestration.assets.factory import build_assets
from sae_assets.orchestration.automation.alerts import build_alerts
from sae_assets.orchestration.automation.content_checks import build_content_checks
from sae_assets.orchestration.automation.follow import build_follow
from sae_assets.orchestration.automation.schedules import build_schedules
from sae_assets.orchestration.automation.sensors import build_sensors
from sae_assets.orchestration.io_manager import ArtifactIOManager
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.settings import Settings, device_name, format_name, load_settings, memory_budget_mb

KEPT_MB = 128  # of chunks that a run has read; less where blocks of intermediate values may take less


def default_resources(
    settings: Settings | None = None, *, device: str | None = None, file_format: str | None = None
) -> dict[str, Any]:
    """Return the store, the IO manager around it, and the device: as given, else from the environment.

    Raises:
        CatalogError: a value that names no format, no device or no size.
    """
    settings = settings or load_settings()
    budget = memory_budget_mb()
    kept_mb = KEPT_MB if budget is None else min(budget, KEPT_MB)
    store = StoreResource(root=settings.store, file_format=format_name(file_format), kept_mb=kept_mb)
    compute = ComputeResource(device=device_name(device), memory_budget_mb=budget)
    return {"artifact_store": store, "io_manager": ArtifactIOManager(artifact_store=store), "compute": compute}


def build_definitions(catalog: Catalog, resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Return everything of a catalog that Dagster loads; ``resources`` override the default ones by name."""
    content_checks = list(build_content_checks(catalog))
    return dg.Definitions(
        assets=list(build_assets(catalog)),
        asset_checks=[check for check, _ in content_checks],
        sensors=[*build_sensors(catalog), *build_follow(catalog), *build_alerts()],
        schedules=[*build_schedules(catalog), *(schedule for _, schedule in content_checks)],
        resources={**default_resources(), **(resources or {})},
        # One process per run: steps of a run are short, and another process would load torch again for each.
        executor=dg.in_process_executor,
    )
