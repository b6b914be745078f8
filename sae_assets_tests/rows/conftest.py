"""The tiny transformer and the tiny data set that tests of embeddings start from."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sae_assets.datasets import open_dataset
from sae_assets.settings import KEPT_VARIABLE
from sae_assets_tests.datasets.clevr_folder import ClevrFolder, three_examples
from sae_assets_tests.rows.tiny_model import write_tiny_model
from sae_assets_tests.rows.tiny_transformers import write_transformer


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests ask for the same few tiny models again and again; what each of them finds opened is as it was left."""
    monkeypatch.setenv(KEPT_VARIABLE, "64")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of three blocks of width 16, images of 32 pixels in patches of 8."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def pictures(tmp_path: Path) -> ClevrFolder:
    """Three examples of 32x32 pixels, so that the tiny model's transform leaves them as they are."""
    return three_examples(tmp_path / "pictures")


@pytest.fixture(scope="session")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of ``transformers`` by name, written once."""
    base = tmp_path_factory.mktemp("transformers")
    return functools.cache(lambda name: write_transformer(base / name, name))


@pytest.fixture
def reader(pictures: ClevrFolder) -> Any:
    """Three images: a, b, c."""
    return open_dataset(pictures.entry())
