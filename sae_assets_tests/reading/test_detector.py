"""A detector says of copies of examples what the pipeline's files say of them, and refuses files of others."""

import hashlib
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import sae_assets
from sae_assets import ops
from sae_assets.catalog import Model, load_catalog
from sae_assets.cli import app
from sae_assets.datasets.inputs import read_input
from sae_assets.errors import CatalogError, DatasetError, DetectorError, MismatchError
from sae_assets.reading import Results
from sae_assets.reading.detector_export import export_detector
from sae_assets.reading.detector_file import DetectorFigures, encoder_tensors, portable, write_detector
from sae_assets.reading.encoding import EncodeSettings, encode_inputs
from sae_assets.rows.identity import transformer_identity
from sae_assets.rows.loaded import open_encoder
from sae_assets.saes import locate_sae, sae_hash
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.docs.test_docs import documented_keys
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.small import WITH_CONTROLS

pytestmark = pytest.mark.slow
TEXTS = ["I was so happy today, thank you!", "", "Oh great, another meeting. 🎈 Just what I needed.", "no"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    """A small home whose few calibration examples are enough for pairs."""
    return made_home(tmp_path_factory.mktemp("detector"), **WITH_CONTROLS, detection={"min_support": 1})


@pytest.fixture(scope="module")
def results(made: Places) -> Results:
    return sae_assets.open(made["home"], made["catalog"])["small"]["clip-mini"]["patch"]


@pytest.fixture(scope="module")
def folder(made: Places, results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, the data set and home of which are gone; copies of the pictures lie beside it."""
    folder = tmp_path_factory.mktemp("taken") / "detector"
    export_detector(results, folder)
    copies = folder.parent / "copies"
    copies.mkdir()
    for example in results.example_ids:
        source = results.reader.root / results.reader.record(example).path
        shutil.copy(source, copies / f"{example}{source.suffix}")
    return folder


def changed(folder: Path, target: Path, change: Any) -> Path:
    """A copy of the detector with its JSON changed."""
    shutil.copytree(folder, target)
    content = json.loads((target / "detector.json").read_text())
    change(content)
    (target / "detector.json").write_text(json.dumps(content))
    return target


def stored_scores(results: Results, unit: int) -> np.ndarray:
    """Largest value of a unit in each example, from the stored files."""
    scores = np.zeros(len(results.example_ids), np.float32)
    for chunk in results.activations():
        mine = chunk.units == unit
        np.maximum.at(scores, chunk.example[chunk.row_of_entry[mine]], chunk.values[mine])
    return scores


def test_scores_are_those_of_the_pipeline(results: Results, folder: Path) -> None:
    """Bit for bit, from copies of the pictures; so is what is detected, and the Brier score of its probabilities."""
    detector = sae_assets.Detector(folder)
    found = {Path(one.name).stem: one for one in detector.detect(sorted((folder.parent / "copies").iterdir()))}
    labels = results.table("labels").to_arrow().to_pylist()
    assert detector.concepts
    for line in results.best_pairs().to_arrow().to_pylist():
        if line["unit_id"] is None:
            assert line["concept"] in detector.figures.without_unit
            continue
        each = [found[example][line["concept"]] for example in results.example_ids]
        scores = np.array([one.score for one in each], np.float32)
        assert np.array_equal(scores, stored_scores(results, line["unit_id"]))
        for split in ("cal", "test"):
            here = [place for place, label in enumerate(labels) if label["split"] == split]
            truth = [labels[place][f"label:{line['concept']}"] for place in here]
            yes = [each[place].detected for place in here]
            assert sum(a and b for a, b in zip(yes, truth, strict=True)) == line[f"{split}_tp"]
            assert sum(a and not b for a, b in zip(yes, truth, strict=True)) == line[f"{split}_fp"]
            squares = [(each[place].probability - true) ** 2 for place, true in zip(here, truth, strict=True)]
            if split == "test" and line["test_brier"] is not None:
                assert np.mean(squares) == pytest.approx(line["test_brier"], abs=1e-12)


def test_heat_maps_lie_where_those_of_the_results_do(results: Results, folder: Path) -> None:
    example = results.example_ids[1]
    found = sae_assets.Detector(folder).detect(next((folder.parent / "copies").glob(f"{example}.*")))[0]
    for each in found.detections:
        ours, theirs = found.heat_map(each.concept), results.unit(each.unit).heat_map(example)
        assert np.array_equal(ours.to_numpy(), theirs.to_numpy(), equal_nan=True)
        assert all(np.array_equal(ours.edges[name], theirs.edges[name]) for name in theirs.edges)


def test_the_whole_encoder_can_be_taken_along(results: Results, folder: Path, tmp_path: Path) -> None:
    figures = export_detector(results, tmp_path / "whole", include_encoder=True)
    assert figures["units"]["included"] and "TopK" in figures["units"]["reason"]
    copies = sorted((folder.parent / "copies").iterdir())[:3]
    referenced, included = (sae_assets.Detector(each).detect(copies) for each in (folder, tmp_path / "whole"))
    assert [one.detections for one in referenced] == [one.detections for one in included]
    with pytest.raises(DetectorError, match=r"--units-only: not of this SAE\. TopK"):
        export_detector(results, tmp_path / "units", units_only=True)


def test_concepts_are_chosen(results: Results, tmp_path: Path) -> None:
    export_detector(results, tmp_path / "one", concepts=["COLOR::red"])
    assert sae_assets.Detector(tmp_path / "one").concepts == ["color::red"]
    with pytest.raises(CatalogError, match="Unknown concept"):
        export_detector(results, tmp_path / "none", concepts=["colour"])


def test_inputs_of_every_kind(results: Results, folder: Path, tmp_path: Path) -> None:
    """A path, Pillow's picture, an array and one that is turned by EXIF are one picture; what is none has an error."""
    copy = next((folder.parent / "copies").iterdir())
    picture = Image.open(copy)
    turned = Image.open(copy).transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[274] = 6
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    given = [copy, str(copy), picture, np.asarray(picture), turned, damaged, tmp_path / "gone.png", 7]
    found = sae_assets.Detector(folder).detect(given)
    assert [one.detections for one in found[1:5]] == [found[0].detections] * 4
    assert [bool(one.error) for one in found] == [False] * 5 + [True] * 3
    assert "readable image" in found[5].error and "no file" in found[6].error and "found int" in found[7].error
    with pytest.raises(DetectorError, match=r"gone\.png"):
        found[6].heat_map("color::red")
    with pytest.raises(DatasetError, match="uint8"):
        read_input(np.zeros((2, 2, 4), np.uint8), "image")


def test_what_results_encode_is_what_they_have_stored(results: Results, folder: Path) -> None:
    copies = [next((folder.parent / "copies").glob(f"{example}.*")) for example in results.example_ids]
    encoded = results.encode(copies[:7])
    expected = results.activations().to_scipy()[: 7 * 256]
    assert (encoded.to_scipy() != expected).nnz == 0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*beta", category=UserWarning)  # torch says it once per process
        assert torch.equal(encoded.to_torch().to_dense(), torch.from_numpy(expected.toarray()))
    one, unit = encoded[6], encoded[6].top_units(1)[0][0]
    assert len(encoded) == 7 and encoded[-1].name == one.name and len(encoded[2:4]) == 2
    assert np.array_equal(one.values(unit), results.unit(unit).values(results.example_ids[6]))
    assert one.top_units(1)[0][1] == one.values(unit).max() and repr(encoded).startswith("7 inputs, 1,792 rows")
    theirs = results.unit(unit).heat_map(results.example_ids[6])
    assert one.heat_map(unit).overlay().tobytes() == theirs.overlay().tobytes()
    with pytest.raises(CatalogError, match="no tokens"):
        one.tokens(unit)
    with pytest.raises(CatalogError, match="units 0 to 1023"):
        one.values(1024)
    with pytest.raises(IndexError):
        encoded[7]


def test_activations_of_another_model_are_not_encoded_by_this_one(
    made: Places, results: Results, tmp_path: Path
) -> None:
    model = results.model_entry.model_copy(update={"layer": 2})
    other = Results(results.store, results.entry, results.model, "patch", model)
    with pytest.raises(MismatchError, match="another transformer, SAE or with other settings"):
        other.encode([np.zeros((9, 9, 3), np.uint8)])
    with pytest.raises(MismatchError, match="another transformer"):
        export_detector(other, tmp_path / "no")


def test_stale_pairs_are_not_taken_along(made_home: Homes, tmp_path: Path) -> None:
    places = made_home(tmp_path)
    store = ArtifactStore(str(places["home"] / "store"))
    other = store.read(Address("small", "labels", chunk="0001"))
    here = replace(other, provenance=replace(other.provenance, chunk="0000"))
    store.write(Address("small", "labels", chunk="0000"), here)
    results = sae_assets.open(places["home"], places["catalog"])["small"]["clip-mini"]["patch"]
    with pytest.raises(MismatchError, match="another labels/0000"):
        export_detector(results, tmp_path / "no")


@pytest.fixture(scope="module")
def by_units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of three units of a JumpReLU SAE of texts, whose weights are in it."""
    model, units = load_catalog().models["gemma-mini"], [72, 201, 645]
    path = locate_sae(model.sae, download=False)
    assert path is not None
    encoder = open_encoder(model.sae, "cpu", 2**28).encoder
    concepts = [
        {"concept": f"mood {unit}", "unit": unit, "threshold": 5.0, "row_threshold": None, "n_knots": 2,
         "figures": {"test_f1": 0.5}} for unit in units
    ]  # fmt: skip
    figures = {
        "origin": {"dataset": "moods", "n_cal": 2, "n_test": 2, "fingerprints": {}, "producer": "0"},
        "token_kind": "token", "model_name": "gemma-mini", "model": portable(model),
        "transformer": transformer_identity(model.transformer), "sae_sha256": sae_hash(path), "k_stored": None,
        "precision": "float32", "forward_batch": 1, "pooling": "topk_mean", "pooling_k": 2, "concepts": concepts,
        "units": {"encoded": "needed", "included": True, "reason": "", "ids": units, "n_units": encoder.n_units,
                  "d_model": encoder.d_model, "activation": "jumprelu", "k": None},
    }  # fmt: skip
    curves = {"knots": torch.tensor([0.0, 9.0] * 3, dtype=torch.float64)}
    curves["probabilities"] = torch.tensor([0.0, 1.0] * 3, dtype=torch.float64)
    folder = tmp_path_factory.mktemp("by-units") / "detector"
    write_detector(folder, figures, encoder_tensors(encoder, units) | curves, "")
    return folder


def test_needed_units_give_what_the_whole_encoder_gives(by_units: Path) -> None:
    """Of a JumpReLU SAE, scores and values on tokens bit for bit; an empty text has no token, and scores nothing."""
    model = load_catalog().models["gemma-mini"]
    contents = {f"input {place}": text for place, text in enumerate(TEXTS)}
    rows, _ = encode_inputs(contents, model, "token", EncodeSettings(), device="cpu")
    unit, score, example = ops.pooling.pool_rows(rows, ops.pooling.Pooling("topk_mean", 2))
    found = sae_assets.Detector(by_units).detect(TEXTS)
    fired = 0
    for place, one in enumerate(found):
        for each in one.detections:
            mine = score[(unit == each.unit) & (example == place)]
            assert each.score == (float(mine[0]) if len(mine) else 0)
            assert each.probability == min(each.score, 9) / 9 and each.detected == (each.score >= 5)
            marked, here = one.tokens(each.concept), rows.example_of_row() == place
            dense = torch.zeros(rows.n_rows)
            of_unit = rows.unit_ids == each.unit
            dense[rows.row_of_entry()[of_unit]] = rows.values[of_unit]
            assert [token.value for token in marked] == dense[here].tolist() and marked.text == TEXTS[place]
            fired += each.score > 0
    assert fired and found[1].detected == []


def test_other_files_are_refused(folder: Path, by_units: Path, tmp_path: Path) -> None:
    """Each with what is wrong; nothing of a foreign file is used as a path before it was compared."""
    with pytest.raises(DetectorError, match=r"has no detector\.json"):
        sae_assets.Detector(tmp_path)
    for name, content, message in (
        ("text", "no", "cannot be read as JSON"),
        ("list", "[]", "is no detector of sae_assets"),
        ("deep", "[" * 100_000, "cannot be read as JSON"),
        ("later", json.dumps({"format": "sae_assets detector", "version": 2}), "of version 2"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "detector.json").write_text(content)
        with pytest.raises(DetectorError, match=message):
            sae_assets.Detector(tmp_path / name)

    def refused(name: str, change: Any, message: str, source: Path = by_units) -> None:
        with pytest.raises(DetectorError, match=message):
            sae_assets.Detector(changed(source, tmp_path / name, change))

    def model_path(part: str, value: str) -> Any:
        return lambda content: content["model"][part].update(path=value)

    refused("key", lambda content: content.update(more=1), "more: Extra inputs")
    refused("nan", lambda content: content["concepts"][0].update(threshold=float("nan")), "threshold")
    refused("unit", lambda content: content["concepts"][0].update(unit=1), "not among units.ids")
    refused("twice", lambda content: content["concepts"][0].update(concept="mood 201"), "named twice")
    refused("topk", lambda content: content["units"].update(activation="topk", k=3), "needed units alone")
    refused("width", lambda content: content["units"].update(d_model=3), "does not hold what")
    refused("more-ids", lambda content: content["units"].update(ids=[72, 201, 645, 700]), "weight has shape")
    refused("library", lambda content: content["model"]["transformer"].update(library="pickle"), "damaged")
    refused("relative", model_path("transformer", "../../secrets"), "expected an absolute one")
    refused("outside", model_path("transformer", "package:../../etc"), "expected an absolute one")
    refused("remote", model_path("transformer", "//server/share"), "expected an absolute one")
    refused("elsewhere", model_path("transformer", str(tmp_path / "nowhere")), "does not exist")
    clip = str(Path(sae_assets.__file__).parent / "demo" / "checkpoints" / "gemma-mini-sae" / "layer_2")
    refused("folder", model_path("transformer", clip), "no transformers folder")
    refused("hash", lambda content: content.update(sae_sha256="0" * 64), "another SAE", folder)
    refused("weights", lambda content: content["transformer"].update(weights="0" * 64), "another transformer", folder)
    refused("own", model_path("transformer", "~/../../etc"), "expected an absolute one")
    (tmp_path / "key" / "detector.json").write_text((by_units / "detector.json").read_text())
    (tmp_path / "key" / "detector.safetensors").write_bytes(b"")
    with pytest.raises(DetectorError, match="is damaged, or of another detector"):
        sae_assets.Detector(tmp_path / "key")
    (tmp_path / "key" / "detector.safetensors").unlink()
    with pytest.raises(DetectorError, match="A detector is a folder with both"):
        sae_assets.Detector(tmp_path / "key")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors["knots"].fill_(1), "must ascend"),
        (lambda tensors: tensors["probabilities"].fill_(2), "within 0 and 1"),
        (lambda tensors: tensors["weight"].fill_(torch.nan), "not finite"),
        (lambda tensors: tensors.pop("bias"), "bias is missing"),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "more is not of this format"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(by_units: Path, tmp_path: Path, change: Any, message: str) -> None:
    from safetensors.torch import load_file, save

    tensors = load_file(by_units / "detector.safetensors")
    change(tensors)
    content = save(tensors)
    sha256 = hashlib.sha256(content).hexdigest()
    folder = changed(by_units, tmp_path / "changed", lambda figures: figures.update(tensors_sha256=sha256))
    (folder / "detector.safetensors").write_bytes(content)
    with pytest.raises(DetectorError, match=message):
        sae_assets.Detector(folder)


def test_files_may_lie_elsewhere(by_units: Path, tmp_path: Path) -> None:
    """A copy of the transformer is the transformer; another one is not."""
    packaged = Path(sae_assets.__file__).parent / "demo" / "checkpoints" / "gemma-mini"
    shutil.copytree(packaged, tmp_path / "copy")
    moved = changed(
        by_units, tmp_path / "moved", lambda content: content["model"]["transformer"].update(path="/nowhere/at/all")
    )
    with pytest.raises(DetectorError, match="--transformer"):
        sae_assets.Detector(moved)
    assert sae_assets.Detector(moved, transformer=tmp_path / "copy").concepts
    tokens = tmp_path / "copy" / "tokenizer_config.json"
    tokens.write_text(tokens.read_text() + "\n")
    with pytest.raises(DetectorError, match="another transformer"):
        sae_assets.Detector(moved, transformer=tmp_path / "copy")


def test_nothing_else_is_overwritten(results: Results, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DetectorError, match="is no detector: nothing was written"):
        export_detector(results, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_commands(made: Places, folder: Path, by_units: Path, tmp_path: Path) -> None:
    """Files, folders and stdin; JSON with the places of what was detected, and pictures of it."""
    target = tmp_path / "out"
    result = invoke(made, "export-detector", "small", "clip-mini", "--out", str(target))
    assert result.exit_code == 0 and "TopK" in result.output
    assert {path.name for path in target.iterdir()} == {"README.md", "detector.json", "detector.safetensors"}
    assert (target / "detector.json").read_bytes() == (folder / "detector.json").read_bytes()
    said = invoke(made, "export-detector", "small", "clip-mini", "--out", str(target), "--json")
    assert set(json.loads(said.stdout)) == documented_keys()["export-detector"]
    card = (target / "README.md").read_text()
    assert "| color::red |" in card and "TopK" in card and "sae-assets detect" in card
    copies = folder.parent / "copies"
    (copies / ".hidden.png").write_bytes(b"")
    command = ["detect", str(target), str(copies), "--marks", str(tmp_path / "marks"), "--json"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 0, said.output
    inputs = json.loads(said.stdout)["inputs"]
    assert len(inputs) == 12 and all(one["error"] is None for one in inputs)
    hits = [(one, each) for one in inputs for each in one["concepts"] if each["detected"]]
    one, each = hits[0]
    assert documented_keys()["detect"] - {"tokens"} == {"detector", "inputs", *one, *each}
    assert hits and all(each["patches"] for _, each in hits if each["concept"] in ("color::red", "shape::cube"))
    assert sum(len(one.get("marks", [])) for one in inputs) == len(hits) == len(list((tmp_path / "marks").iterdir()))
    shown = CliRunner().invoke(app, ["detect", str(target), "-", "--all"], input=f"{copies / 'gone.png'}\n")
    assert shown.exit_code == 1 and "gone.png is no file" in shown.stderr
    shown = CliRunner().invoke(app, ["detect", str(by_units), "-"], input="\n".join(TEXTS))
    assert shown.exit_code == 0 and "line 3" in shown.stdout and "line 2" not in shown.stdout
    for wrong, code in (([str(target), str(tmp_path / "gone")], 2), ([str(tmp_path), str(copies)], 1)):
        assert CliRunner().invoke(app, ["detect", *wrong]).exit_code == code


def test_paths_do_not_say_whose_home_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a home they are told from there, and are those of whoever reads; no `..` of a catalog goes along."""
    made_on, read_on = tmp_path / "alice", tmp_path / "bob"
    parts = {"transformer": {"library": "transformers", "path": str(made_on / "cat" / ".." / "dino")}}
    parts["sae"] = {"format": "saelens", "path": "/data/sae"}
    monkeypatch.setenv("HOME", str(made_on))
    content = portable(Model.model_validate({"modality": "image", "layer": 1, **parts}))
    assert (content["transformer"]["path"], content["sae"]["path"]) == ("~/dino", "/data/sae")
    monkeypatch.setenv("HOME", str(read_on))
    whole = DetectorFigures.model_construct(model_name="dino", model=content)
    assert whole.entry.transformer is not None and whole.entry.transformer.path == read_on / "dino"
