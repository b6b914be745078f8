"""A model whose rows differ from call to call is refused by name, and one whose rows do not is left alone."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf

from sae_assets.datasets import open_dataset
from sae_assets.errors import CheckpointError
from sae_assets.rows import steady as module
from sae_assets.rows.images import open_image_rows
from sae_assets.rows.steady import steady
from sae_assets.rows.texts import open_text_rows
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets.rows.transformers.vision import TransformersVision
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.rows.texts_folder import GivenTexts
from sae_assets_tests.rows.tiny_transformers import entry

Models = Callable[[str], Path]


def test_model_that_shuffles_is_refused_by_name(transformer: Models, pictures: ClevrFolder) -> None:
    """Its positions add up; two passes with other random numbers tell."""
    reader = open_dataset(pictures.entry())
    model = entry(transformer("mae_unmasked"), layer=1)
    with pytest.raises(CheckpointError, match=r"block 1 of .*mae_unmasked gives other rows .*of 17 rows.*ViTMAE"):
        open_image_rows(reader, model, ("patch",), "cpu", "float32")


@pytest.mark.parametrize("name", ["beit", "beit_shared", "data2vec"])
def test_geometry_leaves_nothing_behind(transformer: Models, pictures: ClevrFolder, name: str) -> None:
    """Rows are the same before and after positions were counted again, and of a model that is built again."""
    model = entry(transformer(name), layer=1)
    open_image_rows(open_dataset(pictures.entry()), model, ("patch", "cls"), "cpu", "float32")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = [TransformersVision(model).embed(images) for _ in range(2)]
    assert torch.equal(*rows) and bool(rows[0].isfinite().all())


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma2"])
def test_texts_are_asked_twice_too(
    transformer: Models, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout is off; a model that adds noise is refused."""
    model = entry(transformer(name), "text", tmp_path / "no-sae.pt")
    open_text_rows(GivenTexts(("ok",)), model, ("token",), "cpu", "float32")
    monkeypatch.setenv("SAE_ASSETS_KEEP_LOADED", "0")
    noisy = lambda self, **inputs: torch.randn(1, inputs["input_ids"].shape[1], 16)  # noqa: E731
    monkeypatch.setattr("sae_assets.rows.transformers.hook_point.CutModel.rows", noisy)
    with pytest.raises(CheckpointError, match="gives other rows for the same input"):
        open_text_rows(GivenTexts(("hi",)), model, ("token",), "cpu", "float16")


def test_long_texts_are_tried_too(transformer: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reformer hashes at random what is longer than a chunk of it; and what a model cannot take is said by name."""
    model = entry(transformer("gemma2"), "text", tmp_path / "no-sae.pt")
    monkeypatch.setenv("SAE_ASSETS_KEEP_LOADED", "0")
    hashing = lambda self, input_ids, **_: torch.randn(1, input_ids.shape[1], 16) * (input_ids.shape[1] > 64)  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr("sae_assets.rows.transformers.hook_point.CutModel.rows", hashing)
        with pytest.raises(CheckpointError, match="gives other rows for the same input"):
            open_text_rows(GivenTexts(("hi",)), model, ("token",), "cpu", "float32")

    def short(self: torch.nn.Module, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
        raise IndexError("index out of range in self")

    monkeypatch.setattr(hf.Gemma2Model, "forward", short)
    with pytest.raises(
        CheckpointError, match=r"block 1 of .*gemma2 was not reached: .* on input_ids \[1, 1\].*index out"
    ):
        open_text_rows(GivenTexts(("hi",)), model, ("token",), "cpu", "float32")


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma2", "roberta", "llama"])
def test_counting_positions_of_texts_leaves_no_unset_memory(transformer: Models, tmp_path: Path, name: str) -> None:
    """The model that is made for it on torch's meta device is gone with all it had: no cache holds a part of it."""
    folder, before = transformer(name), unset_memory()
    assert Tokens(entry(folder, "text", tmp_path / "no-sae.pt")).max_positions
    assert unset_memory() <= before


def unset_memory() -> set[int]:
    """Ids of the tensors of this process that have no memory."""
    gc.collect()
    return {id(found) for found in gc.get_objects() if issubclass(type(found), torch.Tensor) and found.is_meta}


@pytest.mark.parametrize("n_bytes", [0, module.BUILT_TWICE + 1])
@pytest.mark.parametrize(
    ("differs", "found"), [("never", True), ("by build", False), ("by pass", False), ("in the sign of 0", False)]
)
def test_what_differs_is_found(differs: str, found: bool, n_bytes: int) -> None:
    """Between builds, which large models are spared, and between passes; NaN equals itself."""
    built: list[int] = []
    asked: list[int] = []

    def rows(number: int) -> torch.Tensor:
        base = torch.tensor([[1.0, float("nan")], [0.0, 3.0]])
        if differs == "in the sign of 0":
            asked.append(number)
            base[1, 0] = -0.0 if len(asked) > 1 else 0.0
            return base
        return base + {"by build": number, "by pass": torch.rand(1)}.get(differs, torch.zeros(1))

    def make() -> int:
        built.append(len(built))
        return built[-1]

    calls = differs == "by build" and n_bytes > 0  # of large models it is not looked for
    if found or calls:
        assert steady(make, rows, lambda: n_bytes, "it") == (0 if n_bytes else 1)
    else:
        with pytest.raises(CheckpointError, match="it gives other rows"):
            steady(make, rows, lambda: n_bytes, "it")


class Cyclic:
    """Refers to itself, as a model with hooks does."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize("looked", [False, True])
def test_the_first_build_is_gone_before_the_second(looked: bool) -> None:
    """Two large models would not fit; and all that torch and Dagster made is looked through only if somebody did.

    By then a model that is made may be no younger than the rest.
    """
    older = Cyclic()
    old, built = weakref.ref(older), list[weakref.ref[Cyclic]]()
    gc.collect()

    def make() -> Cyclic:
        assert all(one() is None for one in built)
        built.append(weakref.ref(made := Cyclic()))
        if looked and len(built) == 1:
            gc.collect()
        return made

    def rows(_: Cyclic) -> torch.Tensor:
        nonlocal older
        older = None  # type: ignore[assignment]
        return torch.zeros(1, 1)

    kept = steady(make, rows, lambda: 0, "it")
    assert len(built) == 2 and built[1]() is kept and gc.isenabled()
    assert (old() is None) is looked
