"""Control inputs of a chunk: of the rows that the SAE is fed, in the same pass, of a TopK and of a JumpReLU SAE."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.catalog import Dataset, Model, Sae
from sae_assets.catalog.detection import Controls
from sae_assets.datasets import open_dataset
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.random_saes import match_density, random_encoder
from sae_assets.rows.encoding import RowsPerKind, encode_chunk
from sae_assets.rows.opening import open_sources
from sae_assets.saes import open_sae
from sae_assets_tests.rows.test_text_chunks import TEXTS, chunk_of
from sae_assets_tests.rows.test_text_chunks import dataset as plain_dataset
from sae_assets_tests.rows.tiny_transformers import WIDTH, entry
from sae_assets_tests.saes.published import published, save
from sae_assets_tests.saes.published_folders import weights, write_npz

pytestmark = pytest.mark.slow

KINDS = ("token", "cls")
texts = plain_dataset


@pytest.fixture
def dataset(texts: Dataset) -> Dataset:
    controls = Controls(n_seeds=2, rows_per_chunk=5)
    return texts.model_copy(update={"controls": controls}).named("texts")


@pytest.fixture(params=["topk", "jumprelu"])
def model(request: pytest.FixtureRequest, transformer: Callable[[str], Path], tmp_path: Path) -> Model:
    if request.param == "topk":
        return entry(transformer("bert"), "text", save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5)))
    path = write_npz(tmp_path / "params.npz", weights(d=WIDTH, n=40))
    made = entry(transformer("bert"), "text")
    return made.model_copy(update={"sae": Sae(format="gemmascope", path=path)}).named("tiny")


def encode(dataset: Dataset, model: Model, **changes: Any) -> RowsPerKind:
    options: dict[str, Any] = {
        "token_kinds": KINDS, "control_kinds": KINDS, "dataset": dataset, "model": model, "k_stored": 2,
        "reader": open_dataset(dataset), "precision": "float32", "batch_size": 3, "device": "cpu",
        "memory_budget": 2**20,
    }  # fmt: skip
    options |= changes
    return encode_chunk(chunk_of(dataset), options.pop("token_kinds"), **options)


def embeddings(dataset: Dataset, model: Model) -> list[torch.Tensor]:
    ((_, source),) = open_sources(open_dataset(dataset), dataset, model, ("token",), "cpu", "float32")
    return [next(source.embed([example])).rows["token"] for example in chunk_of(dataset).example_ids]


def scores(found: ControlInputs, seed: int, number: int) -> dict[int, float]:
    run = seed * found.n_examples + number
    part = slice(*found.random_offsets[run : run + 2].tolist())
    return dict(zip(found.random_units[part].tolist(), found.random_values[part].tolist(), strict=True))


def test_they_are_of_the_rows_that_the_sae_is_fed(dataset: Dataset, model: Model) -> None:
    """Pooled embeddings, sampled rows, and the largest values of random SAEs that are as sparse as the trained one."""
    found, rows = encode(dataset, model).control_inputs, embeddings(dataset, model)
    encoder, whole = open_sae(model.sae).encoder("cpu", 2**20), torch.cat(rows)
    before = torch.bincount(encoder.encode(whole).unit_ids, minlength=40)
    for kind, lengths in (("token", [len(each) for each in rows]), ("cls", [1] * len(rows))):
        each = found[kind]
        assert each.example_offsets.diff().tolist() == lengths and each.n_seeds == 2 and each.d_model == WIDTH
        means = torch.stack([r.double().mean(0).float() if len(r) else torch.zeros(WIDTH) for r in rows])
        assert torch.equal(each.mean_embeddings, means)
        expected = whole if kind == "token" else means
        assert torch.equal(each.row_embeddings, expected[each.row_ids])
        assert len(each.row_ids) == (5 if kind == "token" else len(TEXTS) - 1)
        for seed in range(2):
            random = random_encoder(encoder, seed)
            if not hasattr(encoder, "k"):
                random = match_density(random, before, whole)
            for number, part in enumerate(rows):
                code = random.encode(part)
                largest: dict[int, float] = {}
                for unit, value in zip(code.unit_ids.tolist(), code.values.tolist(), strict=True):
                    largest[unit] = max(value, largest.get(unit, 0.0))
                assert scores(each, seed, number) == dict(sorted(largest.items()))


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"memory_budget": 1}, {"token_kinds": ("token",)}])
def test_they_do_not_depend_on_how_the_chunk_is_cut(dataset: Dataset, model: Model, changes: Mapping[str, Any]) -> None:
    kinds = changes.get("token_kinds", KINDS)
    whole, cut = encode(dataset, model), encode(dataset, model, control_kinds=kinds, **changes)
    for kind in kinds:
        assert cut.control_inputs[kind] == whole.control_inputs[kind]
        assert cut.artifacts[kind] == whole.artifacts[kind]


def test_where_they_are_not_asked_for_nothing_is_made_and_nothing_changes(
    dataset: Dataset, texts: Dataset, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No random SAE is drawn, no example embedded twice, and activations are the same, bit for bit."""
    whole = encode(dataset, model)
    monkeypatch.delattr("sae_assets.ops.random_saes.random_encoder")
    monkeypatch.delattr("sae_assets.ops.control_inputs.Collector")
    plain = encode(texts, model, control_kinds=())
    assert plain.control_inputs == {} and plain.artifacts == whole.artifacts


@pytest.mark.parametrize("cls", ["last", "mean_embedding"])
def test_rows_of_cls_that_are_encoded_are_their_own(dataset: Dataset, model: Model, cls: str) -> None:
    """One row per text, its embedding both mean and maximum; a text without tokens has none."""
    found = encode(dataset, model.model_copy(update={"cls": cls}).named("tiny")).control_inputs["cls"]
    assert torch.equal(found.mean_embeddings, found.max_embeddings)
    assert found.row_ids.tolist() == [0, 2, 3] and torch.equal(found.row_embeddings, found.mean_embeddings[[0, 2, 3]])
    assert not scores(found, 0, 1) and scores(found, 0, 0)


def test_scores_are_pooled_as_asked_and_those_of_cls_by_the_maximum(dataset: Dataset, model: Model) -> None:
    """Both kinds in one pass: its row is the score of an example under `cls`."""
    plain, mean = encode(dataset, model), encode(dataset, model, control_pooling=Pooling("mean"))
    assert mean.control_inputs["cls"] == plain.control_inputs["cls"] and mean.artifacts == plain.artifacts
    token = mean.control_inputs["token"]
    assert token.pooling == "mean" and plain.control_inputs["token"].pooling is None
    for number, length in enumerate(token.example_offsets.diff().tolist()):
        largest, means = scores(plain.control_inputs["token"], 0, number), scores(token, 0, number)
        assert largest.keys() == means.keys()
        assert all(largest[unit] / length * 0.999 <= value <= largest[unit] for unit, value in means.items())
