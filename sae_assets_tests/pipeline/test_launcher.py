"""A run whose process is gone is told from one that works, and from one of another machine."""

import os
import socket
import sys
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.code_pointer import FileCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.events import EngineEventData
from dagster._core.execution.plan import instance_concurrency_context as pools
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.launcher.base import WorkerStatus
from dagster._core.origin import RepositoryPythonOrigin
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteRepositoryOrigin

from sae_assets.orchestration.instance.home import DAGSTER_YAML, FORMER_LAUNCHER, LAUNCHER, open_instance
from sae_assets.orchestration.instance.launcher import (
    HOST_TAG,
    WatchedRunLauncher,
    local_origin,
    version_of_code,
)
from sae_assets.orchestration.instance.worker import SLOT_SECONDS
from sae_assets.orchestration.internals import wait_for_a_slot
from sae_assets.settings import load_settings
from sae_assets_tests.helpers.swift import as_shipped
from sae_assets_tests.processes import ended


@pytest.fixture
def instance(tmp_path) -> Iterator[dg.DagsterInstance]:
    with open_instance(load_settings(tmp_path)) as found:
        yield found


def test_code_may_be_replaced_while_it_is_looked_at(tmp_path):
    """A file of which an editor or an upgrade has left the name alone, for a moment: no run fails of it."""
    source = tmp_path / "definitions.py"
    source.touch()
    origin = RepositoryPythonOrigin(
        sys.executable, FileCodePointer(str(source), "defs"), container_image=None, entry_point=[], container_context={}
    )
    there = version_of_code(origin)
    source.unlink()
    (tmp_path / "module.py").symlink_to(source)
    inside = RepositoryPythonOrigin(
        sys.executable, FileCodePointer(str(tmp_path), "defs"), container_image=None, entry_point=[],
        container_context={},
    )  # fmt: skip
    assert version_of_code(inside) != there


def run_of(instance: dg.DagsterInstance, pid: int | None, host: str) -> dg.DagsterRun:
    @dg.job
    def nothing() -> None: ...

    run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags={HOST_TAG: host})
    if pid is not None:
        instance.report_engine_event("working", run, EngineEventData.in_process(pid))
    return run


def test_home_of_an_earlier_version_is_told_where_the_launcher_is(tmp_path):
    """Its other settings, a person's own among them, stay."""
    config = tmp_path / "dagster" / "dagster.yaml"
    config.parent.mkdir()
    config.write_text(DAGSTER_YAML.replace(LAUNCHER, FORMER_LAUNCHER) + "# mine\n")
    with as_shipped(), open_instance(load_settings(tmp_path)) as found:
        assert isinstance(found.run_launcher, WatchedRunLauncher)
    text = config.read_text()
    assert LAUNCHER in text and FORMER_LAUNCHER not in text and text.endswith("# mine\n")
    assert [line.split(":")[0] for line in text.splitlines()] == [
        line.split(":")[0] for line in (DAGSTER_YAML + "# mine\n").splitlines()
    ]


def test_homes_get_a_launcher_that_run_monitoring_can_ask(instance):
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_launcher.supports_check_run_worker_health
    assert instance.run_retries_enabled and not instance.run_retries_retry_on_asset_or_op_failure


@pytest.mark.parametrize(
    ("pid", "host", "status"),
    [
        (os.getpid(), socket.gethostname(), WorkerStatus.RUNNING),
        (0, socket.gethostname(), WorkerStatus.NOT_FOUND),
        (0, "another-machine", WorkerStatus.RUNNING),  # not ours to judge
        (None, socket.gethostname(), WorkerStatus.RUNNING),
    ],
    ids=["alive", "ended", "elsewhere", "unknown"],  # a number of this process would differ between test workers
)
def test_health_of_a_run(instance, pid, host, status):
    run = run_of(instance, ended() if pid == 0 else pid, host)
    assert instance.run_launcher.check_run_worker_health(run).status is status


def test_run_that_waits_for_a_slot_of_a_pool_sleeps(instance, monkeypatch):
    """Dagster's own answer is never more than 0, so that such a run burns a core."""
    before = pools.MAX_CONCURRENCY_CLAIM_BLOCKED_INTERVAL
    monkeypatch.setattr(pools, "MAX_CONCURRENCY_CLAIM_BLOCKED_INTERVAL", SLOT_SECONDS)  # as a worker sets it
    assert before > SLOT_SECONDS
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    assert storage.claim_concurrency_slot("gpu", "another run", "step").is_claimed
    with InstanceConcurrencyContext(instance, run_of(instance, None, "here")) as context:
        assert not context.claim("gpu", "step")
        assert context.has_pending_claims()
        assert 0 < wait_for_a_slot(context) <= SLOT_SECONDS
        assert context.interval_to_next_pending_claim_check() <= 0  # once it is not, ours can go


def test_home_of_an_earlier_version_gets_the_launcher(tmp_path):
    settings = load_settings(tmp_path)
    settings.dagster_home.mkdir(parents=True)
    former = "run_launcher:\n  module: sae_assets.launcher\n  class: WatchedRunLauncher\n"
    (settings.dagster_home / "dagster.yaml").write_text(former)
    with as_shipped(), open_instance(settings) as opened:
        assert isinstance(opened.run_launcher, WatchedRunLauncher)


@pytest.mark.parametrize(
    ("host", "executable", "image", "warm"),
    [
        ("localhost", sys.executable, None, True),
        ("another-machine", sys.executable, None, False),
        ("localhost", "/another/python", None, False),
        ("localhost", sys.executable, "an image", False),
    ],
    ids=["here", "host", "python", "image"],
)
def test_only_code_that_a_process_here_can_load_goes_to_a_worker(instance, host, executable, image, warm):
    code = ReconstructableRepository(FileCodePointer("definitions.py", "defs"), image, executable)
    server = GrpcServerCodeLocationOrigin(host=host, socket="a socket", location_name="code")
    run = run_of(instance, None, "here")._replace(
        job_code_origin=code.get_reconstructable_job("job").get_python_origin(),
        remote_job_origin=RemoteRepositoryOrigin(server, "__repository__").get_job_origin("job"),
    )
    assert (local_origin(run) is not None) is warm


def test_home_that_was_moved_takes_its_events_along(tmp_path):
    with as_shipped(), open_instance(load_settings(tmp_path / "home")) as opened:
        run_id = run_of(opened, os.getpid(), "here").run_id
    (tmp_path / "home").rename(tmp_path / "moved")
    with as_shipped(), open_instance(load_settings(tmp_path / "moved")) as opened:
        assert [entry.dagster_event.message for entry in opened.all_logs(run_id)] == ["working"]
    assert not (tmp_path / "home").exists()
