"""The command that serves: ``ui``, Dagster's webserver and daemon on a home folder, on 127.0.0.1."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sae_assets.cli.common import CatalogFile, Debug, Home, app, errors_without_traceback
from sae_assets.errors import SaeAssetsError
from sae_assets.settings import load_settings

LOCK = "ui.lock"
SERVING = "sae_assets.orchestration.instance.serving"
WORKSPACE = """\
load_from:
  - python_module:
      module_name: sae_assets.definitions
      location_name: sae_assets
"""


def be_the_only_one(home: Path, url: str) -> None:
    """Hold this home's lock until the process ends, what it becomes by ``exec`` included.

    Two daemons on one home would each ask for what is missing.

    Raises:
        SaeAssetsError: another process holds it.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:  # not on Windows
        return
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        where = os.read(lock, 200).decode("utf-8", "replace")
        os.close(lock)
        raise SaeAssetsError(
            f"A UI with its daemon runs on {home} already ({where}). Use that one, stop it, or give another --home: "
            "two daemons would make things twice."
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{url}, process {os.getpid()}".encode())
    os.set_inheritable(lock, True)


@app.command()
def ui(
    home: Home = None,
    catalog: CatalogFile = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 3000,
    debug: Debug = False,
) -> None:
    """Open Dagster's UI and daemon on this home's history, on 127.0.0.1; pages of other sites cannot reach it."""
    from sae_assets.orchestration.instance.home import open_instance  # noqa: PLC0415 - loads Dagster

    with errors_without_traceback(False, debug):
        settings = load_settings(home, catalog)
        url = f"http://127.0.0.1:{port}"
        be_the_only_one(settings.home, url)
        with open_instance(settings):  # its tables are made before webserver and daemon race for them
            pass
        # The same location name as workspace.yaml's, so that switches set in the UI hold for both.
        workspace = settings.home / "workspace.yaml"
        workspace.write_text(WORKSPACE, encoding="utf-8")
        typer.echo(f"Dagster's UI: {url} (Ctrl-C stops it)")
        arguments = [sys.executable, "-m", SERVING, "-w", str(workspace), "-h", "127.0.0.1"]
        sys.stdout.flush()
        os.execve(sys.executable, [*arguments, "-p", str(port)], {**os.environ, **settings.environment()})
