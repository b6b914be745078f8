"""An alert when a run fails: one sensor, off by default, that posts to a webhook of the user's.

Nothing is sent unless the sensor is switched on and ``SAE_ASSETS_WEBHOOK_URL`` names where to.
"""

import json
import os
import urllib.request

import dagster as dg

from sae_assets.orchestration.history import first_cause
from sae_assets.orchestration.switches import ALERT
from sae_assets.settings import WEBHOOK_VARIABLE

TIMEOUT_SECONDS = 10


def alert_of(context: dg.RunFailureSensorContext) -> dict[str, str]:
    """Return what is posted: run, data set, assets, partition and the error's message."""
    run = context.dagster_run
    assets = sorted(run.asset_selection or ())
    checks = context.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    evaluations = [entry.dagster_event for entry in checks if entry.dagster_event is not None]
    cause = first_cause([*context.get_step_failure_events(), context.failure_event, *evaluations])
    return {
        "run_id": run.run_id,
        "dataset": ", ".join(dict.fromkeys(key.path[0] for key in assets)),
        "assets": ", ".join(key.to_user_string() for key in assets),
        "partition": run.tags.get("dagster/partition", ""),
        "message": cause or context.failure_event.message or "",
    }


def build_alerts() -> list[dg.SensorDefinition]:
    """Return the sensor that posts failed runs."""

    @dg.run_failure_sensor(
        name=ALERT.name(),
        description=ALERT.description,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def post_failed_runs(context: dg.RunFailureSensorContext):
        address = os.environ.get(WEBHOOK_VARIABLE)
        if not address:
            return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set: nobody to tell.")
        if not address.startswith(("http://", "https://")):
            return dg.SkipReason(f"{WEBHOOK_VARIABLE} must start with http:// or https://.")
        body = json.dumps(alert_of(context)).encode()
        request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            pass
        return None

    return [post_failed_runs]
