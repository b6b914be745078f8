"""Definitions whose runs need no torch, and what launches one of them without a code server.

A copy of this file's text is what workers load, so that a test can change it.
"""

import os
import time
from pathlib import Path

import dagster as dg


class Toy(dg.Config):
    """What the job does: it takes that long, unless it fails."""

    seconds: float = 0.0
    fails: bool = False


@dg.op
def toy(config: Toy) -> None:
    print(f"printed by {os.getpid()}")
    end = time.monotonic() + config.seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    if config.fails:
        raise ValueError("as it was told to")


@dg.job(executor_def=dg.in_process_executor)
def toy_job() -> None:
    toy()


defs = dg.Definitions(jobs=[toy_job])


def launch(instance: dg.DagsterInstance, source: Path, executable: str | None = None, **config: object) -> str:
    """Launch a run of the job in ``source`` (a copy of this file) as the daemon does; its id."""
    import sys

    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    code = ReconstructableRepository.for_file(str(source), "defs", str(source.parent))
    code = code._replace(executable_path=executable or sys.executable)
    target = LoadableTargetOrigin(executable_path=sys.executable, python_file=str(source), attribute="defs")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name="toy")
    run = instance.create_run_for_job(
        toy_job,
        run_config={"ops": {"toy": {"config": config}}},
        job_code_origin=code.get_reconstructable_job("toy_job").get_python_origin(),
        remote_job_origin=RemoteRepositoryOrigin(location, "__repository__").get_job_origin("toy_job"),
    )
    instance.launch_run(run.run_id, None)  # type: ignore[arg-type]
    return run.run_id
