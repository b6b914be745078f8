"""One demo run for all tests that look at its results, and small data sets to run anew."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets_tests.pipeline.small import make_dataset, write_catalog


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Home folder, summary and output of ``sae-assets demo``."""
    home = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(app, ["demo", "--home", str(home), "--summary", str(home / "summary.json")])
    assert result.exit_code == 0, result.output
    return {"home": home, "output": result.output, "summary": json.loads((home / "summary.json").read_text())}


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Path]:
    """A data set of 18 examples and its catalog."""
    root = make_dataset(tmp_path / "data", 18)
    return {"root": root, "catalog": write_catalog(tmp_path / "catalog.yaml", root), "home": tmp_path / "home"}
