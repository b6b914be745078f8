"""The folder that most tests of data sets start from."""

from pathlib import Path

import pytest

from sae_assets_tests.datasets.clevr_folder import ClevrFolder, three_examples


@pytest.fixture
def folder(tmp_path: Path) -> ClevrFolder:
    """A sound data set of three examples."""
    return three_examples(tmp_path / "pictures")
