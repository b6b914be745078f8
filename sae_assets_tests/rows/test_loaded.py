"""Models and SAEs are opened once, what comes out is the same, and nothing is used that has changed or is too much."""

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sae_assets.artifacts import SparseActivations
from sae_assets.catalog import Model, Sae
from sae_assets.catalog.registry import formats
from sae_assets.errors import CatalogError
from sae_assets.rows import loaded
from sae_assets.rows.open_clip import vision as open_clip_vision
from sae_assets.saes import opening
from sae_assets.settings import KEPT_VARIABLE, kept_loaded
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.rows.test_rows import chunk_of, encode
from sae_assets_tests.rows.tiny_model import WIDTH, catalog_model
from sae_assets_tests.saes.published import published, save

BUILT = ("vision", "vision")  # a model is built twice when it is opened, to see whether its rows are the same


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEPT_VARIABLE)
    loaded.KEPT.clear()


@pytest.fixture
def sae(tmp_path: Path) -> Path:
    return save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5))


@pytest.fixture
def model(tiny: Path, sae: Path) -> Model:
    return catalog_model(tiny, sae)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened, in order."""
    calls: list[str] = []
    vision, read = open_clip_vision.VisionTransformer.__init__, formats()["clipscope"].read

    def counted(self: object, *args: object) -> None:
        calls.append("vision")
        vision(self, *args)  # type: ignore[arg-type]

    def counted_read(path: Path) -> object:
        calls.append("sae")
        return read(path)

    monkeypatch.setattr(open_clip_vision.VisionTransformer, "__init__", counted)
    counting = replace(formats()["clipscope"], read=counted_read)
    monkeypatch.setattr(opening, "formats", lambda: {"clipscope": counting})
    return calls


def same(one: SparseActivations, other: SparseActivations) -> bool:
    tensors = ("row_offsets", "unit_ids", "values", "l0", "example_offsets")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [12, pytest.param(100, marks=pytest.mark.long)])
def test_many_chunks_open_model_and_sae_once(
    pictures: ClevrFolder, model: Model, opened: list[str], chunks: int
) -> None:
    for _ in range(chunks):
        encode(chunk_of(pictures, "a"), pictures, model)
    assert sorted(opened) == ["sae", *BUILT]


def test_what_is_kept_changes_no_bit(
    pictures: ClevrFolder, model: Model, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [chunk_of(pictures, *ids) for ids in ("ab", "c", "ca")]
    kept = [encode(chunk, pictures, model) for chunk in chunks]
    assert sorted(opened) == ["sae", *BUILT]
    monkeypatch.setenv(KEPT_VARIABLE, "0")
    anew = [encode(chunk, pictures, model) for chunk in chunks]
    assert len(opened) == 3 + 3 * len(chunks)
    for one, other in zip(kept, anew, strict=True):
        assert {kind for kind in one.artifacts if same(one.artifacts[kind], other.artifacts[kind])} == {"patch", "cls"}


def test_changed_checkpoint_is_read_again(pictures: ClevrFolder, model: Model, sae: Path, opened: list[str]) -> None:
    chunk = chunk_of(pictures, "a")
    before = encode(chunk, pictures, model).artifacts["patch"]
    save(sae, published(d=WIDTH, n=40, k=5, seed=1))  # of the same size
    after = encode(chunk, pictures, model).artifacts["patch"]
    assert not same(before, after) and opened.count("sae") == 2


def test_no_more_than_two_are_kept_and_the_one_not_used_for_longest_goes() -> None:
    kept, made = loaded.ObjectCache(), []

    def use(key: str) -> weakref.ref:
        def make() -> torch.nn.Module:
            made.append(key)
            module = torch.nn.Linear(1, 1)
            module.register_forward_hook(lambda *_: module)  # a cycle, as hooks make them
            return module

        return weakref.ref(kept.get("a kind", key, "cpu", make))

    first, second = use("first"), use("second")
    use("first")
    gc.disable()  # what goes is given back at once
    try:
        third = use("third")
        assert [reference() is None for reference in (first, second, third)] == [False, True, False]
    finally:
        gc.enable()
    use("second")
    assert made == ["first", "second", "third", "second"]


@pytest.mark.parametrize(("times", "n_read"), [(4, 2), (3.9, 3)])
def test_saes_that_come_to_hold_much_of_the_memory_are_not_kept_beside_another(
    sae: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, times: float, n_read: int
) -> None:
    """What they hold later counts too: bytes of directions, which a sieve makes after some rows."""
    saes = [Sae(format="clipscope", path=path) for path in (sae, save(tmp_path / "b.pt", published(WIDTH, 40, 5, 1)))]
    first = loaded.open_encoder(saes[0], "cpu", 2**26)
    assert first.decoder is not None
    assert first.held_bytes == first.encoder.held_bytes + first.decoder.weight.nbytes
    monkeypatch.setattr(loaded, "memory_of_machine", lambda: int(times * first.held_bytes))
    for each in (*saes, *saes[:1]):
        loaded.open_encoder(each, "cpu", 2**26)
    assert opened.count("sae") == n_read


def test_threads_share_nothing() -> None:
    kept, objects = loaded.ObjectCache(), []
    threads = [threading.Thread(target=lambda: objects.append(kept.get("k", "key", "cpu", object))) for _ in range(2)]
    main = kept.get("k", "key", "cpu", object)
    for thread in threads:
        thread.start()
        thread.join()
    assert main not in objects


def test_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEPT_VARIABLE, "many")
    with pytest.raises(CatalogError, match="found 'many', expected a whole number"):
        kept_loaded()
