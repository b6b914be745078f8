"""Small data sets to run anew, and small homes to go on from; all of them quick (see ``helpers.swift``)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sae_assets_tests.helpers.homes import Places
from sae_assets_tests.helpers.swift import swift_homes
from sae_assets_tests.pipeline.small import make_dataset, write_catalog


@pytest.fixture(scope="package", autouse=True)
def _quick() -> Iterator[None]:
    with swift_homes():
        yield


@pytest.fixture
def small(tmp_path: Path) -> Places:
    """A data set of 18 examples and its catalog."""
    root = make_dataset(tmp_path / "data", 18)
    return {"root": root, "catalog": write_catalog(tmp_path / "catalog.yaml", root), "home": tmp_path / "home"}
