"""What ``inspect --models`` finds: files, widths, places, preprocessing, and what comes of one example."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from PIL import Image
from typer.testing import CliRunner

from sae_assets.catalog import Dataset
from sae_assets.catalog.models import Sae
from sae_assets.cli import app
from sae_assets.datasets import open_dataset
from sae_assets.datasets.inputs import InputImages, InputTexts, inputs_entry
from sae_assets.rows.inspection import inspect_model
from sae_assets.rows.training import trained_elsewhere
from sae_assets.rows.transformers.tokens import Tokens
from sae_assets.saes import open_sae
from sae_assets_tests.datasets.clevr_folder import ClevrFolder
from sae_assets_tests.rows.tiny_model import WIDTH, catalog_model
from sae_assets_tests.rows.tiny_transformers import entry
from sae_assets_tests.saes.published import published, save

BUDGET = 2**20


def test_model_and_sae_that_belong_together(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """Layer 1 of three; a TopK SAE has k active units on every row."""
    (tmp_path / "1_resid").mkdir()
    model = catalog_model(tiny, save(tmp_path / "1_resid/sae.pt", published(d=WIDTH, n=40, k=5)))
    found = inspect_model(model, pictures.entry(), open_dataset(pictures.entry()), BUDGET)
    assert found["sound"] and found["differences"] == ""
    assert found["sae"] == {"name": "sae.pt", "trained_at": "layers.1", "d_model": WIDTH, "units": 40}
    assert found["rows"] == {"patch": 16, "cls": 1} and 0 < found["mean_l0"]["patch"] <= 5
    assert list(found["preprocessing"]["mean"]) == [0.5] * 3
    json.dumps(found)


def test_what_does_not_belong_together_is_named(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """An SAE of another width, of another place, and files that are not there."""
    reader, dataset = open_dataset(pictures.entry()), pictures.entry()
    wide = catalog_model(tiny, save(tmp_path / "wide.pt", published(d=WIDTH + 1, n=40, k=5)))
    (problem,) = inspect_model(wide, dataset, reader, BUDGET)["problems"]
    assert f"takes rows of width {WIDTH + 1}, but block 1 of" in problem
    (tmp_path / "1_mlp").mkdir()
    elsewhere = catalog_model(tiny, save(tmp_path / "1_mlp/sae.pt", published(d=WIDTH, n=40, k=5)))
    found = inspect_model(elsewhere, dataset, reader, BUDGET)
    assert found["sound"] and "the MLP of block 1, not the residual stream" in found["differences"]
    (problem,) = inspect_model(catalog_model(tiny, tmp_path / "none.pt"), dataset, reader, BUDGET)["problems"]
    assert "none.pt does not exist" in problem


def test_command_looks_at_models(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """Exit code 1 where one would end a run; printed and as JSON."""
    sae = save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5))
    model = json.loads(catalog_model(tiny, sae).model_dump_json(exclude_defaults=True))
    dataset = json.loads(pictures.entry().model_dump_json(exclude_defaults=True))
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"models": {"tiny": model}, "datasets": {"pictures": dataset}}))
    result = CliRunner().invoke(app, ["inspect", "pictures", "--models", "--catalog", str(catalog)])
    assert result.exit_code == 0, result.output
    assert "model tiny: block 1 of" in result.stdout and "first example: 16 patch rows, mean L0" in result.stdout
    assert "preprocessing: mean" in result.stdout
    sae.write_bytes(b"no SAE")
    result = CliRunner().invoke(app, ["inspect", "pictures", "--models", "--json", "--catalog", str(catalog)])
    assert result.exit_code == 1
    assert "is not a CLIP-Scope checkpoint" in json.loads(result.stdout)["pictures"]["models"]["tiny"]["problems"][0]
    assert CliRunner().invoke(app, ["inspect", "pictures", "--catalog", str(catalog)]).exit_code == 0


def test_texts(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """The special tokens around a text are shown as the model gets them."""
    shown = Tokens(entry(transformer("gemma2"), "text", tmp_path / "no-sae.pt")).preprocessing
    assert shown["text 'a'"][0] == "<bos>" and shown["tokenizer"] == "GemmaTokenizer"


def test_tokenizer_of_another_model_is_a_difference(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Said where places and lengths are: by ``inspect --models``, and by the check of each chunk."""
    sae = open_sae(Sae(format="clipscope", path=save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5))))
    folder = shutil.copytree(transformer("gemma2"), tmp_path / "model")
    assert trained_elsewhere(sae, entry(folder, "text")) == ""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": 9}))
    assert "the tokenizer's bos_token_id is 2, the model's 9" in trained_elsewhere(sae, entry(folder, "text"))


def test_everything_that_is_wrong_is_named(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """A missing SAE hides neither a block that does not exist nor an example that cannot be read."""
    reader, dataset = open_dataset(pictures.entry()), pictures.entry()
    model = catalog_model(tiny, tmp_path / "none.pt").model_copy(update={"layer": 9})
    problems = inspect_model(model, dataset, reader, BUDGET)["problems"]
    assert len(problems) == 2 and "none.pt does not exist" in problems[0] and "`layer: 9`" in problems[1]
    (pictures.root / "images").rename(pictures.root / "gone")
    found = inspect_model(catalog_model(tiny, tmp_path / "none.pt"), dataset, reader, BUDGET)
    assert len(found["problems"]) == 2 and not found["sound"]


def test_models_of_a_data_set_that_is_not_there(tmp_path: Path, tiny: Path, pictures: ClevrFolder) -> None:
    """They are looked at with a picture that stands in; what is wrong with each is named beside what is missing."""
    sae = save(tmp_path / "sae.pt", published(d=WIDTH, n=40, k=5))
    model = json.loads(catalog_model(tiny, sae).model_dump_json(exclude_defaults=True))
    dataset = json.loads(pictures.entry().model_dump_json(exclude_defaults=True)) | {"root": str(tmp_path / "nowhere")}
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"models": {"tiny": model}, "datasets": {"pictures": dataset}}))
    result = CliRunner().invoke(app, ["inspect", "pictures", "--models", "--catalog", str(catalog)])
    assert result.exit_code == 1 and "nowhere" in result.stdout
    assert "a stand-in: 16 patch rows, mean L0" in result.stdout and "trained_at not known" in result.stdout
    sae.unlink()
    result = CliRunner().invoke(app, ["inspect", "pictures", "--models", "--catalog", str(catalog)])
    assert "sae.pt does not exist" in result.stdout and "a stand-in: 16 patch rows" in result.stdout


def test_last_hidden_state_is_a_difference(transformer: Callable[[str], Path], tmp_path: Path) -> None:
    """Of an SAE of the last block's output, where the library has put the final norm between."""
    (tmp_path / "2_resid").mkdir()
    sae = save(tmp_path / "2_resid/sae.pt", published(d=WIDTH, n=40, k=5))
    for name, differs in (("gemma2", True), ("bert", False)):
        model = entry(transformer(name), "text", sae, hidden_state=3)
        dataset = Dataset(root=tmp_path, layout="spans", modality="text", concepts=("a",), models=("tiny",)).named("x")
        found = inspect_model(model, dataset, None, BUDGET)
        assert found["sound"] and ("set `layer: 2`" in found["differences"]) == differs


def test_inputs_have_a_hash_of_what_the_model_is_given() -> None:
    """Another picture or text is another; asking raises nothing."""
    pictures = InputImages(
        inputs_entry(entry(Path("x"))), {"a": Image.new("RGB", (2, 3)), "b": Image.new("RGB", (3, 2))}
    )
    texts = InputTexts(inputs_entry(entry(Path("x"), "text")), {"a": "hello", "b": "hallo"})
    for reader in (pictures, texts):
        assert len({reader.content_hash(name) for name in "ab"}) == 2
        assert reader.content_hash("a") == reader.content_hash("a")
