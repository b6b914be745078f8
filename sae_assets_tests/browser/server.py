"""Dagster's webserver on a home folder, alone or with the daemon: child processes that end with the ``with`` block."""

import json
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from sae_assets.orchestration.instance.serving import WEBSERVER
from sae_assets_tests.processes import PATIENCE, SHOWN, Group, environment

HOST = "127.0.0.1"
PAUSE_SECONDS = 0.5
PORTS_TRIED = 5
TAKEN = "address already in use"
LOADED = """{
    instance { info }
    workspaceOrError { __typename ... on Workspace { locationEntries { locationOrLoadError { __typename } } } }
}"""


@dataclass(frozen=True)
class Server:
    """A running webserver.

    Attributes:
        url: its address, without a slash at the end.
    """

    url: str
    group: Group

    def output(self) -> str:
        return self.group.output()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def webserver(home: Path, catalog: Path | None = None) -> Iterator[Server]:
    """Start the webserver on a free port of this machine, wait for its definitions, stop it afterwards.

    Raises:
        RuntimeError: it ended, did not answer in time, or could not load the definitions; with its output.
    """
    command = [sys.executable, "-m", WEBSERVER, "-m", "sae_assets.definitions", "-h", HOST]
    with tempfile.TemporaryDirectory(prefix="sae_assets_ui_", ignore_cleanup_errors=True) as folder:

        def start(port: int) -> Group:
            log = Path(folder) / f"webserver_{port}.log"
            return Group([*command, "-p", str(port)], environment(home, catalog), Path(folder), log)

        with _served(start, home) as server:
            yield server


@contextmanager
def platform(home: Path, catalog: Path) -> Iterator[Server]:
    """``sae-assets ui``: webserver and daemon on a home, as a script starts them by ``&``; stopped afterwards.

    Raises:
        RuntimeError: as :func:`webserver`.
    """
    command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "ui"]

    def start(port: int) -> Group:
        variables = environment(home, catalog, swift=True)
        return Group([*command, "--port", str(port)], variables, home, home / f"ui_{port}.log", background=True)

    with _served(start, home) as server:
        yield server


@contextmanager
def _served(start: Callable[[int], Group], home: Path) -> Iterator[Server]:
    """On another port if somebody else took the first one before the server did."""
    for left in reversed(range(PORTS_TRIED)):
        port = free_port()
        group = start(port)
        server = Server(f"http://{HOST}:{port}", group)
        try:
            if _answers(server, home, last=not left):
                yield server
                return
        finally:
            group.stop()


def _answers(server: Server, home: Path, *, last: bool) -> bool:
    """Wait until the server of this home answers; False if its port was taken and another one may be tried."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.group.ended:
            if TAKEN in server.output().lower() and not last:
                return False
            raise RuntimeError(f"The webserver ended with code {server.group.process.returncode}:\n{server.output()}")
        answer = _ask(server.url, LOADED)
        if "PythonError" in answer:
            raise RuntimeError(f"The webserver could not load the definitions: {answer}\n{server.output()}")
        if "RepositoryLocation" in answer and _instance_of(answer) == home.expanduser().absolute() / "dagster":
            return True  # and it is no stranger's server on this port
        time.sleep(PAUSE_SECONDS)
    raise RuntimeError(f"The webserver did not answer within {PATIENCE:.0f} s:\n{server.output()[-SHOWN:]}")


def _instance_of(answer: str) -> Path | None:
    """The folder of the instance that an answer comes from."""
    found = yaml.safe_load(json.loads(answer)["data"]["instance"]["info"] or "") or {}
    folder = found.get("local_artifact_storage", {}).get("config", {}).get("base_dir")
    return Path(folder) if folder else None


def _ask(url: str, query: str) -> str:
    """The answer of the GraphQL endpoint as text, or nothing while nobody listens."""
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"{url}/graphql", data=body, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=60) as response:
            return str(response.read().decode())
    except OSError:
        return ""
