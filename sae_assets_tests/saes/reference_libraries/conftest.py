"""One process with the libraries loaded for all tests that ask them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sae_assets_tests.saes.reference_libraries.libraries import HERE, PYTHON, Ask


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs a script of this folder with arguments in the reference environment, and fails with what it printed."""
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} does not exist, and SAE_ASSETS_REQUIRE_REFERENCE asks for it: run `make test-reference`")
    home = tmp_path_factory.mktemp("libraries")
    settings = {"HOME": str(home), "HF_HOME": str(home / "hub"), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
    with (
        open(home / "errors", "wb") as errors,
        subprocess.Popen(
            [str(PYTHON), "-W", "ignore", str(HERE / "serve.py")],
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as server,
    ):

        def answered(script: str, *arguments: str | Path) -> None:
            assert server.stdin is not None and server.stdout is not None
            print(json.dumps([str(HERE / script), *map(str, arguments)]), file=server.stdin, flush=True)
            line = server.stdout.readline()
            assert line, (home / "errors").read_text()[-4000:]
            code, printed = json.loads(line)
            assert code == 0, f"{script} ended with {code}: {printed[-4000:]}"

        yield answered
