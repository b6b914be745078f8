"""Links that lead out of a data set's folder are refused, unless the catalog says that they may."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from upath import UPath

from sae_assets.catalog import Dataset, load_catalog
from sae_assets.chunks.registering import register
from sae_assets.datasets.inspection import inspect_dataset
from sae_assets.errors import DatasetError


@dataclass
class Place:
    root: Path
    outside: Path
    catalog: Path

    def entry(self, **more: object) -> Dataset:
        entry = {"root": str(self.root), "layout": "table", "modality": "image", "models": ["clip-mini"],
                 "concepts": ["calm"], "columns": {"image": "file"}, **more}  # fmt: skip
        self.catalog.write_text(yaml.safe_dump({"datasets": {"x": entry}}))
        return load_catalog(self.catalog).datasets["x"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two images (whose contents nobody looks at here) in a folder, a secret beside it."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    (root / "images/a.png").write_text("a lake")
    (root / "data.csv").write_text("file,split,calm\nimages/a.png,cal,1\nimages/b.png,test,0\n")
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "b.png").write_text("a secret")
    return Place(root, outside, tmp_path / "catalog.yaml")


def link_file(place: Place) -> None:
    (place.root / "images/b.png").symlink_to(place.outside / "b.png")


def link_folder(place: Place) -> None:
    (place.root / "images/b.png").write_text("a pond")
    (place.root / "more").symlink_to(place.outside)


def link_upwards(place: Place) -> None:
    (place.root / "images/b.png").symlink_to(Path("../../secret/b.png"))


def link_by_a_link(place: Place) -> None:
    (place.root / "inner").symlink_to(place.outside / "b.png")
    (place.root / "images/b.png").symlink_to(Path("../inner"))


@pytest.mark.parametrize("link", [link_file, link_folder, link_upwards, link_by_a_link])
def test_links_that_lead_out_are_refused_by_name(place: Place, link, tmp_path: Path) -> None:
    link(place)
    entry = place.entry()
    with pytest.raises(DatasetError, match="follow_symlinks: true") as caught:
        register(entry, UPath(tmp_path / "store"))
    assert str(place.outside) in str(caught.value)
    assert not (tmp_path / "store").exists()
    report = inspect_dataset(entry)
    assert not report["sound"] and "follow_symlinks" in str(report)
    assert register(place.entry(follow_symlinks=True), UPath(tmp_path / "store")).keys == ["0000"]


def test_links_that_stay_inside_and_a_folder_that_is_one_are_nobodys_business(place: Place, tmp_path: Path) -> None:
    (place.root / "images/b.png").symlink_to("a.png")
    (tmp_path / "link").symlink_to(place.root)
    place.root = tmp_path / "link"
    assert register(place.entry(), UPath(tmp_path / "store")).keys == ["0000"]


def test_folder_that_begins_alike_is_outside(place: Place, tmp_path: Path) -> None:
    (tmp_path / "data-of-others").mkdir()
    (tmp_path / "data-of-others/b.png").write_text("a pond")
    (place.root / "images/b.png").symlink_to(tmp_path / "data-of-others/b.png")
    with pytest.raises(DatasetError, match="data-of-others"):
        register(place.entry(), UPath(tmp_path / "store"))


@pytest.mark.parametrize("link", [link_file, link_upwards, link_by_a_link])
def test_a_table_beside_other_things_answers_for_its_own_files(place: Place, link, tmp_path: Path) -> None:
    """A root that is the table itself: links are looked for where its paths begin, and not beside."""
    link(place)
    entry = place.entry(root=str(place.root / "data.csv"))
    with pytest.raises(DatasetError, match="follow_symlinks: true"):
        register(entry, UPath(tmp_path / "store"))
    assert not inspect_dataset(entry)["sound"]
    (place.root / "images/b.png").unlink()
    (place.root / "images/b.png").write_text("a pond")
    (place.root / "elsewhere").symlink_to(place.outside)
    assert register(entry, UPath(tmp_path / "store")).keys == ["0000"]


@pytest.mark.parametrize("where", ["masks/b.png", "masks", "shapes", "shapes/b.png"])
def test_masks_beside_a_table_are_its_own_files(place: Place, where: str, tmp_path: Path) -> None:
    (place.root / "images/b.png").write_text("a pond")
    (place.root / where.partition("/")[0]).mkdir()
    (place.root / where).rmdir() if "/" not in where else None
    (place.root / where).symlink_to(place.outside / ("b.png" if "/" in where else ""))
    (place.root / "data.csv").write_text("file,split,calm,mask\nimages/b.png,cal,1,shapes/b.png\n")
    columns = {"image": "file", **({"mask": "mask"} if where.startswith("shapes") else {})}
    with pytest.raises(DatasetError, match="follow_symlinks: true"):
        register(place.entry(root=str(place.root / "data.csv"), columns=columns), UPath(tmp_path / "store"))


def test_a_folder_of_annotations_is_read_too(place: Place, tmp_path: Path) -> None:
    (place.root / "data.csv").rename(place.root / "metadata.csv")
    (place.root / "metadata.csv").write_text("image_path,split,calm\nimages/a.png,cal,1\n")
    (tmp_path / "annotations").mkdir()
    (place.outside / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "annotations/instances.json").symlink_to(place.outside / "instances.json")
    entry = place.entry(layout="coco", columns={}, annotations=str(tmp_path / "annotations"))
    with pytest.raises(DatasetError, match="follow_symlinks: true"):
        register(entry, UPath(tmp_path / "store"))
