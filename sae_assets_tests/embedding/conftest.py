"""The tiny transformer and the tiny data set that tests of embeddings start from."""

from pathlib import Path

import pytest

from sae_assets_tests.datasets.clevr_folder import ClevrFolder, three_examples
from sae_assets_tests.embedding.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of three blocks of width 16, images of 32 pixels in patches of 8."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> ClevrFolder:
    """Three examples of 32x32 pixels, so that the tiny model's transform leaves them as they are."""
    return three_examples(tmp_path / "pictures")
