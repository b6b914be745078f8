"""The COCO layout: polygons, crowds, unions over categories and super-categories, and every bad annotation named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rasterise

from sae_assets.datasets import expect_files, open_dataset
from sae_assets.datasets.inspection import inspect_dataset
from sae_assets.datasets.outlines import COMPACT, borders, decode_runs
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import (
    COCO_CATEGORIES,
    entry_of,
    run_lengths,
    square,
    write_coco,
    write_csv,
    write_image,
)

CONCEPTS = ("car", "person", "vehicle")


def images(root: Path, *labels: tuple[int, int, int]) -> Path:
    rows = []
    for place, values in enumerate(labels):
        path = f"val2017/{place:012d}.jpg"
        write_image(root / path)
        rows.append({"image_path": path, **dict(zip(CONCEPTS, values, strict=True)), "split": "cal"})
    write_csv(root / "metadata.csv", rows)
    return root


def name(place: int) -> str:
    return f"{place:012d}"


def found(root: Path, place: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    reader = open_dataset(entry_of(root, "coco", CONCEPTS, **changes))
    return {concept: np.asarray(mask) for concept, mask in reader.masks(name(place)).items()}


def box(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def refusal(root: Path, **changes: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        found(root, **changes)
    assert "Data set 'coco'" in str(caught.value)
    return caught.value


def test_union_over_instances_categories_and_super_categories(tmp_path: Path) -> None:
    """Two cars are one mask; a bus counts for the super-category alone; other categories do not matter."""
    root = images(tmp_path, (1, 0, 1))
    parts = [(3, square(0, 0, 2, 2)), (3, square(4, 0, 6, 2)), (6, square(0, 3, 8, 5)), (62, square(6, 0, 8, 6))]
    write_coco(root, {f"{name(0)}.jpg": [{"category_id": c, "segmentation": s} for c, s in parts]})
    masks = found(root)
    cars = box(0, 0, 2, 2) | box(4, 0, 6, 2)
    assert set(masks) == {"car", "vehicle"}
    assert (masks["car"] == cars).all()
    assert (masks["vehicle"] == cars | box(0, 3, 8, 5)).all()


def test_an_instance_of_several_polygons_is_their_union(tmp_path: Path) -> None:
    """What is hidden in the middle is published as two polygons."""
    root = images(tmp_path, (1, 0, 1))
    shape = [*square(0, 0, 3, 3), *square(5, 3, 8, 6)]
    write_coco(root, {f"{name(0)}.jpg": [{"category_id": 3, "segmentation": shape}]})
    assert (found(root)["car"] == box(0, 0, 3, 3) | box(5, 3, 8, 6)).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_crowds_are_included(tmp_path: Path, compressed: bool) -> None:
    """Run lengths, plain or compressed, are joined with polygons of the same category."""
    root = images(tmp_path, (0, 1, 0))
    crowd = np.zeros((6, 8), np.uint8)
    crowd[1:4, 2:7] = 1
    shape: dict[str, Any] = {"size": [6, 8], "counts": run_lengths(crowd)}
    if compressed:
        shape["counts"] = rasterise.encode(np.asfortranarray(crowd))["counts"].decode()
    parts = [
        {"category_id": 1, "segmentation": shape, "iscrowd": 1},
        {"category_id": 1, "segmentation": square(0, 5, 8, 6)},
    ]
    write_coco(root, {f"{name(0)}.jpg": parts})
    masks = found(root)
    assert set(masks) == {"person"}
    assert (masks["person"] == 255 * crowd | box(0, 5, 8, 6)).all()


def test_compressed_runs_are_read_as_the_library_writes_them() -> None:
    """Random masks through the library's encoder: the runs are the mask's own."""
    random = np.random.default_rng(0)
    for height, width in [(1, 1), (6, 8), (40, 90)]:
        for share in (0.0, 0.05, 0.5, 1.0):
            mask = np.asfortranarray((random.random((height, width)) < share).astype(np.uint8))
            assert decode_runs(rasterise.encode(mask)["counts"].decode()) == run_lengths(mask)


def test_a_true_concept_without_instance_is_nowhere(tmp_path: Path) -> None:
    """A label without annotation has no mask; an annotation without label is passed over; no label, no mask."""
    root = images(tmp_path, (1, 0, 0), (0, 0, 0))
    car, person = {"category_id": 3, "segmentation": []}, {"category_id": 1, "segmentation": square(0, 0, 8, 6)}
    write_coco(root, {f"{name(0)}.jpg": [car, person], f"{name(1)}.jpg": [person]})
    assert found(root) == {}
    assert found(root, 1) == {}


def test_several_annotation_files(tmp_path: Path) -> None:
    """Train and validation images of one data set: files in ``annotations`` and in the folder itself are joined."""
    root = images(tmp_path, (1, 0, 1), (1, 0, 1))
    for place, split in enumerate(("train2017", "val2017")):
        part = {"category_id": 3, "segmentation": square(place, 0, 4, 4)}
        write_coco(root, {f"{name(place)}.jpg": [part]}, split)
    (root / "annotations/instances_val2017.json").rename(root / "instances_val2017.json")
    for place in (0, 1):
        assert (found(root, place)["car"] == box(place, 0, 4, 4)).all()


def test_annotations_named_in_the_catalog(tmp_path: Path) -> None:
    """One file, or a folder of them, anywhere."""
    root, elsewhere = images(tmp_path / "photos", (1, 0, 1)), tmp_path / "elsewhere"
    file = write_coco(elsewhere, {f"{name(0)}.jpg": [{"category_id": 3, "segmentation": square(0, 0, 4, 4)}]})
    for given in (file, file.parent):
        assert (found(root, annotations=given)["car"] == box(0, 0, 4, 4)).all()
    assert "`annotations` in the catalog" in str(refusal(root))
    assert "nowhere.json does not exist" in str(refusal(root, annotations=tmp_path / "nowhere.json"))


def test_hash_follows_image_and_regions_of_its_example_only(tmp_path: Path) -> None:
    """Another image's annotation, or a category that is no concept, changes nothing."""
    root = images(tmp_path, (1, 0, 1), (1, 0, 1))
    hashes = []
    for shift, other, chair in [(0, 0, 0), (0, 2, 0), (0, 0, 2), (1, 0, 0)]:
        write_coco(
            root,
            {
                f"{name(0)}.jpg": [
                    {"category_id": 3, "segmentation": square(shift, 0, 4, 4)},
                    {"category_id": 62, "segmentation": square(chair, 0, 4, 4)},
                ],
                f"{name(1)}.jpg": [{"category_id": 3, "segmentation": square(other, 0, 4, 4)}],
            },
        )
        hashes.append(open_dataset(entry_of(root, "coco", CONCEPTS)).hashes(name(0)))
    assert hashes[0] == hashes[1] == hashes[2] != hashes[3]
    write_image(root / f"val2017/{name(0)}.jpg", colour=(1, 2, 3))
    assert open_dataset(entry_of(root, "coco", CONCEPTS)).hashes(name(0))[0] != hashes[3][0]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"category_id": 99, "segmentation": []}, "category_id 99 is not among the categories"),
        ({"category_id": 3}, "must be polygons or run lengths, found NoneType"),
        ({"category_id": 3, "segmentation": [], "bbox": [0, 0, 4, 3]}, "has a box and no outline"),
        ({"category_id": 3, "segmentation": [[0, 0, 1, 1]]}, "x and y of three points"),
        ({"category_id": 3, "segmentation": [[0, 0, 1, 1, 2, 2, 3]]}, "x and y of three points"),
        ({"category_id": 3, "segmentation": [[0, 0, 1, 1, 2, "2"]]}, "something else than coordinates"),
        ({"category_id": 3, "segmentation": [[0, 0, 1, 1, 2, 1e30]]}, "something else than coordinates"),
        ({"category_id": 3, "segmentation": {"size": [8, 6], "counts": [48]}}, "run lengths are for size [8, 6]"),
        ({"category_id": 3, "segmentation": {"size": [6, 8], "counts": [48, 1]}}, "do not sum to"),
        ({"category_id": 3, "segmentation": {"size": [6, 8], "counts": [49, -1]}}, "do not sum to"),
        ({"category_id": 3, "segmentation": {"size": [6, 8], "counts": "`o"}}, "do not sum to"),
        ({"category_id": 3, "segmentation": {"size": [6, 8], "counts": "ooooooooooooo"}}, "do not sum to"),
        ({"category_id": 3, "segmentation": {"size": [6, 8], "counts": 48}}, "compressed string"),
    ],
)
def test_bad_annotation_is_named(tmp_path: Path, part: dict, said: str) -> None:
    """Whatever the rasteriser could not take is refused before it sees it, with the annotation's id and image."""
    root = images(tmp_path, (1, 0, 1))
    write_coco(root, {f"{name(0)}.jpg": [{"id": 77, **part}]})
    message = str(refusal(root))
    assert f"annotation 77 of '{name(0)}.jpg': " in message and said in message


def test_a_box_alone_does_for_what_is_no_concept(tmp_path: Path) -> None:
    root = images(tmp_path, (1, 0, 1))
    parts = [
        {"category_id": 3, "segmentation": square(0, 0, 4, 4)},
        {"category_id": 62, "segmentation": [], "bbox": [0, 0, 4, 3]},
    ]
    write_coco(root, {f"{name(0)}.jpg": parts})
    assert (found(root)["car"] == box(0, 0, 4, 4)).all()


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Concepts that no file knows, with the nearest name."""
    root = images(tmp_path, (1, 0, 1), (1, 0, 1))
    write_coco(root, {f"{name(1)}.jpg": []})
    rows = [{"image_path": f"val2017/{name(0)}.jpg", "vehicles": 1, "dragon": 1, "split": "cal"}]
    write_csv(root / "metadata.csv", rows)
    reader = open_dataset(entry_of(root, "coco", ("vehicles", "dragon")))
    with pytest.raises(DatasetError) as caught:
        reader.masks(name(0))
    assert caught.value.problems == (
        "concept 'vehicles' is neither a category nor a super-category; did you mean 'vehicle'?",
        "concept 'dragon' is neither a category nor a super-category",
    )


def test_image_without_annotation_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """It is named when it is read, and before its chunk is registered."""
    root = images(tmp_path, (1, 0, 1), (1, 0, 1))
    write_coco(root, {f"{name(1)}.jpg": []})
    reader = open_dataset(entry_of(root, "coco", CONCEPTS))
    assert reader.masks(name(1)) == {}
    with pytest.raises(DatasetError, match=rf"'coco'.*\.json: image 'val2017/{name(0)}\.jpg' is not annotated"):
        reader.masks(name(0))
    with pytest.raises(DatasetError) as caught:
        expect_files(reader, reader.records)
    assert caught.value.problems == (f"line 2: image 'val2017/{name(0)}.jpg' is not annotated",)


def test_image_in_two_files(tmp_path: Path) -> None:
    """Which of two would hold is not decided silently."""
    root = images(tmp_path, (1, 0, 1))
    for split in ("train2017", "val2017"):
        write_coco(root, {f"{name(0)}.jpg": []}, split)
    assert "instances_val2017.json and in a file before it" in str(refusal(root))


def test_image_of_another_size_than_annotated(tmp_path: Path) -> None:
    """A resized copy does not fit the published polygons."""
    root = images(tmp_path, (1, 0, 1))
    write_coco(root, {f"{name(0)}.jpg": [{"category_id": 3, "segmentation": square(0, 0, 4, 4)}]})
    Image.new("RGB", (16, 12)).save(root / f"val2017/{name(0)}.jpg")
    assert "is 16x12 pixels, its annotations are for 8x6" in str(refusal(root))


@pytest.mark.parametrize(
    "content", ["[]", "{", "{}", json.dumps({"images": [{}], "annotations": [], "categories": []})]
)
def test_file_that_is_no_annotation_file(tmp_path: Path, content: str) -> None:
    """Broken JSON and other JSON: the file is named."""
    root = images(tmp_path, (1, 0, 1))
    write_coco(root, {}).write_text(content)
    assert "instances_val2017.json is no COCO instance file" in str(refusal(root))


def test_annotations_are_read_only_when_asked(tmp_path: Path) -> None:
    """Opening a data set does not parse half a gigabyte of JSON."""
    root = images(tmp_path, (1, 0, 1))
    write_coco(root, {}).write_text("{")
    assert len(open_dataset(entry_of(root, "coco", CONCEPTS)).records) == 1


def kites(root: Path, images: list[dict], annotations: list[dict], *paths: str) -> Any:
    """A reader of these images, 8 × 6 pixels, all positive."""
    for path in paths:
        write_image(root / path)
    write_csv(root / "metadata.csv", [{"image_path": path, "car": 1, "split": "cal"} for path in paths])
    content = {
        "categories": COCO_CATEGORIES,
        "images": [{"width": 8, "height": 6, **image} for image in images],
        "annotations": [{"id": number, "category_id": 3, **part} for number, part in enumerate(annotations)],
    }
    (root / "instances.json").write_text(json.dumps(content))
    return open_dataset(entry_of(root, "coco", ("car",)))


def bounds(reader: Any, example: str) -> tuple[int, int, int, int]:
    found: tuple[int, int, int, int] = reader.masks(example)["car"].getbbox()
    return found


LEFT, RIGHT = square(0, 0, 4, 3), square(4, 3, 8, 6)


@pytest.mark.parametrize(
    "written", ["{}/1.jpg", "./{}/1.jpg", "{}\\1.jpg", "/data/images/{}/1.jpg", "D:\\x\\{}\\1.jpg"]
)
def test_images_of_one_name_in_two_folders(tmp_path: Path, written: str) -> None:
    """Each has its own instances, however the path is written."""
    images = [{"id": 1, "file_name": written.format("left")}, {"id": 2, "file_name": written.format("right")}]
    parts = [{"image_id": 1, "segmentation": LEFT}, {"image_id": 2, "segmentation": RIGHT}]
    reader = kites(tmp_path, images, parts, "left/1.jpg")
    assert bounds(reader, "1") == (0, 0, 4, 3)
    assert bounds(kites(tmp_path, images, parts, "right/1.jpg"), "1") == (4, 3, 8, 6)


@pytest.mark.parametrize(
    ("names", "path", "said"),
    [
        (["right/1.jpg"], "left/1.jpg", "image 'left/1.jpg' is not annotated; 'right/1.jpg' lies in another folder"),
        (["left/1.jpg", "right/1.jpg"], "1.jpg", "'1.jpg' may be any of 'left/1.jpg', 'right/1.jpg'"),
        (["a/left/1.jpg", "b/left/1.jpg"], "left/1.jpg", "'left/1.jpg' may be any of 'a/left/1.jpg'"),
    ],
)
def test_image_that_may_be_another_is_refused(tmp_path: Path, names: list[str], path: str, said: str) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    reader = kites(tmp_path, images, [{"image_id": 0, "segmentation": LEFT}], path)
    with pytest.raises(DatasetError) as caught:
        reader.masks("1")
    assert said in str(caught.value)
    with pytest.raises(DatasetError, match="line 2"):
        expect_files(reader, reader.records)


def test_image_under_two_ids_has_the_instances_of_both(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "1.jpg"}, {"id": 2, "file_name": "1.jpg"}]
    parts = [{"image_id": 1, "segmentation": LEFT}, {"image_id": 2, "segmentation": RIGHT}]
    assert bounds(kites(tmp_path, images, parts, "x/1.jpg"), "1") == (0, 0, 8, 6)
    images[1]["width"] = 9
    with pytest.raises(DatasetError, match=r"image '1\.jpg' stands there twice, with other sizes"):
        kites(tmp_path, images, parts, "x/1.jpg").masks("1")


@pytest.mark.parametrize("of_image", [1, "1", 1.0])
@pytest.mark.parametrize("of_part", [1, "1", 1.0])
def test_ids_as_numbers_or_texts(tmp_path: Path, of_image: Any, of_part: Any) -> None:
    images = [{"id": of_image, "file_name": "1.jpg"}]
    parts = [{"image_id": of_part, "segmentation": LEFT, "category_id": "3"}]
    assert bounds(kites(tmp_path, images, parts, "1.jpg"), "1") == (0, 0, 4, 3)


def test_annotations_that_name_no_image_are_counted(tmp_path: Path) -> None:
    """Some: said by ``inspect``; all: refused. One id of two images, and of two categories, is refused."""
    images = [{"id": 1, "file_name": "1.jpg"}]
    parts = [{"image_id": 1, "segmentation": LEFT}, {"image_id": 7, "segmentation": LEFT}]
    reader = kites(tmp_path, images, parts, "1.jpg")
    assert reader.remarks() == ["instances.json: 1 of 2 annotations name no image of the file"]
    report = inspect_dataset(entry_of(tmp_path, "coco", ("car",)))
    assert report["sound"] and report["remarks"] == reader.remarks()
    with pytest.raises(DatasetError, match="all 1 annotations name no image of the file: `image_id` is 7"):
        kites(tmp_path, images, parts[1:], "1.jpg").masks("1")
    with pytest.raises(DatasetError, match=r"image id 1 names '1\.jpg' and '2\.jpg'"):
        kites(tmp_path, [*images, {"id": 1, "file_name": "2.jpg"}], parts, "1.jpg").masks("1")


def test_outlines_of_another_size(tmp_path: Path) -> None:
    """Wholly outside: refused; further out than a hand slips: said by ``inspect``."""
    images = [{"id": 1, "file_name": "1.jpg"}]
    away = [[30, 20, 40, 20, 40, 30]]
    with pytest.raises(DatasetError, match=r"annotation 0 of '1\.jpg': a polygon lies outside of its image of 8x6"):
        kites(tmp_path, images, [{"image_id": 1, "segmentation": away}], "1.jpg").masks("1")
    for far, said in ((9.5, False), (16, True)):
        wide = [[0, 0, far, 0, far, 6, 0, 6]]
        reader = kites(tmp_path, images, [{"image_id": 1, "segmentation": part} for part in (wide, LEFT)], "1.jpg")
        assert bounds(reader, "1") == (0, 0, 8, 6)
        leave = "instances.json: 1 of 2 annotations leave their image: are they for images of another size?"
        assert reader.remarks() == ([leave] if said else [])


def test_coordinates_that_are_shares_of_the_image(tmp_path: Path) -> None:
    """They would mark a single pixel of each image; small polygons among others are nobody's business."""
    images, parts = [{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1, "segmentation": square(0, 0, 0.5, 1)}]
    with pytest.raises(DatasetError, match="they seem to be shares of the image"):
        kites(tmp_path, images, parts, "1.jpg").masks("1")
    reader = kites(tmp_path, images, [*parts, {"image_id": 1, "segmentation": LEFT}], "1.jpg")
    assert bounds(reader, "1") == (0, 0, 4, 3)


def test_a_key_that_stands_there_twice(tmp_path: Path) -> None:
    """Of two lists of annotations the last would count."""
    reader = kites(tmp_path, [{"id": 1, "file_name": "1.jpg"}], [{"image_id": 1, "segmentation": LEFT}], "1.jpg")
    file = tmp_path / "instances.json"
    file.write_text(file.read_text()[:-1] + ', "annotations": []}')
    with pytest.raises(DatasetError, match="keys are named twice among categories, images, annotations, annotations"):
        reader.masks("1")


NOTATIONS = (int, str, float)  # of ids
PREFIXES = ("", "./", "/data/photos/", "C:\\photos\\")


class Album:
    """A random data set in COCO's layout, and its masks by a loop that knows which image each annotation is of.

    Images of one name lie in several folders, of which some have several ids, some are in the file alone, some in the
    data set alone; instances are rectangles, run lengths (plain or compressed) and crowds; some annotations are strays.
    """

    def __init__(self, root: Path, seed: int):
        self.random = np.random.default_rng(seed)
        folders = ["left", "right", "deep/middle"][: 1 + self.pick(3)]
        every = [f"{folder}/{number}.png" for folder in folders for number in range(1 + self.pick(3))]
        by_stem = {Path(path).stem: path for path in self.random.permutation(every)}  # ids of examples are stems
        self.paths = sorted(by_stem.values())
        self.missing = {path for path in self.paths if self.pick(5) == 0}
        self.truth = {path: {} for path in every}
        self.size = (3 + self.pick(9), 3 + self.pick(9))
        self.images: list[dict[str, Any]] = []
        self.parts: list[dict[str, Any]] = []
        for path in self.random.permutation([path for path in every if path not in self.missing]):
            self.add(str(path))
        self.strays = self.pick(3)
        self.parts += [{"image_id": f"no-{n}", "category_id": 1, "segmentation": []} for n in range(self.strays)]
        content = {"images": self.images, "annotations": self.parts, "categories": COCO_CATEGORIES}
        self.random.shuffle(self.parts)
        for path in self.paths:
            write_image(root / path, self.size)
        rows = [{"image_path": path, **dict.fromkeys(CONCEPTS, 1), "split": "cal"} for path in self.paths]
        write_csv(root / "metadata.csv", rows)
        (root / "instances.json").write_text(json.dumps(content))

    def pick(self, n: int) -> int:
        return int(self.random.integers(n))

    def add(self, path: str) -> None:
        """One image under one or two ids, with up to three instances."""
        prefix = PREFIXES[self.pick(len(PREFIXES))]
        ids = [len(self.images) + offset for offset in range(1 + (self.pick(3) == 0))]
        for number in ids:
            shown = {"file_name": prefix + path, "width": self.size[0], "height": self.size[1]}
            self.images.append({"id": NOTATIONS[self.pick(2)](number), **shown})
        for _ in range(self.pick(4)):
            category = COCO_CATEGORIES[self.pick(len(COCO_CATEGORIES))]
            shape, mask = self.shape()
            notation, number = NOTATIONS[self.pick(3)], ids[self.pick(len(ids))]
            written = str(number) if notation is str else notation(number)
            crowd = int(isinstance(shape, dict))
            part = {"image_id": written, "category_id": category["id"], "segmentation": shape, "iscrowd": crowd}
            self.parts.append(part)
            for name in {category["name"], category["supercategory"]}:
                before = self.truth[path].get(name, np.zeros_like(mask))
                self.truth[path][name] = before | mask

    def shape(self) -> tuple[Any, np.ndarray]:
        """A segmentation, and its pixels."""
        width, height = self.size
        mask = np.zeros((height, width), bool)
        kind = self.pick(3)
        if kind == 0:
            boxes = []
            for _ in range(1 + self.pick(2)):
                left, top = self.pick(width - 1), self.pick(height - 1)
                right, bottom = left + 2 + self.pick(width - left - 1), top + 2 + self.pick(height - top - 1)
                boxes += square(left, top, min(right, width), min(bottom, height))
                mask[top:bottom, left:right] = True
            return boxes, mask
        mask = self.random.random(mask.shape) < 0.4
        if kind == 1:
            return {"size": [height, width], "counts": run_lengths(mask)}, mask
        return {"size": [height, width], "counts": rasterise.encode(np.asfortranarray(mask))["counts"].decode()}, mask


@pytest.mark.parametrize("seed", range(25))
def test_any_album_is_read_as_a_loop_over_its_instances_says(tmp_path: Path, seed: int) -> None:
    album = Album(tmp_path, seed)
    reader: Any = open_dataset(entry_of(tmp_path, "coco", CONCEPTS))
    if album.strays and album.strays == len(album.parts):
        with pytest.raises(DatasetError, match="name no image of the file"):
            reader.remarks()
        return
    assert reader.remarks() == (
        [f"instances.json: {album.strays} of {len(album.parts)} annotations name no image of the file"]
        if album.strays
        else []
    )
    for record in reader.records:
        if record.path in album.missing:
            with pytest.raises(DatasetError, match="is not annotated"):
                reader.masks(record.example_id)
            continue
        masks = {concept: np.asarray(mask) > 0 for concept, mask in reader.masks(record.example_id).items()}
        expected = {name: mask for name, mask in album.truth[record.path].items() if name in CONCEPTS}
        assert masks.keys() == expected.keys()
        assert all((masks[name] == mask).all() for name, mask in expected.items())


def test_other_encoding_is_said_in_a_line(tmp_path: Path) -> None:
    """The library's own error holds the whole file."""
    root = images(tmp_path, (1, 0, 1))
    file = write_coco(root, {f"{name(0)}.jpg": [{"category_id": 3, "segmentation": square(0, 0, 4, 4)}]})
    file.write_bytes(file.read_text().encode("utf-16"))
    with pytest.raises(DatasetError, match=r"it is not UTF-8 \(byte 0xff at 0\)") as caught:
        open_dataset(entry_of(root, "coco", CONCEPTS)).masks(name(0))  # type: ignore[attr-defined]
    assert len(str(caught.value)) < 1000


def test_outlines_that_are_not_where_their_box_is(tmp_path: Path) -> None:
    """Polygons and run lengths, beside boxes as published and rounded ones; and annotations without an outline."""
    images = [{"id": 1, "file_name": "1.jpg"}]
    inside = np.zeros((6, 8), np.uint8)
    inside[2:5, 3:6] = 1
    runs = {"counts": run_lengths(inside), "size": [6, 8]}
    polygons = [*square(0, 0, 3, 3), *square(5, 3, 8, 6)]
    sound = [(polygons, [0, 0, 8, 6]), (runs, [3, 2, 3, 3]), (runs, [3, 2, 4, 4]), (polygons, None), (runs, [1, 2])]
    for shape, box in sound:
        parts = [{"image_id": 1, "segmentation": shape, "bbox": box}]
        assert kites(tmp_path, images, parts, "1.jpg").remarks() == []
    wrong = [(polygons[:1], [0, 0, 8, 6]), (runs, [0, 2, 3, 3]), (polygons, [0, 0, 8, float("nan")])]
    for shape, box in wrong:
        parts = [{"image_id": 1, "segmentation": shape, "bbox": box}, {"image_id": 1, "segmentation": []}]
        assert kites(tmp_path, images, parts, "1.jpg").remarks() == [
            "instances.json: 1 of 2 annotations have no outline",
            "instances.json: 1 of 2 annotations have an outline that ends elsewhere than their box",
        ]


def test_run_lengths_along_the_rows(tmp_path: Path) -> None:
    """They sum up to the image's pixels in either order, but show a thing in one of them. Of a square image, of few
    runs and of noise nothing is known.
    """
    y, x = np.mgrid[:60, :90]
    disc = ((y - 25) ** 2 + (x - 40) ** 2 < 15**2).astype(np.uint8)
    pole = ((abs(x - 40 - y // 9) < 3) & (y > 4)).astype(np.uint8)
    noise = (np.random.default_rng(0).random((60, 90)) < 0.5).astype(np.uint8)
    square_disc = disc[:50, 10:60]
    for mask, wrong in ((disc, True), (pole, True), (noise, False), (square_disc, False)):
        height, width = mask.shape
        for order in ("F", "C"):
            down = run_lengths(mask) if order == "F" else run_lengths(mask.reshape(width, height).T)
            assert sum(down) == height * width
            problem = order == "C" and wrong
            shape = {"size": [height, width], "counts": down}
            seen_down, seen_along = borders(shape, height, width)
            assert (seen_along * COMPACT < seen_down) == problem
    write_image(tmp_path / "1.jpg", (90, 60))
    write_csv(tmp_path / "metadata.csv", [{"image_path": "1.jpg", "kite": 1, "split": "cal"}])
    part = {
        "image_id": 1,
        "category_id": 1,
        "segmentation": {"size": [60, 90], "counts": run_lengths(disc.reshape(90, 60).T)},
    }
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 90, "height": 60}],
        "annotations": [part],
        "categories": [{"id": 1, "name": "kite"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="run lengths seem to go along the rows; COCO's go down the columns"):
        open_dataset(entry_of(tmp_path, "coco", ("kite",))).masks("1")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("box", "refused"),
    [
        ([0, 0, 5, 2], True),  # x and y exchanged
        ([4, 10, 10, 4], True),  # for twice the size
        ([0, 0, 2, 5], False),
        ([1, 1, 2, 5], False),  # and a remark: ends elsewhere than its box
    ],
)
def test_outlines_that_have_little_in_common_with_their_box(tmp_path: Path, box: list[int], refused: bool) -> None:
    """Of most annotations of a file, that is no slip. A box of right and bottom ends stands for itself."""
    images = [{"id": 1, "file_name": "1.jpg"}]
    parts = [{"image_id": 1, "segmentation": square(0, 0, 2, 5), "bbox": box}] * 2
    if refused:
        with pytest.raises(DatasetError, match=r"2 of 2 annotations have an outline that has little in common with"):
            kites(tmp_path, images, parts, "1.jpg").remarks()
    else:
        kites(tmp_path, images, parts, "1.jpg").remarks()
    corners = {"image_id": 1, "segmentation": square(4, 3, 8, 6), "bbox": [4, 3, 8, 6]}
    assert "ends elsewhere" in kites(tmp_path, images, [corners], "1.jpg").remarks()[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": {}}, "annotations is no list, but dict"),
        ({"categories": [{"id": 3, "name": ["car"]}]}, r"name \['car'\] is no text"),
        ({"categories": [{"id": 3, "name": "car", "supercategory": 1}]}, "supercategory 1 is no text"),
        ({"categories": [{"id": [3], "name": "car"}]}, r"an id is \[3\], expected a number or a text"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "width": 8.5, "height": 6}]}, "found 8.5, expected a number of"),
        ({"images": [{"id": 1, "file_name": "a.jpg", "width": 1e999, "height": 6}]}, "is no COCO instance file"),
        ({"annotations": [{"image_id": True, "category_id": 3}]}, "an id is True"),
        (
            {"annotations": [{"image_id": 100, "category_id": None, "segmentation": []}]},
            "category_id None is not among",
        ),
        (
            {"categories": [{"id": 3, "name": "Car ", "supercategory": "vehicle"}, *COCO_CATEGORIES]},
            "'Car ' looks like",
        ),
    ],
)
def test_annotation_files_of_other_types(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """Whatever a mapping, a text or a number is not is refused, and not taken for one."""
    root = images(tmp_path, (1, 0, 0))
    file = write_coco(root, {f"{name(0)}.jpg": []})
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **change}))
    with pytest.raises(DatasetError, match=said):
        found(root)


def test_categories_without_the_super_category_that_others_have(tmp_path: Path) -> None:
    root = images(tmp_path, (1, 0, 1))
    file = write_coco(root, {f"{name(0)}.jpg": [{"category_id": 3, "segmentation": square(0, 0, 8, 6)}]})
    content = json.loads(file.read_text())
    del content["categories"][1]["supercategory"]
    file.write_text(json.dumps(content))
    reader = open_dataset(entry_of(root, "coco", CONCEPTS))
    assert reader.remarks() == ["instances_val2017.json: no super-category is named of 'car', but of others"]
