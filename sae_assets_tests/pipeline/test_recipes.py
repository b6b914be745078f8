"""Which files may be used beside each other: those of the same examples, labels, encoder and mapping."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from upath import UPath

from sae_assets.artifacts import Examples, Labels
from sae_assets.catalog import Catalog, Model, Sae, load_catalog
from sae_assets.catalog.detection import Detection
from sae_assets.chunks.registering import register
from sae_assets.errors import MismatchError
from sae_assets.pipeline.options import EncodeOptions, Options, ScoringOptions
from sae_assets.pipeline.recipes import provenance_of
from sae_assets.pipeline.stage import Sources, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import Stored, stored
from sae_assets_tests.datasets.clevr_folder import three_examples
from sae_assets_tests.rows.embedding_folder import as_safetensors, given
from sae_assets_tests.storage.small import SMALL

EXAMPLES = Examples(4, ("a", "b"), ("a.png", "b.png"), ("1", "2"))
LABELS = Labels(("red",), 4, ("a", "b"), ("cal", "test"), torch.tensor([[True], [False]]), ("{}", "{}"))


class Chunks(dict[str, Stored]):
    """What stands for a reader of many chunks."""

    header = dict.__getitem__


def provenance(stage: str, inputs: dict[str, Any], **more: Any) -> Provenance:
    place = {"dataset-chunk": (None, None, "0000"), "chunk": ("patch", "m", "0000"), "model": ("patch", "m", None)}
    address = Address("pictures", stage, *place[STAGES[stage].level])
    return provenance_of(STAGES[stage], address, inputs, {}, **{"identity": {}, "outside": {}, **more})


def made(stage: str, artifact: Any, inputs: dict[str, Any], **more: Any) -> Stored:
    return stored(artifact, provenance(stage, inputs, **more))


def world(examples: Examples = EXAMPLES, labels: Labels = LABELS) -> dict[str, Stored]:
    """One chunk as far as its ground truth and activations; what these hold does not matter here."""
    world: dict[str, Stored] = {"examples": made("examples", examples, {})}
    world["labels"] = made("labels", labels, {"examples": world["examples"]})
    truth = {name: world[name] for name in ("examples", "labels")}
    world["ground_truth"] = made("ground_truth", SMALL["ground_truth"], truth)
    rows = {"examples": world["examples"]}
    world["sparse_activations"] = made(
        "sparse_activations", SMALL["sparse_activations"], rows, identity={"encoder": "e"}
    )
    return world


def test_activations_say_what_earlier_versions_said_of_them():
    """Their fingerprint covers both: under another name or hash, every home would be encoded again."""
    found = world()["sparse_activations"].provenance
    rows = "024781bb4e92dbd1fd20d3ea5a39dd32b4577cac6d4b6da079d1c5535fa7d878"
    assert (found.inputs, found.identity) == ({"examples": rows}, {"encoder": "e", "rows/0000": rows})


def test_only_what_reads_labels_depends_on_them():
    one, two = world(), world(labels=replace(LABELS, splits=("test", "cal")))
    same = {name for name in one if one[name].provenance.fingerprint == two[name].provenance.fingerprint}
    assert same == {"examples", "labels", "sparse_activations"}  # what labels are made from stands outside the store


@pytest.mark.parametrize(
    ("stage", "name", "other", "key"),
    [
        ("unit_mapping", "ground_truth", world(labels=replace(LABELS, splits=("test", "cal"))), "labels/0000"),
        ("unit_stats", "sparse_activations", world(replace(EXAMPLES, file_hashes=("1", "3"))), "rows/0000"),
    ],
)
def test_files_of_other_examples_or_labels_are_not_combined(stage, name, other, key):
    own = world()
    inputs = {name: Chunks({"0000": own[name]}), "labels": Chunks({"0000": own["labels"]})}
    identity = provenance(stage, inputs).identity
    assert not [each for each in identity if "/" in each]  # an aggregate is of no chunk
    with pytest.raises(MismatchError, match=f"{name}/0000 and labels/0000 were made with different {key}"):
        provenance(stage, {**inputs, name: Chunks({"0000": other[name]})})


def test_truth_needs_labels_of_its_own_examples():
    own, other = world(), world(replace(EXAMPLES, first_index=5))
    with pytest.raises(MismatchError, match="examples and labels were made with different rows/0000"):
        provenance("ground_truth", {"examples": other["examples"], "labels": own["labels"]})


def test_truth_of_rows_from_files_is_of_these_files(tmp_path: Path):
    """They say how many rows an example has and, of tokens, where these stand."""
    files = {"tiny": {"patch": {"path": as_safetensors(tmp_path, given(6))}}}
    entry = three_examples(tmp_path / "data").entry(embeddings=files)
    model = Model(modality="image", sae=Sae(format="clipscope", path=tmp_path))
    catalog, root = Catalog(models={"tiny": model}, datasets={"pictures": entry}), UPath(tmp_path / "store")
    register(entry, root)
    target = Target(catalog, Address("pictures", "ground_truth", "patch", "tiny", "0000"))

    def outside() -> dict[str, str]:
        return STAGES["ground_truth"].outside(target, Sources(root), Options())

    before = outside()
    assert "embeddings" in before
    as_safetensors(tmp_path, given(9))
    assert outside() != before
    of_cls = replace(target, address=replace(target.address, token_kind="cls"))
    assert "embeddings" not in STAGES["sparse_activations"].outside(of_cls, Sources(root), EncodeOptions())


@pytest.mark.parametrize("options", [EncodeOptions(pooling="topk_mean", pooling_k=2), EncodeOptions()])
def test_control_inputs_depend_on_pooling(options: EncodeOptions) -> None:
    """As the catalog or the options of one run say; under `cls` nothing is pooled, nor for activations themselves."""
    catalog = load_catalog()
    dataset = catalog.datasets["clevr_mini"]
    mean = dataset.model_copy(update={"detection": Detection(pooling="mean")}).named("clevr_mini")
    other = catalog.model_copy(update={"datasets": {**catalog.datasets, "clevr_mini": mean}})

    def settings(of: Catalog, stage: str, kind: str) -> dict[str, Any]:
        target = Target(of, Address("clevr_mini", stage, kind, "clip-mini", "0000"))
        return STAGES[stage].settings(target, options)

    given = {"pooling": "topk_mean", "pooling_k": 2} if options.pooling else {"pooling": "mean"}
    assert given.items() <= settings(other, "control_inputs", "patch").items()
    assert (settings(catalog, "control_inputs", "patch") == settings(other, "control_inputs", "patch")) is bool(
        options.pooling
    )
    for stage, kind in (("control_inputs", "cls"), ("sparse_activations", "patch")):
        assert settings(catalog, stage, kind) == settings(other, stage, kind)


@pytest.mark.parametrize("spelled", ["{}/", "{}/.", "{}/../mini", "{}/w/..", "mini", "./mini/", "mini/w/.."])
def test_a_report_depends_on_no_spelling_of_a_path(tmp_path: Path, spelled: str) -> None:
    """It names a local model by its folder."""

    def settings(path: str) -> dict[str, Any]:
        entry = {"transformer": {"library": "open_clip", "path": path}}
        (tmp_path / "catalog.yaml").write_text(json.dumps({"models": {"clip-mini": entry}}))
        target = Target(load_catalog(tmp_path / "catalog.yaml"), Address("clevr_mini", "report", "patch", "clip-mini"))
        return STAGES["report"].settings(target, ScoringOptions())

    expected = settings(str(tmp_path / "mini"))
    assert expected["about"]["hook point"] == "block 3 of mini"
    assert settings(spelled.format(tmp_path / "mini")) == expected
