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
