"""Small data sets to run anew, and small homes to go on from; all of them quick (see ``helpers.swift``)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sae_assets_tests.helpers.homes import Homes, Places
from sae_assets_tests.helpers.swift import swift_homes
from sae_assets_tests.pipeline.small import make_dataset, write_catalog


@pytest.fixture(scope="package", autouse=True)
def _quick() -> Iterator[None]:
    with swift_homes():
        yield


@pytest.fixture(scope="session")
def made_home(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Homes:
    """Copies of small homes that all processes share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "homes"
    folder.mkdir(exist_ok=True)
    return Homes(folder)


@pytest.fixture
def small(tmp_path: Path) -> Places:
    """A data set of 18 examples and its catalog."""
    root = make_dataset(tmp_path / "data", 18)
    return {"root": root, "catalog": write_catalog(tmp_path / "catalog.yaml", root), "home": tmp_path / "home"}
