"""Tokenizers and activation functions that are not those of the weights: nothing in the files says so, figures do."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as hf
from PIL import Image

from sae_assets import ops
from sae_assets.catalog import Model, Transformer, load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.datasets import open_dataset
from sae_assets.errors import DatasetError
from sae_assets.rows import encoding, inspection
from sae_assets.rows.alternatives import better_alternatives
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.inspection import inspect_model
from sae_assets.rows.loaded import open_encoder
from sae_assets.rows.opening import open_sources
from sae_assets.rows.source import ExampleRows
from sae_assets.rows.transformers.belonging import doubt_of_texts, doubts_of_spelling
from sae_assets.rows.transformers.files import quiet
from sae_assets.rows.transformers.geometry import TransformersGeometry
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets_tests.rows.tiny_transformers import TEXT, entry

BUDGET = 2**24
TEXTS = ["Adam is waiting at the station and it is raining again."] * 8


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """A copy of the packaged language model."""
    transformer = load_catalog().models["gemma-mini"].transformer
    assert transformer is not None and transformer.path is not None
    return shutil.copytree(transformer.path, tmp_path / "gemma")


def edited(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def in_another_order(content: Any) -> None:
    """The same tokens under other ids; special ones and bytes stay."""
    vocabulary = content["model"]["vocab"]
    free = [token for token, index in vocabulary.items() if index >= 261]
    ids = [vocabulary[token] for token in free]
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(3)).tolist()
    vocabulary |= {token: ids[place] for token, place in zip(free, order, strict=True)}


def at(folder: Path) -> Model:
    """The packaged model's entry, with the transformer of a folder."""
    return (
        load_catalog()
        .models["gemma-mini"]
        .model_copy(update={"transformer": Transformer(library="transformers", path=folder)})
    )


@pytest.mark.slow
def test_the_same_tokens_in_another_order(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged model knows its texts by its own tokenizer; ``inspect --models`` says so of another one."""
    assert doubt_of_texts(at(gemma), TEXTS) == ""
    edited(gemma / "tokenizer.json", in_another_order)
    dataset = load_catalog().datasets["moods_mini"]
    found = inspect_model(at(gemma), dataset, open_dataset(dataset), BUDGET)
    assert found["sound"] and "hardly likelier" in found["differences"]
    assert "the tokenizer may be another model's" in found["differences"]
    monkeypatch.setattr(inspection, "memory_of_machine", lambda: 2**20)  # the whole model would not fit
    assert inspect_model(at(gemma), dataset, open_dataset(dataset), BUDGET)["differences"] == ""


def test_short_texts_and_models_without_a_head_say_nothing(gemma: Path, tmp_path: Path) -> None:
    edited(gemma / "tokenizer.json", in_another_order)
    assert doubt_of_texts(at(gemma), TEXTS[:1]) == ""
    edited(gemma / "config.json", lambda config: config.update(architectures=["Gemma2Model"]))
    assert doubt_of_texts(at(gemma), TEXTS) == ""


def test_a_model_of_masked_words(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Of random weights no text is likelier than another; without the head nothing is known."""
    folder = shutil.copytree(transformer("bert"), tmp_path / "bert")
    texts = ["hello world this is a text " * 20] * 8
    assert "or the weights untrained" in doubt_of_texts(entry(folder), texts)
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        hf.BertModel(hf.BertConfig(**TEXT, max_position_embeddings=512)).save_pretrained(folder)
    assert doubt_of_texts(entry(folder), texts) == ""


def test_tokens_that_are_spelt_alike_have_embeddings_that_are_alike() -> None:
    """4,000 words with and without a capital, near each other; under ids in another order they are no more so."""
    random = torch.Generator().manual_seed(0)
    words = ["".join(chr(97 + number // 26**power % 26) for power in range(3)) for number in range(4000)]
    vocabulary = {token: index for index, token in enumerate([*words, *(f"▁{word.capitalize()}" for word in words)])}
    meaning = torch.randn(4000, 16, generator=random)
    embeddings = torch.cat([meaning, meaning + 3 * torch.randn(4000, 16, generator=random)])
    assert doubts_of_spelling(vocabulary, embeddings) == []
    assert doubts_of_spelling(vocabulary, embeddings.bfloat16()) == []
    order = torch.randperm(8000, generator=random).tolist()
    (doubt,) = doubts_of_spelling({token: order[index] for token, index in vocabulary.items()}, embeddings)
    assert "the tokenizer may be another model's" in doubt
    few = {token: index for token, index in vocabulary.items() if index not in range(4500, 8000)}
    assert doubts_of_spelling({token: order[index] for token, index in few.items()}, embeddings) == []


@pytest.mark.slow
@pytest.mark.parametrize(("function", "said"), [("gelu_pytorch_tanh", ""), ("relu", "ReLU"), ("silu", "SiLU")])
def test_another_activation_function_than_that_of_the_weights(gemma: Path, function: str, said: str) -> None:
    """The packaged SAE fits rows of its own model; by its fit the function in config.json is known to be wrong."""
    edited(gemma / "config.json", lambda config: config.update(hidden_activation=function))
    model, dataset = at(gemma), load_catalog().datasets["moods_mini"]
    reader, sae = open_dataset(dataset), open_encoder(model.sae, "cpu", BUDGET)
    ((_, source),) = open_sources(reader, dataset, model, ("token",), "cpu", "float32")
    ids = [*reader.by_id][:4]
    before = [rows.rows["token"] for rows in source.embed(ids)]
    found = "".join(better_alternatives(source, "token", sae, ids))
    assert bool(found) == bool(said) and said in found
    assert not said or "with the activation function gelu" in found
    after = [rows.rows["token"] for rows in source.embed(ids)]
    assert all(map(torch.equal, before, after))  # the model is as it was


@pytest.mark.slow
def test_a_chunk_says_it_too_where_it_is_asked(gemma: Path) -> None:
    """As the first chunk of a model is. What cannot be read is left out."""
    edited(gemma / "config.json", lambda config: config.update(hidden_activation="silu"))
    model, dataset = at(gemma), load_catalog().datasets["moods_mini"]
    reader = open_dataset(dataset)
    chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[:4]), reader)
    for asked in (False, True):
        encoded = encode_chunk(
            chunk, ("token", "cls"), dataset=dataset, model=model, reader=reader, k_stored=None, batch_size=2,
            precision="float32", device="cpu", memory_budget=BUDGET, try_alternatives=asked,
        )  # fmt: skip
        assert ("the activation function gelu" in encoded.elsewhere) == asked == (encoded.once_cpu_seconds > 0)
    sae = open_encoder(model.sae, "cpu", BUDGET)
    ((_, source),) = open_sources(reader, dataset, model, ("token",), "cpu", "float32")

    class Unreadable:
        """The source, of which one example cannot be read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def embed(self, ids: Sequence[str]) -> Any:
            if "none" in ids:
                raise DatasetError("is not there")
            return source.embed(ids)

    found = better_alternatives(Unreadable(), "token", sae, [*chunk.example_ids, "none"])  # type: ignore[arg-type]
    assert found and found == better_alternatives(source, "token", sae, chunk.example_ids)


@pytest.mark.slow
def test_a_first_chunk_says_whether_the_model_makes_anything_of_its_texts(
    gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``inspect --models`` does, where the weights are not large."""
    edited(gemma / "tokenizer.json", in_another_order)
    model, dataset = at(gemma), load_catalog().datasets["moods_mini"]
    reader = open_dataset(dataset)
    chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[:8]), reader)

    def said() -> str:
        return encode_chunk(
            chunk, ("token",), dataset=dataset, model=model, reader=reader, k_stored=None, batch_size=8,
            precision="float32", device="cpu", memory_budget=BUDGET, try_alternatives=True,
        ).elsewhere  # fmt: skip

    assert "hardly likelier" in said()
    monkeypatch.setattr(encoding, "LIGHT", 2**10)
    assert "hardly likelier" not in said()


@pytest.mark.slow
def test_the_precision_of_a_command_is_what_is_compared(gemma: Path) -> None:
    """An option goes before the catalog."""
    edited(gemma / "config.json", lambda config: config.update(dtype="bfloat16"))
    model, dataset = at(gemma), load_catalog().datasets["moods_mini"]
    reader = open_dataset(dataset)
    chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[:1]), reader)
    for precision in ("float32", "float16"):
        encoded = encode_chunk(
            chunk, ("token",), dataset=dataset, model=model, reader=reader, k_stored=None, batch_size=1,
            precision=precision, device="cpu", memory_budget=BUDGET,
        )  # fmt: skip
        assert ("computed in float16, but config.json says bfloat16" in encoded.elsewhere) == (precision == "float16")


def test_another_vocabulary_beside_the_one_that_is_read(gemma: Path) -> None:
    """Files of one tokenizer agree; a token or two may have been added since."""
    own = json.loads((gemma / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    tokens, opened = sorted(own, key=own.__getitem__), Tokens(at(gemma))
    swapped = [*tokens[:700], tokens[701], tokens[700], *tokens[702:]]
    for file in ("vocab.txt", "vocab.json"):
        for order, differs in ((tokens, False), (swapped, False), ([*tokens[:300], *tokens[:299:-1]], True)):
            named = json.dumps({token: index for index, token in enumerate(order)})
            (gemma / file).write_text(named if file.endswith("json") else "\n".join(order), encoding="utf-8")
            doubts = opened.doubts
            assert bool(doubts) == differs and all(f"other ids in {file}" in doubt for doubt in doubts)
        (gemma / file).write_text("{", encoding="utf-8")
        assert opened.doubts == []


def test_a_vocabulary_beside_is_compared_in_one_reading(gemma: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To list the tokenizer's own takes as long as it is: asked for at every token, GPT-2's 50,000 take minutes."""
    own = json.loads((gemma / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (gemma / "vocab.json").write_text(json.dumps(own), encoding="utf-8")
    opened, readings, vocabulary = Tokens(at(gemma)), [], Tokens.vocabulary.fget
    assert vocabulary is not None
    monkeypatch.setattr(Tokens, "vocabulary", property(lambda self: readings.append(1) or vocabulary(self)))
    assert opened.doubts == [] and len(readings) == 1


@pytest.mark.slow
def test_another_normalisation_than_that_of_the_weights(tmp_path: Path) -> None:
    """Pixels of the packaged image model in ImageNet's normalisation; in its own nothing is said."""
    catalog = load_catalog()
    model, dataset = catalog.models["clip-mini"], catalog.datasets["clevr_mini"]
    assert model.transformer is not None and model.transformer.path is not None
    folder = shutil.copytree(model.transformer.path, tmp_path / "clip")
    reader, sae = open_dataset(dataset), open_encoder(model.sae, "cpu", BUDGET)
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    for changed, said in (({}, []), (imagenet, ["by mean and standard deviation 0.5 in place of mean (0.485"])):
        edited(next(folder.glob("*config.json")), lambda config: config["preprocess_cfg"].update(changed))  # noqa: B023
        entry = model.model_copy(update={"transformer": Transformer(library="open_clip", path=folder)})
        ((_, source),) = open_sources(reader, dataset, entry, ("patch",), "cpu", "float32")
        found = better_alternatives(source, "patch", sae, [*reader.by_id][:2])
        assert len(found) == len(said) and all(map(str.__contains__, found, said))


@pytest.mark.parametrize(("n_rows", "compared"), [(2000, 2), (256, 4), (100, 8), (1, 8), (None, 8)])
def test_alternatives_are_compared_by_no_more_examples_than_tell(n_rows: int | None, compared: int) -> None:
    """Eight, or fewer that have a thousand rows; each way to try costs what they do."""
    asked: list[int] = []

    class Source:
        network, normalisation = torch.nn.Sequential(torch.nn.ReLU()), None

        def rows_per_example(self, kind: str) -> int | None:
            return n_rows

        def embed(self, ids: Sequence[str]) -> Any:
            asked.append(len(ids))
            return iter([ExampleRows({"patch": torch.ones(3, 4)}) for _ in ids])

    encoder = SimpleNamespace(rows_at_once=2, encode=lambda rows: rows)
    fit = SimpleNamespace(add=lambda rows, code: None, sums=lambda: SimpleNamespace(fvu=0.5))
    sae = SimpleNamespace(encoder=encoder, decoder=object())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops.reconstruction, "Fit", lambda _decoder: fit)
        assert better_alternatives(Source(), "patch", sae, [str(number) for number in range(8)]) == []  # type: ignore
    assert len(asked) > 1 and set(asked) == {compared}


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({}, 0.5, 0.25),
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False}, 0.5 / 255, 0.25 / 255),
        ({"rescale_factor": 1 / 127.5}, 0.25, 0.125),
    ],
)
def test_normalisation_of_image_processors(
    transformer: Callable[[str], Path], tmp_path: Path, settings: dict[str, Any], mean: float, std: float
) -> None:
    """(pixel / 255 - mean) / std is what the processor computes."""
    folder = shutil.copytree(transformer("vit"), tmp_path / "vit")
    given = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, **settings}
    edited(folder / "preprocessor_config.json", lambda config: config.update(given))
    geometry = TransformersGeometry(Transformer(library="transformers", path=folder))
    assert geometry.normalisation == (pytest.approx([mean] * 3), pytest.approx([std] * 3))
    white = geometry.tensor(Image.new("RGB", (40, 40), (255, 255, 255)))
    assert torch.allclose(white, torch.full_like(white, (1 - mean) / std), rtol=1e-4)
