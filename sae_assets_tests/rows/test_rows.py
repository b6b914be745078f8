"""A chunk through transformer and SAE: the dense reference's entries, whatever the batch; misfits are named."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sae_assets.artifacts import Examples, SparseActivations
from sae_assets.catalog import Model, load_catalog
from sae_assets.catalog.registry import formats
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.datasets import ImageReader, open_dataset
from sae_assets.errors import CheckpointError, DatasetError
from sae_assets.rows import loaded
from sae_assets.rows.encoding import RowsPerKind, encode_chunk
from sae_assets.rows.images import open_geometry
from sae_assets.rows.open_clip import vision as open_clip_vision
from sae_assets.rows.open_clip.geometry import ImageGeometry
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.training import trained_elsewhere
from sae_assets.saes import open_sae, opening
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.reference import reconstruction as reference
from sae_assets_tests.rows.tiny_model import SIZE, WIDTH, catalog_model, local
from sae_assets_tests.saes.published import dense_reference, published, save


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Model:
    """The tiny transformer with an SAE of its width."""
    return catalog_model(tiny, save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))


def chunk_of(folder: ClevrFolder, *ids: str) -> Examples:
    return describe_examples(Manifest("0000", 3, ids), open_dataset(folder.entry()))


def encode(chunk: Examples, folder: ClevrFolder, model: Model, **changes: object) -> RowsPerKind:
    options = {
        "token_kinds": ("patch", "cls"),
        "dataset": folder.entry(),
        "reader": open_dataset(folder.entry()),
        "k_stored": None,
        "precision": "float32",
        "batch_size": 2,
        "device": "cpu",
        "memory_budget": 2**20,
    }
    return encode_chunk(chunk, model=model, **{**options, **changes})  # type: ignore[arg-type]


def dense(artifact: SparseActivations) -> torch.Tensor:
    matrix = torch.zeros(artifact.n_rows, artifact.n_units, dtype=torch.float64)
    matrix[artifact.row_of_entry(), artifact.unit_ids.long()] = artifact.values.double()
    return matrix


def test_rows_are_those_of_the_dense_reference(pictures: ClevrFolder, model: Model) -> None:
    """CLS and patch rows of every image, in order, encoded as the published formula says."""
    chunk = chunk_of(pictures, "b", "a", "c")
    result = encode(chunk, pictures, model)
    assert result.rows_per_example == {"patch": 16, "cls": 1}
    vision, reader = VisionTransformer(model.transformer, model.layer), open_dataset(pictures.entry())
    rows = torch.stack(
        [vision.embed(vision.geometry.tensor(reader.image(example))[None])[0] for example in chunk.example_ids]
    )
    content = published(d=WIDTH, n=40, k=5)
    for kind, expected_rows in (("cls", rows[:, :1]), ("patch", rows[:, 1:])):
        artifact = result.artifacts[kind]
        expected = dense_reference(content, expected_rows.reshape(-1, WIDTH))
        torch.testing.assert_close(dense(artifact), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(artifact.l0.long(), (expected > 0).sum(1))
        assert artifact.first_example == 3
        assert artifact.example_offsets.tolist() == [place * result.rows_per_example[kind] for place in range(4)]
        assert artifact.total_mass == pytest.approx(float(expected.sum()), rel=1e-6)
        assert artifact.dropped_mass == 0


@pytest.mark.parametrize("k_stored", [None, 2])
def test_result_does_not_depend_on_the_batch(pictures: ClevrFolder, model: Model, k_stored: int | None) -> None:
    """Batches of one, two and more than there are examples give the same bytes; so does a small memory budget."""
    chunk = chunk_of(pictures, "a", "b", "c")
    first = encode(chunk, pictures, model, batch_size=1, k_stored=k_stored).artifacts
    for changes in ({"batch_size": 2}, {"batch_size": 9}, {"memory_budget": 1}):
        assert encode(chunk, pictures, model, k_stored=k_stored, **changes).artifacts == first


@pytest.mark.parametrize("forward_batch", [2, 3, 9])
def test_images_that_go_together_give_the_same_rows(pictures: ClevrFolder, model: Model, forward_batch: int) -> None:
    """Several images per forward pass: the same units, values equal up to the last bits."""
    chunk = chunk_of(pictures, "a", "b", "c")
    alone = encode(chunk, pictures, model).artifacts
    together = encode(chunk, pictures, model, forward_batch=forward_batch).artifacts
    for kind in ("patch", "cls"):
        torch.testing.assert_close(dense(together[kind]), dense(alone[kind]), rtol=1e-4, atol=1e-4)
        assert torch.equal(together[kind].example_offsets, alone[kind].example_offsets)


def test_an_example_does_not_depend_on_its_neighbours(pictures: ClevrFolder, model: Model) -> None:
    """Alone in a chunk or among others: the same entries."""
    together = dense(encode(chunk_of(pictures, "a", "b", "c"), pictures, model).artifacts["patch"])
    alone = dense(encode(chunk_of(pictures, "b"), pictures, model).artifacts["patch"])
    assert torch.equal(together[16:32], alone)


def test_only_the_wanted_token_kinds_are_encoded(pictures: ClevrFolder, model: Model) -> None:
    """One kind asked for is one kind given, with the same content as beside the other."""
    chunk = chunk_of(pictures, "a", "b")
    both = encode(chunk, pictures, model).artifacts
    for kind in ("patch", "cls"):
        assert encode(chunk, pictures, model, token_kinds=(kind,)).artifacts == {kind: both[kind]}


@pytest.mark.parametrize("k_stored", [None, 1])
def test_the_fit_is_of_all_active_units(pictures: ClevrFolder, model: Model, k_stored: int | None) -> None:
    """Per token kind, of the rows that were encoded, whatever is stored of them; the codes are the encoder's own."""
    chunk, content = chunk_of(pictures, "a", "b", "c"), published(d=WIDTH, n=40, k=5)
    result = encode(chunk, pictures, model, k_stored=k_stored)
    vision, reader = VisionTransformer(model.transformer, model.layer), open_dataset(pictures.entry())
    rows = torch.cat([vision.embed(vision.geometry.tensor(reader.image(example))[None]) for example in "abc"])
    encoder, state = open_sae(model.sae).encoder("cpu", 2**20), content["model_state_dict"]
    for kind, x in (("cls", rows[:, 0]), ("patch", rows[:, 1:].reshape(-1, WIDTH))):
        artifact, code = result.artifacts[kind], encoder.encode(x, k_stored)
        assert torch.equal(artifact.values, code.values) and torch.equal(artifact.unit_ids, code.unit_ids)
        assert torch.equal(artifact.l0, code.l0) and artifact.dropped_mass == math.fsum(code.row_dropped.tolist())
        active = dense_reference(content, x).numpy()
        made = reference.reconstruction(active, state["dec"].numpy(), state["pre_b"].numpy())
        assert artifact.fit is not None and artifact.fit.n_rows == len(x)
        assert artifact.fit.fvu == pytest.approx(reference.fvu(x.numpy(), made), rel=1e-6)
        assert artifact.fit.norm == pytest.approx(float(x.double().square().sum(1).mean().sqrt()), rel=1e-12)


def test_without_a_decoder_there_is_no_fit(
    pictures: ClevrFolder, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same codes, and nothing said of what they make of the rows."""
    chunk = chunk_of(pictures, "a")
    whole = encode(chunk, pictures, model).artifacts["patch"]
    plain = {"clipscope": replace(formats()["clipscope"], decoder=None)}
    monkeypatch.setattr(opening, "formats", lambda: plain)
    loaded.KEPT.clear()
    assert encode(chunk, pictures, model).artifacts["patch"] == replace(whole, fit=None)
    loaded.KEPT.clear()


def test_truncation_is_counted(pictures: ClevrFolder, model: Model) -> None:
    """With fewer entries stored than are active, the rest is in l0 and in the dropped mass."""
    chunk = chunk_of(pictures, "a", "b")
    full = encode(chunk, pictures, model).artifacts["patch"]
    cut = encode(chunk, pictures, model, k_stored=1).artifacts["patch"]
    assert torch.equal(cut.l0, full.l0)
    assert int(cut.entries_per_row().max()) == 1
    assert cut.total_mass == full.total_mass
    assert cut.dropped_mass == pytest.approx(full.total_mass - float(cut.values.double().sum()), rel=1e-12)
    assert cut.dropped_mass > 0


def test_progress_is_told_after_every_batch(pictures: ClevrFolder, model: Model) -> None:
    """Three examples in batches of two: two steps."""
    steps: list[tuple[int, int]] = []
    encode(chunk_of(pictures, "a", "b", "c"), pictures, model, step=lambda *step: steps.append(step))
    assert steps == [(2, 3), (3, 3)]


def test_sae_of_another_width(tiny: Path, tmp_path: Path, pictures: ClevrFolder) -> None:
    """An SAE that does not fit the hook point: both widths, the file, the block and the model are named."""
    model = catalog_model(tiny, save(tmp_path / "narrow.pt", published(d=11, n=40, k=5)))
    with pytest.raises(CheckpointError) as caught:
        encode(chunk_of(pictures, "a"), pictures, model)
    message = str(caught.value)
    for part in ("narrow.pt", "width 11", "width 16", "block 1", str(tiny)):
        assert part in message


def test_embedding_that_is_not_finite_names_the_image(
    pictures: ClevrFolder, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN out of the transformer stops the chunk with the example's id."""
    assert model.transformer is not None
    encode(chunk_of(pictures, "a"), pictures, model)  # opened, and tried with noise
    embed = open_clip_vision.VisionTransformer.embed
    reader = open_dataset(pictures.entry())
    assert isinstance(reader, ImageReader)
    second = open_geometry(model.transformer).tensor(reader.image("b"))

    def second_is_damaged(self: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
        damaged = (images == second).flatten(1).all(1)
        return embed(self, images).masked_fill(damaged[:, None, None], torch.nan)

    monkeypatch.setattr(open_clip_vision.VisionTransformer, "embed", second_is_damaged)
    with pytest.raises(DatasetError, match=r"'pictures': the embedding of 'b' holds"):
        encode(chunk_of(pictures, "a", "b", "c"), pictures, model)


def test_missing_checkpoint_is_named(tiny: Path, tmp_path: Path, pictures: ClevrFolder) -> None:
    """An SAE file that is not there stops before any image is read."""
    with pytest.raises(CheckpointError, match=r"nowhere\.pt does not exist"):
        encode(chunk_of(pictures, "a"), pictures, catalog_model(tiny, tmp_path / "nowhere.pt"))


def test_images_of_the_models_own_size_are_not_resampled(tiny: Path) -> None:
    """What the other tests rely on: at the model's own size the transform only scales the colours."""
    from PIL import Image

    geometry = ImageGeometry(local(tiny))
    image = Image.effect_noise((SIZE, SIZE), 80).convert("RGB")
    expected = (torch.tensor(list(image.getchannel(0).tobytes())).view(SIZE, SIZE) / 255 - 0.5) / 0.5
    torch.testing.assert_close(geometry.tensor(image)[0], expected)


def test_an_sae_of_another_place_is_noticed() -> None:
    """Where the checkpoint names its own place; a name that nobody knows says nothing."""
    model = load_catalog().models["gemma-mini"]
    assert model.layer is not None

    def sae(hook_point: str | None, **training: Any) -> Any:
        return SimpleNamespace(hook_point=hook_point, training=training)

    for fine in (f"model.layers.{model.layer}.output", "x", None):
        assert trained_elsewhere(sae(fine), model) == ""
    said = trained_elsewhere(sae(f"blocks.{model.layer + 1}.hook_resid_post"), model)
    assert f"(hidden state {model.layer + 2}), read at block {model.layer} of" in said
    said = trained_elsewhere(sae(f"blocks.{model.layer}.hook_mlp_out"), model)
    assert f"(the MLP of block {model.layer}, not the residual stream), read at block" in said
    assert trained_elsewhere(sae(None, prepend_bos=True, context_size=1024), model) == ""
    unsaid = model.model_copy(update={"prepend_bos": None, "max_tokens": None})
    said = trained_elsewhere(sae(None, prepend_bos=False, context_size=8), unsaid)
    assert "trained with prepend_bos False, read with True (set `prepend_bos: false`)" in said
    assert "trained on texts of 8 tokens, read of up to" in said and "(set `max_tokens` to at most 8)" in said
    said = trained_elsewhere(
        sae(None, prepend_bos=False, context_size=64), model.model_copy(update={"max_tokens": 100})
    )
    assert said == "trained with prepend_bos False, read with True; trained on texts of 64 tokens, read of up to 100"
    assert trained_elsewhere(sae("layers.7"), model.model_copy(update={"transformer": None})) == ""
    for nobodys in (True, 0, -5, "8", 8.0, None):
        assert trained_elsewhere(sae(None, context_size=nobodys), unsaid) == ""
