"""A new user's own folder, model and SAE, by one catalog entry as the documentation says: figures come out, offline.

Weights are random, so figures mean nothing here; that every stage runs on what the documents describe is the point.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets.commands.session import open_session
from sae_assets.storage.address import Address
from sae_assets_tests.datasets.layouts import write_csv, write_lines
from sae_assets_tests.rows.tiny_transformers import WIDTH, write_transformer
from sae_assets_tests.saes import published_folders as saes

pytestmark = pytest.mark.long

N, N_UNITS = 18, 64
SPLITS = ("train", "cal", "test")
PRUNING = {"min_active": 1, "max_density": 1.0, "strength_percentile": 0, "target_units": 100}


def sae_folder(folder: Path) -> Path:
    """A SAELens v6 folder of the tiny models' width."""
    config = saes.saelens_config("topk", k=8, d_in=WIDTH, d_sae=N_UNITS)
    return saes.write_saelens(folder, saes.weights(WIDTH, N_UNITS, threshold=False), config)


def sparsify_folder(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "encoder.weight": torch.randn(N_UNITS, WIDTH, generator=generator),
        "encoder.bias": torch.zeros(N_UNITS),
        "W_dec": torch.randn(N_UNITS, WIDTH, generator=generator),
        "b_dec": torch.zeros(WIDTH),
    }
    return saes.write_sparsify(folder, tensors, {**saes.SPARSIFY, "k": 8, "d_in": WIDTH, "num_latents": N_UNITS})


def images(root: Path) -> None:
    """A table of images with a multi-label column and one mask per image, in no published layout."""
    rows = []
    for place in range(N):
        name, concept = f"p{place:02d}", ("square", "disc")[place % 2]
        image, mask = Image.new("RGB", (60, 40), (place * 9, 80, 120)), Image.new("L", (60, 40), 0)
        box = (8 + place, 6, 24 + place, 26)
        for canvas, ink in ((ImageDraw.Draw(image), (250, 250, 20)), (ImageDraw.Draw(mask), 255)):
            (canvas.rectangle if concept == "square" else canvas.ellipse)(box, ink)
        for folder, picture in (("photos", image), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            picture.save(root / folder / f"{name}.png")
        split = SPLITS[(place // 2) % 3]
        rows.append({"image_path": f"photos/{name}.png", "shapes": concept, "split": split})
    write_csv(root / "metadata.csv", rows)


def texts(path: Path) -> None:
    """JSON lines with spans, multi-byte characters and an empty text."""
    lines: list[dict[str, Any]] = []
    for place in range(N):
        text = f"hello world {'naïve ' * (place % 3)}this is a café" if place != 7 else ""
        spans = [{"start": text.index("café"), "end": len(text), "label": "place"}] if text and place % 2 else []
        lines.append({"id": f"t{place}", "text": text, "spans": spans, "split": SPLITS[(place // 2) % 3]})
    write_lines(path, lines)


def run(tmp_path: Path, catalog: dict[str, Any], *arguments: str) -> dict[str, Any]:
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    places = ["--home", str(tmp_path / "home"), "--catalog", str(tmp_path / "catalog.yaml"), "--json"]
    result = CliRunner().invoke(app, ["materialize", "-d", "mine", *arguments, *places])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def rows_of(tmp_path: Path, kind: str, chunk: str = "0000") -> Any:
    with open_session(tmp_path / "home", tmp_path / "catalog.yaml") as session:
        return session.store.read(Address("mine", "sparse_activations", kind, "own", chunk)).artifact


def test_images_with_a_hugging_face_model_and_a_saelens_sae(tmp_path):
    images(tmp_path / "photos_of_mine")
    catalog = {
        "models": {
            "own": {
                "modality": "image",
                "transformer": {"library": "transformers", "path": str(write_transformer(tmp_path / "m", "dinov2"))},
                "layer": 1,
                "sae": {"format": "saelens", "path": str(sae_folder(tmp_path / "sae"))},
                "pruning": PRUNING,
            }
        },
        "datasets": {
            "mine": {
                "root": str(tmp_path / "photos_of_mine"), "layout": "table", "modality": "image",
                "concepts": ["square", "disc"], "models": ["own"], "chunk_size": 10,
                "columns": {"image": "image_path", "labels": "shapes"},
            }
        },
    }  # fmt: skip
    figures = run(tmp_path, catalog, "--sample-type", "patch,cls", "--pruning", "fixed")
    assert {"mine/patch/own", "mine/cls/own"} <= set(figures["figures"])
    patch = rows_of(tmp_path, "patch")
    assert patch.n_units == N_UNITS and patch.example_offsets.diff().unique().tolist() == [16]


def test_texts_with_an_encoder_and_a_sparsify_sae(tmp_path):
    texts(tmp_path / "posts.jsonl")
    catalog = {
        "models": {
            "own": {
                "modality": "text",
                "transformer": {"library": "transformers", "path": str(write_transformer(tmp_path / "m", "bert"))},
                "hidden_state": 2,
                "sae": {"format": "sparsify", "path": str(sparsify_folder(tmp_path / "sae"))},
                "max_tokens": 8,
                "pruning": PRUNING,
            }
        },
        "datasets": {
            "mine": {
                "root": str(tmp_path / "posts.jsonl"), "layout": "spans", "modality": "text", "concepts": ["place"],
                "models": ["own"], "chunk_size": 10, "columns": {"id": "id"},
            }
        },
    }  # fmt: skip
    run(tmp_path, catalog, "--sample-type", "token,cls", "--pruning", "fixed", "--k-stored", "0")
    token, cls = rows_of(tmp_path, "token"), rows_of(tmp_path, "cls")
    lengths = token.example_offsets.diff()
    assert int(lengths[7]) == 0 and int(lengths.max()) == 8 and token.n_cut_examples > 0
    assert token.n_cut_tokens >= token.n_cut_examples and token.k_stored is None
    # The empty text has its one cls row, with nothing active on it.
    assert cls.n_rows == 10 and int(cls.entries_per_row()[7]) == 0 and int(cls.entries_per_row()[0]) > 0


def test_precomputed_embeddings_give_what_the_transformer_gives(tmp_path):
    """The same rows from a file and from the model: the same activations, and no model is loaded for them."""
    images(tmp_path / "data")
    model = write_transformer(tmp_path / "m", "vit")
    entry = {
        "root": str(tmp_path / "data"), "layout": "table", "modality": "image", "concepts": ["square", "disc"],
        "models": ["own"], "chunk_size": 10, "token_kinds": ["cls"],
        "columns": {"image": "image_path", "labels": "shapes"},
    }  # fmt: skip
    transformer = {"library": "transformers", "path": str(model)}
    sae = {"format": "saelens", "path": str(sae_folder(tmp_path / "sae"))}
    own = {"modality": "image", "transformer": transformer, "layer": 1, "sae": sae, "pruning": PRUNING}
    with_model = {"models": {"own": own}, "datasets": {"mine": entry}}
    run(tmp_path, with_model, "--to", "sparse_activations")
    computed = [rows_of(tmp_path, "cls", chunk) for chunk in ("0000", "0001")]

    from sae_assets.catalog import load_catalog
    from sae_assets.datasets import open_dataset
    from sae_assets.rows.opening import open_sources

    catalog = load_catalog(tmp_path / "catalog.yaml")
    reader = open_dataset(catalog.datasets["mine"])
    ((_, source),) = open_sources(reader, catalog.datasets["mine"], catalog.models["own"], ("cls",), "cpu", "float32")
    rows = torch.cat([next(source.embed([record.example_id])).rows["cls"] for record in reader.records])
    save_file({"embeddings": rows}, tmp_path / "cls.safetensors")

    there = tmp_path / "from_files"
    there.mkdir()
    without_model = {
        "models": {"own": {"modality": "image", "sae": sae, "pruning": PRUNING}},
        "datasets": {"mine": {**entry, "embeddings": {"own": {"cls": {"path": str(tmp_path / "cls.safetensors")}}}}},
    }
    run(there, without_model, "--pruning", "fixed")
    for chunk, first in zip(("0000", "0001"), computed, strict=True):
        assert rows_of(there, "cls", chunk) == first


@pytest.mark.parametrize("place", [{"layer": 2}, {"hidden_state": 3}, {"module": "layer.2"}])
def test_wrong_width_names_both_and_the_place(tmp_path, place):
    images(tmp_path / "data")
    narrow = saes.write_saelens(
        tmp_path / "sae", saes.weights(6, 20, threshold=False), saes.saelens_config("topk", k=4, d_in=6, d_sae=20)
    )
    model = write_transformer(tmp_path / "m", "vit")
    if "module" in place:
        names = [name for name, _ in hf.AutoModel.from_pretrained(model).named_modules()]
        place = {"module": next(name for name in names if name.endswith(".2"))}
    own = {"modality": "image", "transformer": {"library": "transformers", "path": str(model)}, **place}
    catalog = {
        "models": {"own": {**own, "sae": {"format": "saelens", "path": str(narrow)}, "pruning": PRUNING}},
        "datasets": {
            "mine": {
                "root": str(tmp_path / "data"), "layout": "table", "modality": "image", "models": ["own"],
                "concepts": ["square", "disc"], "columns": {"image": "image_path", "labels": "shapes"},
            }
        },
    }  # fmt: skip
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    places = ["--home", str(tmp_path / "home"), "--catalog", str(tmp_path / "catalog.yaml")]
    result = CliRunner().invoke(app, ["materialize", "-d", "mine", *places])
    assert result.exit_code == 1
    for part in ("width 6", f"width {WIDTH}", str(next(iter(place.values()))), "do not belong together"):
        assert part in result.stderr, result.stderr


def test_catalog_with_five_mistakes_reports_all_five(tmp_path):
    catalog = {
        "models": {"own": {"modality": "image", "layer": -1, "sae": {"format": "gated", "path": "x"}}},
        "datasets": {
            "mine": {
                "root": "x", "layout": "tabel", "modality": "image", "concepts": [], "models": ["owm"], "chunks": 3,
            }
        },
    }  # fmt: skip
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump(catalog))
    places = ["--home", str(tmp_path / "home"), "--catalog", str(tmp_path / "catalog.yaml")]
    result = CliRunner().invoke(app, ["status", *places])
    assert result.exit_code == 2
    for key in (
        "models.own.layer", "models.own.sae.format", "datasets.mine.layout",
        "datasets.mine.concepts", "datasets.mine.models.0", "datasets.mine.chunks",
    ):  # fmt: skip
        assert f"- {key}:" in result.stderr, result.stderr
