"""Whatever the process has set before: models give the same rows, to the last bit, and leave what was set as it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.transformers.language import TransformersLanguage
from sae_assets.rows.transformers.vision import TransformersVision
from sae_assets_tests.helpers.process_states import STATES, in_new_thread, under
from sae_assets_tests.rows.tiny_model import local
from sae_assets_tests.rows.tiny_transformers import entry, write_transformer

# What code of libraries that builds a model can be led astray by; the others were tried on models once built.
BUILDING = ("float64", "bfloat16", "meta device", "inference mode", "many at once")
# Rows differ in their last bits between numbers of threads, and without oneDNN.
OTHER_THREADS = ("one thread", "three threads", "subnormals to 0", "rounded up", "rounded down", "rounded to 0")
OTHER_BITS = (*OTHER_THREADS, "no oneDNN")
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8))


Models = dict[str, Callable[[], Tensor]]


@pytest.fixture(scope="module")
def build(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Models]:
    """Builds the models; each then reads an image or two texts and gives its rows."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("dinov2", "gemma2"):
        write_transformer(folder / name, name)

    def models() -> Models:
        clip, dino = VisionTransformer(local(tiny), 1), TransformersVision(entry(folder / "dinov2"))
        gemma = TransformersLanguage(entry(folder / "gemma2", "text"))
        texts = ("hello world", "ok")
        return {
            "open_clip": lambda: clip.embed(clip.geometry.tensor(IMAGE)[None]),
            "dinov2": lambda: dino.embed(dino.geometry.tensor(IMAGE)[None]),
            "gemma2": lambda: torch.cat(list(gemma.embed([gemma.tokens.encode(text) for text in texts]))),
        }

    return models


@pytest.fixture(scope="module")
def built(build: Callable[[], Models]) -> Models:
    return build()


@pytest.fixture(scope="module")
def alone(built: Models) -> dict[str, Tensor]:
    """Rows in a process that has set nothing."""
    return in_new_thread(lambda: rows_of(built))


def rows_of(models: Models) -> dict[str, Tensor]:
    return {name: rows() for name, rows in models.items()}


def assert_same(rows: dict[str, Tensor], alone: dict[str, Tensor]) -> None:
    for name, expected in alone.items():
        assert rows[name].dtype == torch.float32 and rows[name].device.type == "cpu"
        assert torch.equal(rows[name], expected), name


@pytest.mark.parametrize("state", [name for name in STATES if name not in (*OTHER_BITS, "fake tensors")])
def test_rows(built: Models, alone: dict[str, Tensor], state: str) -> None:
    """Preprocessing, tokens and forward passes of models that were built before."""
    assert_same(under(state, lambda: rows_of(built)), alone)


@pytest.mark.parametrize("state", BUILDING)
def test_models_are_built(build: Callable[[], Models], alone: dict[str, Tensor], state: str) -> None:
    """From the files on; random numbers that libraries draw for weights are not missed either."""
    assert_same(under(state, lambda: rows_of(build())), alone)
