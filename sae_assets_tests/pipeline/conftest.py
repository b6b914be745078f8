"""Small data sets to run anew."""

from pathlib import Path

import pytest

from sae_assets_tests.pipeline.small import make_dataset, write_catalog


@pytest.fixture
def small(tmp_path: Path) -> dict[str, Path]:
    """A data set of 18 examples and its catalog."""
    root = make_dataset(tmp_path / "data", 18)
    return {"root": root, "catalog": write_catalog(tmp_path / "catalog.yaml", root), "home": tmp_path / "home"}
