"""The Broden layout: index, label numbers in red and green, several segmentations per category, scaling."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sae_assets.datasets import expect_files, open_dataset
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import (
    BRODEN_LABELS,
    entry_of,
    write_broden,
    write_csv,
    write_image,
    write_segmentation,
)

CONCEPTS = ("object::car", "object::hair", "part::wheel", "material::wood")


def images(root: Path, labels: dict[str, int], place: str = "pascal/a.jpg") -> Path:
    write_image(root / "images" / place)
    row = {"image_path": f"images/{place}", **{c: labels.get(c, 0) for c in CONCEPTS}, "split": "cal"}
    write_csv(root / "metadata.csv", [row])
    return root


def numbers(shape: tuple[int, int] = (6, 8), **boxes: tuple[int, int, int, int]) -> np.ndarray:
    found = np.zeros(shape, int)
    for label, (left, top, right, bottom) in boxes.items():
        found[top:bottom, left:right] = BRODEN_LABELS[label]
    return found


def line(**cells: Any) -> dict[str, Any]:
    return {"image": "pascal/a.jpg", "split": "train", "ih": 6, "iw": 8, "sh": 6, "sw": 8, **cells}


def found(root: Path, **changes: Any) -> dict[str, np.ndarray]:
    reader = open_dataset(entry_of(root, "broden", CONCEPTS, **changes))
    return {concept: np.asarray(mask) for concept, mask in reader.masks("a").items()}


def refusal(root: Path, **changes: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        found(root, **changes)
    assert "Data set 'broden'" in str(caught.value)
    return caught.value


def test_several_segmentations_of_a_category_are_joined(tmp_path: Path) -> None:
    """Parts lie over each other in files of their own; numbers beyond 255 use the green channel."""
    root = images(tmp_path, {"object::car": 1, "part::wheel": 1})
    folder = root / "images/pascal"
    write_segmentation(folder / "a_object.png", numbers(car=(0, 0, 8, 3)))
    write_segmentation(folder / "a_part_1.png", numbers(wheel=(0, 0, 2, 2)))
    write_segmentation(folder / "a_part_2.png", numbers(wheel=(5, 1, 8, 4), sky=(0, 0, 1, 1)))
    write_broden(root, [line(object="pascal/a_object.png", part="pascal/a_part_1.png;pascal/a_part_2.png")])
    masks = found(root)
    assert set(masks) == {"object::car", "part::wheel"}
    assert (masks["object::car"] == 255 * (numbers(car=(0, 0, 8, 3)) > 0)).all()
    assert (masks["part::wheel"] == 255 * (numbers(wheel=(0, 0, 2, 2)) + numbers(wheel=(5, 1, 8, 4)) > 0)).all()


def test_smaller_segmentation_is_scaled_to_the_image(tmp_path: Path) -> None:
    """Broden's segmentations have half the image's size: every label becomes two by two pixels."""
    root = images(tmp_path, {"object::car": 1})
    write_segmentation(root / "images/pascal/a_object.png", numbers((3, 4), car=(1, 0, 3, 2)))
    write_broden(root, [line(object="pascal/a_object.png", sh=3, sw=4)])
    assert (found(root)["object::car"] == 255 * (numbers(car=(2, 0, 6, 4)) > 0)).all()


def test_segmentation_of_another_size_than_the_index_says(tmp_path: Path) -> None:
    """A file that does not fit its line is refused."""
    root = images(tmp_path, {"object::car": 1})
    write_segmentation(root / "images/pascal/a_object.png", numbers((3, 4), car=(1, 0, 3, 2)))
    write_broden(root, [line(object="pascal/a_object.png")])
    assert "'pascal/a_object.png' is 4x3 pixels, index.csv says 8x6" in str(refusal(root))


def test_own_category_comes_first_then_the_others(tmp_path: Path) -> None:
    """A number means the same everywhere: ``object::hair`` is found among parts, unless objects show it."""
    root = images(tmp_path, {"object::hair": 1})
    folder = root / "images/pascal"
    write_segmentation(folder / "a_object.png", numbers(car=(0, 0, 8, 6)))
    write_segmentation(folder / "a_part_1.png", numbers(hair=(0, 0, 2, 2)))
    write_broden(root, [line(object="pascal/a_object.png", part="pascal/a_part_1.png")])
    assert (found(root)["object::hair"] == 255 * (numbers(hair=(0, 0, 2, 2)) > 0)).all()
    write_segmentation(folder / "a_object.png", numbers(hair=(4, 4, 6, 6)))
    assert (found(root)["object::hair"] == 255 * (numbers(hair=(4, 4, 6, 6)) > 0)).all()


def test_whole_image_label_covers_the_image(tmp_path: Path) -> None:
    """A plain number instead of a file holds for every pixel; a true concept without any is nowhere."""
    root = images(tmp_path, {"material::wood": 1, "object::car": 1})
    write_broden(root, [line(material="300;12", sh=1, sw=1)])
    masks = found(root)
    assert set(masks) == {"material::wood"}
    assert masks["material::wood"].shape == (6, 8) and (masks["material::wood"] == 255).all()


@pytest.mark.parametrize("place", ["pascal/a.jpg", "a.jpg"])
def test_images_are_found_by_path_or_name(tmp_path: Path, place: str) -> None:
    """The metadata's path ends as the index's does, or at least the file is called alike."""
    root = images(tmp_path, {"object::car": 1}, place)
    write_segmentation(root / "images/pascal/a_object.png", numbers(car=(0, 0, 2, 2)))
    other = line(image="opensurfaces/b.jpg", object="opensurfaces/missing.png")
    write_broden(root, [other, line(object="pascal/a_object.png")])
    assert set(found(root)) == {"object::car"}


def test_index_elsewhere(tmp_path: Path) -> None:
    """The published Broden may lie beside the data set: its folder or its index is named in the catalog."""
    root, broden = images(tmp_path / "set", {"object::car": 1}), tmp_path / "broden1_224"
    write_segmentation(broden / "images/pascal/a_object.png", numbers(car=(0, 0, 2, 2)))
    index = write_broden(broden, [line(object="pascal/a_object.png")])
    for given in (index, broden):
        assert set(found(root, annotations=given)) == {"object::car"}
    assert "no index.csv in" in str(refusal(root))


def test_labels_by_category_tables(tmp_path: Path) -> None:
    """Without ``label.csv`` the tables of the categories name the numbers."""
    root = images(tmp_path, {"object::car": 1})
    write_segmentation(root / "images/pascal/a_object.png", numbers(car=(0, 0, 2, 2)))
    write_broden(root, [line(object="pascal/a_object.png")])
    (root / "label.csv").unlink()
    assert set(found(root)) == {"object::car"}


def test_unknown_labels_are_named_with_the_nearest(tmp_path: Path) -> None:
    """Concepts that Broden does not label, or that are no ``category::name``."""
    root = images(tmp_path, {})
    write_broden(root, [line()])
    rows = [{"image_path": "images/pascal/a.jpg", "object::wheell": 0, "car": 0, "split": "cal"}]
    write_csv(root / "metadata.csv", rows)
    with pytest.raises(DatasetError) as caught:
        open_dataset(entry_of(root, "broden", ("object::wheell", "car")))
    assert caught.value.problems == (
        "concept 'object::wheell': no label is named 'wheell'; did you mean 'wheel'?",
        "concept 'car': expected category::name, for example object::car",
    )


@pytest.mark.parametrize("hostile", ["../../secret.png", "/etc/passwd", "pascal\\a.png"])
def test_paths_stay_below_the_images(tmp_path: Path, hostile: str) -> None:
    """Nothing that an index names outside its images is opened."""
    root = images(tmp_path / "set", {"object::car": 1})
    write_segmentation(tmp_path / "secret.png", numbers(car=(0, 0, 2, 2)))
    write_broden(root, [line(image="x/b.jpg"), line(object=hostile)])
    (problem,) = refusal(root).problems
    assert problem.startswith("line 3: column 'object': ")


def test_missing_segmentations_are_named_when_they_are_expected(tmp_path: Path) -> None:
    root = images(tmp_path, {"object::car": 1})
    write_broden(root, [line(object="pascal/missing.png")])
    reader = open_dataset(entry_of(root, "broden", CONCEPTS))
    with pytest.raises(DatasetError) as caught:
        expect_files(reader, reader.records)
    said = f"line 2: index.csv, column 'object': file 'pascal/missing.png' does not exist in {root / 'images'}"
    assert caught.value.problems == (said,)


def test_images_that_the_index_lacks(tmp_path: Path) -> None:
    """An image without line, a name that stands there twice, and one of another folder."""
    root = images(tmp_path, {"object::car": 1}, "a.jpg")
    said = "image 'images/a.jpg' has no line of its own in the index"
    write_broden(root, [line(image="x/a.jpg"), line(image="y/a.jpg")])
    assert refusal(root).problems == (f"{said}; it may be any of 'x/a.jpg', 'y/a.jpg'",)
    write_broden(root, [line(image="x/b.jpg")])
    assert refusal(root).problems == (said,)
    root = images(tmp_path, {"object::car": 1}, "left/a.jpg")
    write_broden(root, [line(image="right/a.jpg")])
    said = "image 'images/left/a.jpg' has no line of its own in the index; 'right/a.jpg' lies in another folder"
    assert refusal(root).problems == (said,)


def test_lines_and_labels_that_stand_there_twice(tmp_path: Path) -> None:
    """Of two that differ one would be taken; the same again is nobody's business."""
    root = images(tmp_path, {"object::car": 1})
    for name in ("a_object.png", "other.png"):
        write_segmentation(root / "images/pascal" / name, numbers(car=(0, 0, 2, 2)))
    both = [line(object="pascal/a_object.png"), line(object="pascal/other.png")]
    index = write_broden(root, both)
    assert refusal(root).problems == ("lines 2, 3: image 'pascal/a.jpg' has two lines that differ",)
    write_broden(root, both[:1] * 2)
    assert set(found(root)) == {"object::car"}
    with (index.parent / "label.csv").open("a") as file:
        file.write("99,car,object(1),1,1,\n")
    (problem,) = refusal(root).problems
    assert problem.endswith("label 'car' has two numbers")


def test_hash_follows_segmentations(tmp_path: Path) -> None:
    """A changed segmentation changes the hash; a category that no concept is of does not."""
    root = images(tmp_path, {"object::car": 1})
    part = write_segmentation(root / "images/pascal/a_object.png", numbers(car=(0, 0, 2, 2)))
    colour = write_segmentation(root / "images/pascal/a_color.png", numbers(car=(0, 0, 2, 2)))
    write_broden(root, [line(object="pascal/a_object.png", color="pascal/a_color.png")])
    reader = open_dataset(entry_of(root, "broden", CONCEPTS))
    before = reader.hashes("a")
    write_segmentation(colour, numbers(car=(0, 0, 3, 3)))
    assert reader.hashes("a") == before
    write_segmentation(part, numbers(car=(0, 0, 3, 3)))
    assert reader.hashes("a") != before


def test_damaged_segmentation_is_registered_and_refused_where_it_is_read(tmp_path: Path) -> None:
    """It must not keep all other examples from being registered; that it was repaired is a change like any other."""
    root = images(tmp_path, {"object::car": 1, "part::wheel": 1})
    part = write_segmentation(root / "images/pascal/a_object.png", numbers(car=(0, 0, 2, 2)))
    whole = part.read_bytes()
    part.write_bytes(whole[:40])
    write_broden(root, [line(object="pascal/a_object.png")])
    reader = open_dataset(entry_of(root, "broden", CONCEPTS))
    registered = reader.hashes("a")
    assert reader.hashes("a") == registered
    fewer = open_dataset(entry_of(root, "broden", CONCEPTS[:3]))
    assert fewer.hashes("a") == registered  # another category changes nothing of these concepts
    with pytest.raises(DatasetError, match=r"a_object\.png"):
        reader.masks("a")
    part.write_bytes(whole[:41])
    assert reader.hashes("a") != registered
    part.write_bytes(whole)
    content, regions = reader.hashes("a")
    assert content == registered[0] and set(regions) == {"object::car", "part::wheel"}
    assert all(regions[concept] != registered[1][concept] for concept in regions)
