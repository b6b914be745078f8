"""A failed run is posted to the webhook that was named, and to nobody else."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from sae_assets.orchestration.automation.alerts import build_alerts
from sae_assets.settings import WEBHOOK_VARIABLE

PARTITION = dg.StaticPartitionsDefinition(["0003"])


class Webhook:
    """A server on this machine that keeps what is posted."""

    def __init__(self, status: int = 204):
        self.posted: list[dict] = []
        kept = self.posted

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def __enter__(self) -> "Webhook":
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def failed() -> Iterator[dg.RunFailureSensorContext]:
    """What the sensor is given of a run that failed."""

    @dg.asset(key=["birds", "examples"], partitions_def=PARTITION)
    def examples() -> None:
        raise ValueError("wing.png is not a readable image")

    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(assets=[examples]).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=instance, partition_key="0003", raise_on_error=False, run_config=quiet,
            asset_selection=[examples.key],
        )  # fmt: skip
        event = next(event for event in result.all_events if event.event_type == dg.DagsterEventType.RUN_FAILURE)
        yield dg.build_run_status_sensor_context(
            sensor_name="post_failed_runs", dagster_event=event, dagster_instance=instance,
            dagster_run=instance.get_run_by_id(result.run_id),
        ).for_run_failure()  # fmt: skip


def sensor() -> dg.SensorDefinition:
    return build_alerts()[0]


def test_failed_run_is_posted(failed, monkeypatch):
    with Webhook() as webhook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
        assert sensor()(failed) is None
    (alert,) = webhook.posted
    assert (alert["dataset"], alert["assets"], alert["partition"]) == ("birds", "birds/examples", "0003")
    assert alert["run_id"] == failed.dagster_run.run_id
    assert alert["message"] == "ValueError: wing.png is not a readable image"


@pytest.mark.parametrize(("address", "said"), [(None, "is not set"), ("file:///etc/passwd", "must start with http")])
def test_nothing_is_sent_to_nowhere(failed, monkeypatch, address, said):
    if address:
        monkeypatch.setenv(WEBHOOK_VARIABLE, address)
    assert said in sensor()(failed).skip_message


def test_a_webhook_that_fails_is_seen_in_the_tick(failed, monkeypatch):
    with Webhook(500) as webhook:
        monkeypatch.setenv(WEBHOOK_VARIABLE, webhook.url)
        with pytest.raises(OSError, match="500"):
            sensor()(failed)


def test_it_ships_off():
    assert sensor().default_status == dg.DefaultSensorStatus.STOPPED
