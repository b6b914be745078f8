"""The recipes of CONTRIBUTING.md are carried out: their files are written into a copy of the package and used there.

A recipe that needs more than the files it shows, or more than it may need, fails here.
"""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

import sae_assets
from sae_assets.catalog.registry import formats, layouts, libraries
from sae_assets_tests.datasets.clevr_folder import CONCEPTS, ClevrFolder
from sae_assets_tests.pipeline.small import NO_OTHERS, make_dataset
from sae_assets_tests.pipeline.small import write_catalog as write_small
from sae_assets_tests.test_tensors_are_named import unnamed

pytestmark = pytest.mark.long
PACKAGE = Path(sae_assets.__file__).parent
GUIDE = PACKAGE.parent / "CONTRIBUTING.md"
MOST_FILES = {"Add a stage": 4, "Add a layout": 1, "Add an SAE format": 1, "Add a model library": 2}


def recipe(heading: str) -> dict[str, str]:
    """Contents of the source files of a recipe, by path: each stands in a block below the line that names it."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    return dict(re.findall(r"^`(sae_assets/[\w/.]+)`:\n\n```python\n(.*?)^```$", section, re.M | re.S))


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of the package, of what Python made of it too; the demo's data are only linked."""
    folder = tmp_path / "checkout"
    shutil.copytree(PACKAGE, folder / "sae_assets", ignore=shutil.ignore_patterns("demo"))
    (folder / "sae_assets" / "demo").symlink_to(PACKAGE / "demo")
    return folder


def carry_out(heading: str, checkout: Path) -> list[str]:
    """Write a recipe's files; their paths."""
    files = recipe(heading)
    assert 1 <= len(files) <= MOST_FILES[heading]
    for path, content in files.items():
        assert not (checkout / path).exists(), f"{path} is changed, not added"
        (checkout / path).parent.mkdir(exist_ok=True)
        (checkout / path).write_text(content, encoding="utf-8")
    return list(files)


def run(checkout: Path, *arguments: str) -> str:
    """What a Python process prints that sees the copy and no other package of this name."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAE_ASSETS_")}
    environment |= {"PYTHONPATH": str(checkout), "COLUMNS": "200"}
    result = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=checkout, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def write_catalog(checkout: Path, **content: Any) -> str:
    (checkout / "own.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(checkout / "own.yaml")


SAE = {"format": "clipscope", "path": "none.pt"}
FOLDERS = {"train/joy": ["what joy", "fun"], "cal/joy": ["merry"], "cal/other": ["a desk"], "test/other": ["a chair"]}


def test_a_layout(copied: Path) -> None:
    """``inspect`` counts its examples with their labels, and a catalog without it would name it among the layouts."""
    carry_out("Add a layout", copied)
    for folder, texts in FOLDERS.items():
        for number, text in enumerate(texts):
            file = copied / "data" / folder / f"{folder.replace('/', '-')}-{number}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    entry = {
        "root": "data", "layout": "folders", "modality": "text", "concepts": ["joy", "other"], "models": ["gemma-mini"],
    }  # fmt: skip
    catalog = write_catalog(copied, datasets={"mine": entry})
    command = ["-c", "from sae_assets.cli import run; run()", "inspect", "mine", "--files", "--json"]
    found = json.loads(run(copied, *command, "--catalog", catalog))["mine"]
    assert (found["sound"], found["splits"]) == (True, {"train": 2, "cal": 2, "test": 1})
    assert found["files"]["read"] == 5 and found["files"]["bad"] == []
    counts = {name: [count[split] for split in ("train", "cal", "test")] for name, count in found["concepts"].items()}
    assert counts == {"joy": [2, 1, 0], "other": [0, 1, 1]}
    unknown = write_catalog(copied, datasets={"mine": {**entry, "layout": "zip"}})
    refused = f"from pathlib import Path; from sae_assets.catalog import load_catalog; load_catalog(Path({unknown!r}))"
    with pytest.raises(AssertionError, match=r"found 'zip'; input should be .*'folders', "):
        run(copied, "-c", refused)


def test_an_sae_format(copied: Path) -> None:
    """A folder of it is opened by a catalog entry and encodes as its formula says."""
    carry_out("Add an SAE format", copied)
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    (copied / "layers.3").mkdir()
    (copied / "layers.3" / "plain.json").write_text(json.dumps({"k": 3}))
    save_file({"encoder": weight}, copied / "layers.3" / "plain.safetensors")
    script = """
import torch
from sae_assets.catalog import Sae
from sae_assets.saes import locate_sae, open_sae, sae_hash
entry = Sae(format="plain", path="layers.3")
checkpoint = open_sae(entry)
code = checkpoint.encoder("cpu", 2**20).encode(torch.eye(6))
print(checkpoint.name, checkpoint.d_model, checkpoint.n_units, len(sae_hash(locate_sae(entry, download=False))))
print(*code.row_offsets.tolist())
print(*code.unit_ids.tolist())
"""
    about, offsets, units = run(copied, "-c", script).splitlines()
    assert about == "layers.3 6 20 64"
    best = [sorted(int(unit) for unit in row.topk(3).indices if row[unit] > 0) for row in weight]
    starts = [int(start) for start in offsets.split()]
    assert starts == np.cumsum([0, *map(len, best)]).tolist()
    ids = [int(unit) for unit in units.split()]
    assert [sorted(ids[start:stop]) for start, stop in itertools.pairwise(starts)] == best


def test_a_model_library(copied: Path) -> None:
    """An image's rows and its truth, from a catalog; what the library refuses is a mistake of the catalog."""
    carry_out("Add a model library", copied)
    images = copied / "data" / "images"
    images.mkdir(parents=True)
    pixels = np.full((16, 16, 3), 128, np.uint8)
    pixels[:8, 8:] = (255, 0, 0)
    Image.fromarray(pixels).save(images / "a.png")
    (copied / "data" / "metadata.csv").write_text("image_path,red,split\nimages/a.png,1,cal\n")
    model = {
        "modality": "image", "transformer": {"library": "pixels", "name": "mean-colour"}, "layer": 0, "sae": SAE,
    }  # fmt: skip
    entry = {"root": "data", "layout": "clevr", "modality": "image", "concepts": ["red"], "models": ["own"]}
    catalog = write_catalog(copied, models={"own": model}, datasets={"mine": entry})
    script = f"""
import json
from pathlib import Path
from sae_assets.catalog import load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_labels
from sae_assets.datasets import open_dataset
from sae_assets.rows.identity import rows_identity
from sae_assets.rows.opening import open_sources
from sae_assets.rows.truth import row_truth
catalog = load_catalog(Path({catalog!r}))
dataset, model = catalog.datasets["mine"], catalog.models["own"]
reader = open_dataset(dataset)
((_, source),) = open_sources(reader, dataset, model, ("patch", "cls"), "cpu", "float32")
(rows,) = source.embed(["a"])
truth = row_truth(describe_labels(Manifest("0000", 0, ("a",)), reader), "patch", dataset, model, reader)
print(json.dumps([rows.rows["patch"].tolist(), rows.rows["cls"].tolist(), truth.rows[0].tolist(), len(truth.rows[0])]))
print(json.dumps(rows_identity(dataset, model, "patch")["transformer"]))
"""
    values, identity = map(json.loads, run(copied, "-c", script).splitlines())
    grey = [128 / 255] * 3
    assert values[0] == [pytest.approx(row, abs=1e-6) for row in (grey, [1, 0, 0], grey, grey)]
    assert values[1] == [pytest.approx(np.mean(values[0], axis=0).tolist(), abs=1e-6)]
    assert values[2:] == [[[False], [True], [False], [False]], 4]
    assert identity == {"library": "pixels", "name": "mean-colour"}
    wrong = write_catalog(copied, models={"own": {**model, "modality": "text"}, "two": {**model, "layer": 1}})
    refused = f"from pathlib import Path; from sae_assets.catalog import load_catalog; load_catalog(Path({wrong!r}))"
    with pytest.raises(AssertionError) as caught:
        run(copied, "-c", refused)
    assert "library pixels reads images; a model of texts is loaded by library transformers" in str(caught.value)
    assert "library pixels takes `layer: 0`" in str(caught.value)


def test_a_stage(copied: Path) -> None:
    """The pipeline makes it with its check; ``status``, ``show`` and ``verify`` know it; inputs stand before it."""
    carry_out("Add a stage", copied)
    write_small(copied / "small.yaml", make_dataset(copied / "data", 6), token_kinds=["patch"])

    commands = [
        ["materialize", "-d", "small", "--to", "unit_peaks"], ["status", "-d", "small"],
        ["show", "small", "clip-mini", "unit_peaks", "--rows", "1024"], ["verify"],
    ]  # fmt: skip
    ran = f"""
import dagster as dg
from pathlib import Path
from typer.testing import CliRunner
from sae_assets.cli import app
from sae_assets.commands.session import open_session
for arguments in {commands!r}:
    result = CliRunner().invoke(app, [*arguments, "--json", "--home", "home", "--catalog", "small.yaml"])
    assert result.exit_code == 0, result.output
    print(*result.stdout.splitlines(), sep="")
with open_session(Path("home"), Path("small.yaml")) as session:
    key = dg.AssetCheckKey(dg.AssetKey(["small", "patch", "unit_peaks"]), "some_unit_fires")
    (record,) = session.instance.event_log_storage.get_asset_check_execution_history(key, 10)
    print(record.status.value)
"""
    *printed, status = run(copied, "-c", ran).splitlines()
    made, states, shown, verified = map(json.loads, printed)
    assert (made["warnings"], verified["damaged"], status) == ({}, {}, "SUCCEEDED")
    states = states["small"]["stages"]
    stages = [name.split("/")[-1] for name in states]
    assert stages.index("sparse_activations") < stages.index("unit_peaks")
    assert (states["patch/clip-mini/unit_peaks"], states["patch/clip-mini/unit_mapping"]) == (
        {"all": "current"}, {"all": "missing"},
    )  # fmt: skip
    sparse = pq.read_table(next((copied / "home" / "store").rglob("sparse_activations/0000.parquet")))
    peaks = [0.0] * 1024
    for units, values in zip(sparse["unit_ids"].to_pylist(), sparse["values"].to_pylist(), strict=True):
        for unit, value in zip(units, values, strict=True):
            peaks[unit] = max(peaks[unit], value)
    assert [row["peak"] for row in shown["head"]] == peaks
    assert shown["counts"] == {"units": 1024, "largest": max(peaks)}


def test_a_library_and_a_format_carry_the_pipeline(copied: Path) -> None:
    """Rows of the one, through the encoder of the other, become pairs and a page, and lack nothing."""
    for heading in ("Add an SAE format", "Add a model library"):
        carry_out(heading, copied)
    folder = ClevrFolder(copied / "data", (16, 16))
    for number, split in enumerate(("cal", "test", "train", "cal", "test", "cal")):
        folder.add(f"e{number}", split, CONCEPTS[number % 2], (1, 1, 7, 7))
    folder.write()
    (copied / "sae").mkdir()
    (copied / "sae" / "plain.json").write_text(json.dumps({"k": 2}))
    encoder = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    save_file({"encoder": encoder}, copied / "sae" / "plain.safetensors")
    model = {
        "modality": "image", "transformer": {"library": "pixels", "name": "mean-colour"}, "layer": 0,
        "sae": {"format": "plain", "path": "sae"},
        "pruning": {"mode": "fixed", "min_active": 0, "max_density": 1, "strength_percentile": 0},
    }  # fmt: skip
    entry = {
        "root": "data", "layout": "clevr", "modality": "image", "concepts": list(CONCEPTS), "models": ["own"],
        "token_kinds": ["patch"], "detection": {"n_permutations": 5},
    }  # fmt: skip
    catalog = write_catalog(copied, models={"own": model}, datasets={**NO_OTHERS, "mine": entry})
    command = ["-c", "from sae_assets.cli import run; run()"]
    run(copied, *command, "materialize", "-d", "mine", "--home", "home", "--catalog", catalog)
    states = json.loads(run(copied, *command, "status", "--json", "--home", "home", "--catalog", catalog))
    assert {state for chunks in states["mine"]["stages"].values() for state in chunks.values()} == {"current"}


def test_recipes_pass_lint(copied: Path) -> None:
    """What somebody copies from the page is refused neither by ruff nor by mypy, and every tensor in it is named."""
    files = [path for heading in MOST_FILES for path in carry_out(heading, copied)]
    shutil.copy(GUIDE.parent / "pyproject.toml", copied)
    run(copied, "-m", "ruff", "check", *files)
    run(copied, "-m", "ruff", "format", "--check", *files)
    run(copied, "-m", "mypy", *files)
    left_open = {path: list(unnamed((copied / path).read_text(encoding="utf-8"))) for path in files}
    assert {path: calls for path, calls in left_open.items() if calls} == {}


@pytest.mark.parametrize("heading", ["Add a layout", "Add an SAE format", "Add a model library"])
def test_recipes_keep_heads_of_modules_light(copied: Path, heading: str) -> None:
    """Loading a catalog with what was added loads no library that opens images, tables or weights."""
    carry_out(heading, copied)
    script = """
import sys
from sae_assets.catalog import load_catalog, registry
load_catalog()
print(*registry.layouts(), *registry.formats(), *registry.libraries())
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    names, modules = run(copied, "-c", script).splitlines()
    assert len(names.split()) == len(layouts()) + len(formats()) + len(libraries()) + 1
    assert not {"torch", "PIL", "pyarrow", "numpy", "transformers", "open_clip"} & set(modules.split())
