"""The command that serves: ``ui``, Dagster's webserver and daemon on a home folder, on 127.0.0.1."""

import os
import sys
from typing import Annotated

import typer

from sae_assets.cli.common import CatalogFile, Debug, Home, app, errors_without_traceback

WORKSPACE = """\
load_from:
  - python_module:
      module_name: sae_assets.definitions
      location_name: sae_assets
"""


@app.command()
def ui(
    home: Home = None,
    catalog: CatalogFile = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 3000,
    debug: Debug = False,
) -> None:
    """Open Dagster's UI and daemon on this home's history (`dagster dev`), on 127.0.0.1."""
    from sae_assets.instance import open_instance
    from sae_assets.settings import load_settings

    with errors_without_traceback(False, debug):
        settings = load_settings(home, catalog)
        with open_instance(settings):  # its tables are made before webserver and daemon race for them
            pass
        # The same location name as workspace.yaml's, so that switches set in the UI hold for both.
        workspace = settings.home / "workspace.yaml"
        workspace.write_text(WORKSPACE, encoding="utf-8")
        typer.echo(f"Dagster's UI: http://127.0.0.1:{port} (Ctrl-C stops it)")
        arguments = [sys.executable, "-m", "dagster", "dev", "-w", str(workspace), "-h", "127.0.0.1"]
        sys.stdout.flush()
        os.execve(sys.executable, [*arguments, "-p", str(port)], {**os.environ, **settings.environment()})
