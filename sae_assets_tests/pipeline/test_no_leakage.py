"""From images to best pairs on files: what the test images and labels are has no part in anything that is chosen."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sae_assets.artifacts import Labels
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.helpers.homes import Places, places_in
from sae_assets_tests.helpers.swift import settle_in
from sae_assets_tests.pipeline.fresh_runs import run
from sae_assets_tests.pipeline.small import CONCEPTS, make_dataset, write_catalog, write_metadata

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("no leakage")]
CHOSEN = (
    "unit_id",
    "tail_fraction",
    "threshold",
    "cutoff",
    "direction_units",
    "direction_weights",
    "unit_ids",
    "thresholds",
)


def with_other_test_images(root: Path, target: Path) -> Path:
    """The same data set with noise for every test image, and the test examples' labels and masks moved round by one."""
    shutil.copytree(root, target)
    with (root / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    test = [row for row in rows if row["split"] == "test"]
    rng = np.random.default_rng(0)
    before = [(dict(row), f"{Path(row['image_path']).stem}.png") for row in test]
    for row, (labels, mask) in zip(test, before[1:] + before[:1], strict=True):
        row.update({name: labels[name] for name in CONCEPTS})
        shutil.copy(root / "masks" / mask, target / "masks" / f"{Path(row['image_path']).stem}.png")
        with Image.open(root / row["image_path"]) as image:
            noise = rng.integers(0, 256, (image.height, image.width, 3), np.uint8)
        Image.fromarray(noise).save(target / row["image_path"])
    assert [row["color::red"] for row in test] != [row["color::red"] for row, _ in before]
    write_metadata(target, rows)
    return target


STAGES = ("detection_stats", "chosen_pairs", "best_pairs", "row_alignment", "localization", "coalitions")


def results(
    encoded: Places, folder: Path, stages: tuple[str, ...] = STAGES, *arguments: str
) -> tuple[dict[str, object], dict[str, object]]:
    """What was chosen (hashes of whole artifacts, and columns that hold nothing of test), and what is of test alone."""
    home = folder / "home"
    shutil.copytree(encoded["home"], home)
    settle_in(home / "dagster")
    run(home, encoded["catalog"], *arguments)
    store = ArtifactStore(str(home / "store"))
    chosen: dict[str, object] = {}
    for stage in ("unit_stats", "unit_mapping", "thresholds"):
        chosen[stage] = store.read(Address("small", stage, "patch", "clip-mini")).content_hash
    test: dict[str, object] = {}
    for stage in stages:
        for name, values in (
            pq.read_table(home / f"store/small/patch/clip-mini/{stage}/all.parquet").to_pydict().items()
        ):
            if name in CHOSEN or name.startswith("cal_"):
                chosen[f"{stage}.{name}"] = values
            elif name.startswith("test_"):
                test[f"{stage}.{name}"] = values
    return chosen, test


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> list[Places]:
    """The data set, and the one with another test split, encoded."""
    base = tmp_path_factory.mktemp("leakage")
    root = make_dataset(base / "data" / "data", 12)
    both = [places_in(base / "data"), places_in(base / "changed")]
    with_other_test_images(root, both[1]["root"])
    for places in both:
        write_catalog(
            places["catalog"], places["root"], chunk_size=100, token_kinds=["patch"], detection={"min_support": 1}
        )
        run(places["home"], places["catalog"], "--to", "sparse_activations")
    return both


def test_what_is_chosen_does_not_depend_on_test(both, tmp_path):
    """Statistics, mapping, thresholds, cal counts, pairs and their chance on cal are bit-equal; test figures move."""
    (one, test), (two, other_test) = (results(one, tmp_path / str(number)) for number, one in enumerate(both))
    assert one == two
    assert len(one) == 3 + 7 + 4 + 17 + 10 + 13 + 7  # hashes; columns of the others that hold nothing of test
    assert any(unit is not None for unit in one["best_pairs.unit_id"])
    assert test["detection_stats.test_tp"] != other_test["detection_stats.test_tp"]


def test_a_planted_leak_would_be_noticed(both, tmp_path, monkeypatch):
    """One test example taken for a calibration example, and the comparison fails: statistics, thresholds, counts."""
    in_split = Labels.in_split

    def leaking(self, split):
        mask = in_split(self, split)
        if split == "cal":
            mask[in_split(self, "test").nonzero()[0]] = True
        return mask

    monkeypatch.setattr(Labels, "in_split", leaking)
    only = ("detection_stats",)
    (one, _), (two, _) = (results(one, tmp_path / str(n), only, "--to", *only) for n, one in enumerate(both))
    assert set(one) == set(two)
    different = {name for name in one if one[name] != two[name]}
    assert {"unit_stats", "thresholds"} <= different and any(
        name.startswith("detection_stats.cal_") for name in different
    )
