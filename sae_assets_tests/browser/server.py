"""Dagster's webserver on a home folder, as a child process that ends with the ``with`` block."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sae_assets.settings import CATALOG_VARIABLE, Settings

HOST = "127.0.0.1"
START_SECONDS = 240.0
STOP_SECONDS = 30.0
LOADED = (
    "{ workspaceOrError { __typename ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
)


@dataclass(frozen=True)
class Server:
    """A running webserver.

    Attributes:
        url: its address, without a slash at the end.
        log: the file that its output goes to.
    """

    url: str
    log: Path

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def environment(home: Path, catalog: Path | None = None) -> dict[str, str]:
    """This home and catalog (None: the packaged one), whatever this process was told to use."""
    home = home.expanduser().absolute()
    settings = Settings(home=home, store=str(home / "store"), catalog=catalog)
    inherited = {name: value for name, value in os.environ.items() if name != CATALOG_VARIABLE}
    mine = {"DAGSTER_HOME": str(settings.dagster_home), "DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONUNBUFFERED": "1"}
    return {**inherited, **settings.environment(), **mine}


@contextmanager
def webserver(home: Path) -> Iterator[Server]:
    """Start the webserver on a free port of this machine, wait for its definitions, stop it afterwards.

    Raises:
        RuntimeError: it ended, did not answer in time, or could not load the definitions; with its output.
    """
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-m", "sae_assets.definitions", "-h", HOST, "-p", str(port)]
    with tempfile.TemporaryDirectory(prefix="sae_assets_ui_", ignore_cleanup_errors=True) as folder:
        server = Server(f"http://{HOST}:{port}", Path(folder) / "webserver.log")
        with server.log.open("wb") as log:
            process = _start(command, environment(home), Path(folder), log)
            try:
                _wait(process, server)
                yield server
            finally:
                _stop(process)


@contextmanager
def platform(home: Path, catalog: Path) -> Iterator[Server]:
    """``sae-assets ui``: webserver and daemon on a home, as a person starts them; stopped afterwards.

    Raises:
        RuntimeError: as :func:`webserver`.
    """
    port = free_port()
    command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "ui", "--port", str(port)]
    server = Server(f"http://{HOST}:{port}", home / "ui.log")
    with server.log.open("wb") as log:
        process = _start(command, environment(home, catalog), home, log)
        try:
            _wait(process, server)
            yield server
        finally:
            _stop(process)


def _start(command: list[str], variables: dict[str, str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that the code server it starts can be ended with it."""
    return subprocess.Popen(
        command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def _wait(process: subprocess.Popen[bytes], server: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"The webserver ended with code {process.returncode}:\n{server.output()}")
        answer = _ask(server.url, LOADED)
        if "RepositoryLocation" in answer:
            return
        if "PythonError" in answer:
            raise RuntimeError(f"The webserver could not load the definitions: {answer}\n{server.output()}")
        time.sleep(0.5)
    raise RuntimeError(f"The webserver did not answer within {START_SECONDS:.0f} s:\n{server.output()}")


def _ask(url: str, query: str) -> str:
    """The answer of the GraphQL endpoint as text, or nothing while nobody listens."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{url}/graphql", data=body, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return str(response.read().decode())
    except OSError:
        return ""


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, as Ctrl-C does; after a while end whatever is left of its process group."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)
