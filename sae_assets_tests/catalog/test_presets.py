"""The published data sets as presets: their concepts, counts and figures, and how a user's entry takes one."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from sae_assets.catalog import Dataset, load_catalog
from sae_assets.catalog.loading import PRESETS
from sae_assets.errors import CatalogError

# train, cal, test, always-positive F1, layout, modality, concepts by what stands before "::"
PUBLISHED = {
    "clevr": (634, 200, 166, 0.5041, "clevr", "image", {"color": 3, "shape": 3}),
    "coco": (4001, 500, 999, 0.3174, "coco", "image", {"": 29}),
    "broden_pascal": (2703, 891, 909, 0.3797, "broden", "image", {"object": 36, "part": 47}),
    "broden_opensurfaces": (2118, 717, 743, 0.3413, "broden", "image", {"material": 26}),
    "sarcasm": (861, 300, 285, 0.6588, "words", "text", {"": 1}),
    "isarcasm": (1028, 357, 349, 0.6755, "words", "text", {"": 1}),
    "goemotions": (3271, 1082, 1074, 0.1015, "words", "text", {"": 14}),
}
EXAMPLES = {
    "clevr": 1000, "coco": 5500, "broden_pascal": 4503, "broden_opensurfaces": 3578, "sarcasm": 1446,
    "isarcasm": 1734, "goemotions": 5427,
}  # fmt: skip


def load(folder: Path, **entry: Any) -> Dataset:
    file = folder / "catalog.yaml"
    file.write_text(yaml.safe_dump({"datasets": {"mine": {"root": "data", **entry}}}), encoding="utf-8")
    return load_catalog(file).datasets["mine"]


def test_every_published_data_set_has_a_preset() -> None:
    """Seven of them, no more."""
    assert set(yaml.safe_load(PRESETS.read_text(encoding="utf-8"))) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_preset_is_as_published(tmp_path: Path, name: str) -> None:
    """A root is all that a user adds; the folder need not be there when the catalog is loaded."""
    dataset = load(tmp_path, preset=name)
    train, cal, test, figure, layout, modality, concepts = PUBLISHED[name]
    assert dataset.root == tmp_path / "data"
    assert (dataset.layout, dataset.modality) == (layout, modality)
    assert dataset.models == (("clip",) if modality == "image" else ("gemma",))
    assert dataset.published is not None
    assert dataset.published.model_dump() == {"train": train, "cal": cal, "test": test, "always_positive_f1": figure}
    assert train + cal + test == EXAMPLES[name]
    assert Counter(each.partition("::")[0] if "::" in each else "" for each in dataset.concepts) == concepts
    assert dataset.description


def test_concepts_by_name() -> None:
    """Where the concepts are few enough to be read: exactly these."""
    presets = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))
    assert presets["sarcasm"]["concepts"] == ["sarcasm"]
    assert presets["isarcasm"]["concepts"] == ["sarcastic"]
    assert " ".join(presets["goemotions"]["concepts"]) == (
        "confusion joy sadness anger love caring optimism amusement curiosity disapproval approval annoyance gratitude "
        "admiration"
    )
    assert {"dining table", "potted plant", "vehicle", "person"} <= set(presets["coco"]["concepts"])


def test_own_keys_go_over_the_preset(tmp_path: Path) -> None:
    """Single keys are replaced, the others stay."""
    dataset = load(tmp_path, preset="coco", chunk_size=50, annotations="instances.json")
    assert (dataset.chunk_size, dataset.layout, len(dataset.concepts)) == (50, "coco", 29)
    assert dataset.annotations == tmp_path / "instances.json"


@pytest.mark.parametrize("change", [{"concepts": ["car"]}, {"split": {"train": 0.5, "cal": 0.25, "test": 0.25}}])
def test_published_figures_go_with_the_published_concepts_and_splits(tmp_path: Path, change: dict) -> None:
    """Other concepts or other splits have other figures; own ones can be given."""
    assert load(tmp_path, preset="coco", **change).published is None
    own = load(tmp_path, preset="coco", published={"train": 1, "cal": 2, "test": 3}, **change).published
    assert own is not None and own.always_positive_f1 is None


def test_unknown_preset_is_one_mistake(tmp_path: Path) -> None:
    """The nearest is suggested, all are named, and what the entry lacks for want of it is not said."""
    with pytest.raises(CatalogError) as caught:
        load(tmp_path, preset="cocoa")
    (problem,) = caught.value.problems
    assert problem.startswith("datasets.mine.preset: found 'cocoa'; known: clevr, coco, ")
    assert "Did you mean 'coco'?" in problem


@pytest.mark.parametrize(
    ("preset", "key", "value"),
    [("clevr", "annotations", "a.json"), ("clevr", "columns", {"id": "x"}), ("coco", "columns", {"labels": "x"})],
)
def test_keys_that_a_layout_has_no_use_for(tmp_path: Path, preset: str, key: str, value: Any) -> None:
    """A key that would be passed over in silence is refused with the layouts that it is for."""
    with pytest.raises(CatalogError, match=rf"datasets\.mine\.{key}: layout '{preset}' has none; it is for "):
        load(tmp_path, preset=preset, **{key: value})


def test_colour_difference_is_for_clevr(tmp_path: Path) -> None:
    """A key that another layout would pass over is refused."""
    with pytest.raises(CatalogError, match=r"datasets\.mine\.masks: found 'colour-difference'"):
        load(tmp_path, preset="coco", masks="colour-difference")
