"""The CLEVR layout is read as published, and every bad input is refused with file, line and reason."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sae_assets.catalog import load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import (
    changed_contents,
    changed_regions,
    describe_examples,
    describe_labels,
    registered_contents,
    registered_regions,
)
from sae_assets.datasets import expect_files, open_dataset, open_registered
from sae_assets.datasets.reader import hash_files
from sae_assets.datasets.records import MOST_SHOWN, Record
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.clevr_folder import BOX, CONCEPTS, ClevrFolder


def refusal(folder: ClevrFolder, **changes: object) -> str:
    """The message with which the folder is refused; it always names the data set."""
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder.entry(**changes))
    assert "'pictures'" in str(caught.value)
    return str(caught.value)


def test_records_are_read_in_the_order_of_the_file(folder: ClevrFolder) -> None:
    """Ids are file stems; labels stand in the catalog's order of concepts, not the file's order of columns."""
    reader = open_dataset(folder.entry(concepts=("color::red", "color::blue")))
    assert reader.records == [
        Record("a", "images/a.png", "train", (True, False)),
        Record("b", "images/b.png", "cal", (False, True)),
        Record("c", "images/c.png", "test", (False, False)),
    ]
    assert reader.by_id["b"] is reader.records[1]


def test_columns_beyond_the_concepts_are_ignored(folder: ClevrFolder) -> None:
    """Other columns, and concepts that the catalog does not use, do no harm."""
    folder.write([{"class": "thing", **row, "shape::cube": "maybe"} for row in folder.rows])
    assert len(open_dataset(folder.entry(concepts=("color::red",))).records) == 3


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_labels_in_the_spellings_that_tables_use(folder: ClevrFolder, yes: str, no: str) -> None:
    """Whole numbers, what pandas writes for floats, and what it writes for booleans."""
    folder.write([{**row, **{c: yes if row[c] else no for c in CONCEPTS}} for row in folder.rows])
    assert [record.labels for record in open_dataset(folder.entry()).records] == [
        (False, True),
        (True, False),
        (False, False),
    ]


def test_table_with_byte_order_mark_is_read(folder: ClevrFolder) -> None:
    """What spreadsheet programs put before the first column is no part of its name."""
    table = folder.root / "metadata.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(open_dataset(folder.entry()).records) == 3


def test_images_and_masks(folder: ClevrFolder) -> None:
    """An image comes as RGB, its mask as black and white of the same size."""
    reader = open_dataset(folder.entry())
    image, mask = reader.image("a"), np.asarray(reader.mask("a"))
    assert (image.mode, image.size) == ("RGB", (32, 32))
    expected = np.zeros((32, 32), np.uint8)
    expected[BOX[1] : BOX[3] + 1, BOX[0] : BOX[2] + 1] = 255
    assert (mask == expected).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_images_of_every_mode_come_as_rgb(folder: ClevrFolder, mode: str) -> None:
    """Grey, transparent and palette images are converted."""
    Image.new(mode, (5, 4)).save(folder.root / "images/a.png")
    assert open_dataset(folder.entry()).image("a").mode == "RGB"


def test_missing_folder(tmp_path: Path) -> None:
    """A folder that is not there: the message names it and the catalog's key."""
    message = refusal(ClevrFolder(tmp_path / "nowhere"))
    assert f"{tmp_path / 'nowhere'} does not exist" in message
    assert "`datasets.pictures.root` in the catalog must name a folder with metadata.csv" in message


def test_file_instead_of_folder(tmp_path: Path) -> None:
    """A file given as the root is no folder."""
    (tmp_path / "file").write_text("x")
    assert f"{tmp_path / 'file'}" in refusal(ClevrFolder(tmp_path / "file"))


def test_missing_table(folder: ClevrFolder) -> None:
    """A folder without ``metadata.csv``: the message names the file that is expected."""
    (folder.root / "metadata.csv").unlink()
    assert f"{folder.root / 'metadata.csv'} does not exist" in refusal(folder)


@pytest.mark.parametrize(
    ("wanted", "suggested"), [(("color::blu", "color::red"), "color::blue"), (("colour::red",), "color::red")]
)
def test_misspelt_label_column(folder: ClevrFolder, wanted: tuple[str, ...], suggested: str) -> None:
    """A concept without column: the message names the table, what is there and the nearest name."""
    message = refusal(folder, concepts=wanted)
    assert f"{folder.root / 'metadata.csv'} lacks 1 column(s)" in message
    assert f"{wanted[0]!r} not found among image_path, color::blue, color::red, split" in message
    assert f"did you mean {suggested!r}?" in message


def test_all_missing_columns_are_named_at_once(folder: ClevrFolder) -> None:
    """Path, split and a concept missing: three problems."""
    folder.write([{"file": row["image_path"], "color::red": 1} for row in folder.rows])
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder.entry())
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["'image_path'", "'split'", "'color::blue'"]


def test_column_named_twice(folder: ClevrFolder) -> None:
    """Two columns of one name are ambiguous: neither may be taken silently."""
    table = folder.root / "metadata.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([f"{lines[0]},color::red", *(f"{line},1" for line in lines[1:])]) + "\n")
    message = refusal(folder)
    assert "color::red" in message and "twice" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "val"}, "column 'split': found 'val', expected one of train, cal, test"),
        ({"split": ""}, "column 'split': found '', expected one of train, cal, test"),
        ({"split": "Train"}, "column 'split': found 'Train'"),
        ({"color::red": "2"}, "column 'color::red': found '2', expected 0 or 1"),
        ({"color::red": ""}, "column 'color::red': found '', expected 0 or 1"),
        ({"color::blue": "yes"}, "column 'color::blue': found 'yes', expected 0 or 1"),
        ({"color::blue": "0.5"}, "column 'color::blue': found '0.5', expected 0 or 1"),
        ({"color::blue": "nan"}, "column 'color::blue': found 'nan', expected 0 or 1"),
        ({"image_path": ""}, "column 'image_path': found ''"),
        ({"image_path": "../x.png"}, "column 'image_path': found '../x.png', expected a path inside"),
        ({"image_path": "images/../../x.png"}, "column 'image_path': found 'images/../../x.png', expected a path"),
        ({"image_path": "/etc/passwd"}, "column 'image_path': found '/etc/passwd', expected a path inside"),
        ({"image_path": "images\\a.png"}, "column 'image_path': found 'images\\\\a.png', expected a path inside"),
    ],
)
def test_bad_cell_is_named_with_file_and_line(folder: ClevrFolder, change: dict, said: str) -> None:
    """One wrong cell is one problem: table, line, column, what was found and what is expected."""
    (folder.root.parent / "x.png").write_bytes((folder.root / "images/a.png").read_bytes())
    folder.write([folder.rows[0], {**folder.rows[1], **change}, folder.rows[2]])
    message = refusal(folder)
    assert f"{folder.root / 'metadata.csv'} has 1 problem(s)" in message
    assert f"line 3: {said}" in message


def test_missing_files_are_no_matter_of_opening_and_named_when_they_are_expected(folder: ClevrFolder) -> None:
    """One file that is gone keeps nobody from the others; a folder is no file."""
    folder.write([folder.rows[0], *({**folder.rows[1], "image_path": f"images{end}"} for end in ("/z.png", ""))])
    reader = open_dataset(folder.entry())
    expect_files(reader, reader.records[:1])
    with pytest.raises(DatasetError) as caught:
        expect_files(reader, reader.records)
    assert f"'pictures': {folder.root / 'metadata.csv'} has 2 problem(s)" in str(caught.value)
    assert caught.value.problems == tuple(
        f"line {line}: column 'image_path': file {path!r} does not exist in {folder.root}"
        for line, path in ((3, "images/z.png"), (4, "images"))
    )


def test_wrong_row_keeps_no_registered_example_from_being_read(folder: ClevrFolder) -> None:
    """Stages of registered chunks leave out rows that are wrong, and both of two that share an id."""
    folder.write([*folder.rows, {**folder.rows[0], "image_path": "x/d.png", "color::red": "maybe"}, folder.rows[1]])
    reader = open_registered(folder.entry())
    assert [record.example_id for record in reader.records] == ["a", "c"] and reader.image("a")
    message = refusal(folder)
    assert "line 5: column 'color::red': found 'maybe'" in message and "'b' is named more than once" in message
    # Where a row's place counts, every row has to be right.
    embeddings = {"clip-mini": {"cls": {"path": "rows.pt"}}}
    with pytest.raises(DatasetError, match="maybe"):
        open_registered(folder.entry(embeddings=embeddings))


def test_several_bad_cells_are_reported_together(folder: ClevrFolder) -> None:
    """Two problems on one line and one on another: three lines in the message."""
    folder.write([{**folder.rows[0], "split": "x", "color::red": "x"}, {**folder.rows[1], "image_path": "/x"}])
    with pytest.raises(DatasetError) as caught:
        open_dataset(folder.entry())
    assert [problem.split(": column")[0] for problem in caught.value.problems] == ["line 2", "line 2", "line 3"]


def test_many_problems_are_counted_not_all_shown(folder: ClevrFolder) -> None:
    """A table that is wrong everywhere gives the first problems and how many more there are."""
    folder.write([{**folder.rows[0], "split": f"x{number}"} for number in range(MOST_SHOWN + 5)])
    with pytest.raises(DatasetError, match=rf"{MOST_SHOWN + 5} problem\(s\)") as caught:
        open_dataset(folder.entry())
    assert len(caught.value.problems) == MOST_SHOWN + 1
    assert caught.value.problems[-1] == "… and 5 more"


def test_the_same_problem_of_many_lines_is_one(folder: ClevrFolder) -> None:
    """With the first lines and how many there are."""
    folder.write([{**folder.rows[0], "image_path": "images/a.png", "split": "x"}] * 30)
    with pytest.raises(DatasetError, match=r"has 1 problem\(s\)") as caught:
        open_dataset(folder.entry())
    said = "lines 2, 3, 4, 5, 6 … (30 in all): column 'split': found 'x', expected one of train, cal, test"
    assert caught.value.problems == (said,)


def test_short_row_is_refused(folder: ClevrFolder) -> None:
    """A row with fewer cells than columns is named by its line."""
    with (folder.root / "metadata.csv").open("a") as file:
        file.write("images/a.png,1\n")
    assert "line 5: 2 cells, the header has 4" in refusal(folder)


def test_lines_are_counted_as_an_editor_counts_them(folder: ClevrFolder) -> None:
    """A blank line before the mistake does not shift the line that is named."""
    table = folder.root / "metadata.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], "", lines[1], lines[2].replace("cal", "val"), lines[3]]) + "\n")
    assert "line 4: column 'split'" in refusal(folder)


@pytest.mark.parametrize("second", ["images/a.png", "more/a.png", "images/a.jpg"])
def test_duplicate_ids(folder: ClevrFolder, second: str) -> None:
    """Ids are file stems: the same one in another folder or with another ending is refused."""
    (folder.root / second).parent.mkdir(exist_ok=True)
    if second != "images/a.png":
        shutil.copy(folder.root / "images/a.png", folder.root / second)
    folder.write([*folder.rows, {**folder.rows[0], "image_path": second}])
    message = refusal(folder)
    assert f"{folder.root / 'metadata.csv'} has 1 problem(s)" in message
    assert "example 'a' is named more than once" in message


def test_duplicate_ids_are_named_with_their_lines(folder: ClevrFolder) -> None:
    """Two examples of one id: both lines are said, so that they are found in a long table."""
    folder.write([*folder.rows, folder.rows[0]])
    message = refusal(folder)
    assert "2" in message.split("example 'a'")[1] and "5" in message.split("example 'a'")[1]


def test_table_without_examples(folder: ClevrFolder) -> None:
    """A header alone is refused."""
    folder.write([])
    assert f"{folder.root / 'metadata.csv'} has a header but no examples" in refusal(folder)


def test_empty_file(folder: ClevrFolder) -> None:
    """A table of no bytes has no columns."""
    (folder.root / "metadata.csv").write_bytes(b"")
    assert "no columns" in refusal(folder)


@pytest.mark.parametrize("content", [b"image_path,split\n\xff\xfe,cal\n", b'image_path,split\n"a,cal\n'])
def test_table_that_is_no_csv(folder: ClevrFolder, content: bytes) -> None:
    """Bytes that are no UTF-8 and quotes that never close are refused with the file's name."""
    (folder.root / "metadata.csv").write_bytes(content)
    message = refusal(folder, concepts=("split",))
    assert f"{folder.root / 'metadata.csv'} is not readable CSV" in message


def test_missing_image_after_opening(folder: ClevrFolder) -> None:
    """An image that goes missing later is named, with what to do."""
    reader = open_dataset(folder.entry())
    (folder.root / "images/a.png").unlink()
    with pytest.raises(DatasetError, match=r"'pictures'.*'images/a\.png' does not exist") as caught:
        reader.image("a")
    assert "Restore the file" in str(caught.value)


def _text(content: bytes) -> bytes:
    return b"this is no image"


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _nothing(content: bytes) -> bytes:
    return b""


def _header_length(content: bytes) -> bytes:
    return content[:11] + b"\x00" + content[12:]


def _data_length(content: bytes) -> bytes:
    place = content.index(b"IDAT") - 1
    return content[:place] + bytes([content[place] - 9]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [_text, _half, _nothing, _header_length, _data_length])
def test_unreadable_image(folder: ClevrFolder, damage: Callable[[bytes], bytes]) -> None:
    """Whatever is wrong with an image file, it is refused by its path."""
    reader = open_dataset(folder.entry())
    file = folder.root / "images/a.png"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DatasetError, match=r"'pictures': 'images/a\.png' is not a readable image"):
        reader.image("a")
    gc.collect()  # a file left open is reported here, not in a later test


@pytest.mark.parametrize("damage", [_text, _half, _nothing])
def test_unreadable_mask(folder: ClevrFolder, damage: Callable[[bytes], bytes]) -> None:
    """A mask file that is no image is refused by its path, as an image is."""
    reader = open_dataset(folder.entry())
    file = folder.root / "masks/a.png"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DatasetError, match=r"'pictures'.*a\.png"):
        reader.mask("a")
    gc.collect()  # a file left open is reported here, not in a later test


@pytest.mark.parametrize("masks", ["files", "auto"])
def test_mask_of_another_size(folder: ClevrFolder, masks: str) -> None:
    """A mask that does not fit its image: both sizes and the file are named."""
    Image.new("L", (30, 32), 255).save(folder.root / "masks/a.png")
    with pytest.raises(DatasetError, match=r"mask a\.png is 30x32, its image 32x32 pixels"):
        open_dataset(folder.entry(masks=masks)).mask("a")


def test_missing_mask_where_masks_are_files(folder: ClevrFolder) -> None:
    """With ``masks: files`` a missing mask is an error that names the file and the other setting."""
    (folder.root / "masks/a.png").unlink()
    with pytest.raises(DatasetError, match="does not exist") as caught:
        open_dataset(folder.entry(masks="files")).mask("a")
    assert str(folder.root / "masks/a.png") in str(caught.value)
    assert "`masks: colour-difference`" in str(caught.value)


def test_missing_mask_falls_back_to_colours_by_default(folder: ClevrFolder) -> None:
    """With ``masks: auto`` the object is where the channels differ; here that is exactly the file's mask."""
    from_file = open_dataset(folder.entry(masks="files")).mask("a")
    shutil.rmtree(folder.root / "masks")
    for masks in ("auto", "colour-difference"):
        found = open_dataset(folder.entry(masks=masks)).mask("a")
        assert (np.asarray(found) == np.asarray(from_file)).all()


@pytest.mark.parametrize(("difference", "inside"), [(0, False), (20, False), (21, True), (255, True)])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colour_difference_is_more_than_twenty(
    folder: ClevrFolder, difference: int, inside: bool, channel: int
) -> None:
    """A pixel is the object's when two of its channels differ by more than 20 grey levels."""
    colour = [0, 0, 0]
    colour[channel] = difference
    Image.new("RGB", (4, 4), tuple(colour)).save(folder.root / "images/a.png")
    mask = open_dataset(folder.entry(masks="colour-difference")).mask("a")
    assert (np.asarray(mask) == (255 if inside else 0)).all()


def test_masks_of_both_kinds_agree_on_the_packaged_images() -> None:
    """On rendered images the colour rule finds what the exact mask files hold, but for the JPEG's borders."""
    entry = load_catalog().datasets["clevr_mini"]
    files = open_dataset(entry.model_copy(update={"masks": "files"}))
    colours = open_dataset(entry.model_copy(update={"masks": "colour-difference"}))
    overlaps = []
    for record in files.records[::8]:
        exact = np.asarray(files.mask(record.example_id)) > 0
        found = np.asarray(colours.mask(record.example_id)) > 0
        overlaps.append((exact & found).sum() / (exact | found).sum())
    assert len(overlaps) == 40
    assert min(overlaps) > 0.9
    assert np.mean(overlaps) > 0.95


def test_files_behind_an_example(folder: ClevrFolder) -> None:
    """The image is the content; the mask says where each true concept is, if it counts and is there."""
    image, mask = folder.root / "images/a.png", folder.root / "masks/a.png"
    reader = open_dataset(folder.entry())
    assert reader.content_hash("a") == hash_files([image])
    assert reader.region_hashes("a") == {"color::red": hash_files([mask])}
    assert reader.region_hashes("c") == {}
    drawn = {"color::red": "colour-difference"}
    assert open_dataset(folder.entry(masks="colour-difference")).region_hashes("a") == drawn
    mask.unlink()
    assert reader.region_hashes("a") == drawn and reader.content_hash("a") == hash_files([image])


def test_one_mask_serves_every_true_concept(folder: ClevrFolder) -> None:
    """The object's mask comes once per concept that the table says is true, and not at all without one."""
    reader = open_dataset(folder.entry())
    assert set(reader.masks("a")) == {"color::red"}
    assert (np.asarray(reader.masks("a")["color::red"]) == np.asarray(reader.mask("a"))).all()
    assert reader.masks("c") == {}


def test_unknown_example_is_named(folder: ClevrFolder) -> None:
    """An id that the table does not hold."""
    with pytest.raises(DatasetError, match=r"'pictures' has no example 'images/a\.png'"):
        open_dataset(folder.entry()).image("images/a.png")


def test_a_chunk_is_described_from_its_manifest(folder: ClevrFolder) -> None:
    """Order and position come from the manifest, everything else from the table."""
    manifest, reader = Manifest("0001", 7, ("c", "a")), open_dataset(folder.entry())
    chunk, labels = describe_examples(manifest, reader), describe_labels(manifest, reader)
    assert chunk.first_index == labels.first_index == 7
    assert chunk.example_ids == labels.example_ids == ("c", "a")
    assert chunk.paths == ("images/c.png", "images/a.png")
    assert labels.concepts == CONCEPTS
    assert labels.splits == ("test", "train")
    assert labels.labels.tolist() == [[False, False], [False, True]]


def test_examples_that_are_gone_are_named(folder: ClevrFolder) -> None:
    """A registered example that the table no longer names is an error: a chunk never changes."""
    reader = open_dataset(folder.entry())
    for describe in (describe_examples, describe_labels):
        with pytest.raises(DatasetError, match=r"chunk 0003 was registered with 2 example\(s\)") as caught:
            describe(Manifest("0003", 0, ("a", "x", "y")), reader)
        assert caught.value.problems == ("x", "y")


def test_hashes_follow_the_files(folder: ClevrFolder) -> None:
    """A changed image or mask changes the hash of its example and of no other."""
    reader = open_dataset(folder.entry())
    manifest = Manifest("0000", 0, ("a", "b", "c"))  # without hashes, as earlier versions wrote it: files count
    contents, regions = registered_contents(manifest, reader), registered_regions(manifest, reader)
    assert len(set(contents)) == 3
    Image.new("L", (32, 32), 77).save(folder.root / "images/b.png")
    other = registered_contents(manifest, reader)
    assert [one == two for one, two in zip(contents, other, strict=True)] == [True, False, True]
    assert registered_regions(manifest, reader) == regions
    Image.new("L", (32, 32), 77).save(folder.root / "masks/b.png")
    moved = registered_regions(manifest, reader)
    assert [one == two for one, two in zip(regions, moved, strict=True)] == [True, False, True]
    assert registered_contents(manifest, reader) == other


def test_registered_hashes_stay_and_changes_are_named(folder: ClevrFolder) -> None:
    """A chunk keeps the hashes it was registered with; what is no longer so is said per example."""
    reader = open_dataset(folder.entry())
    manifest = Manifest("0000", 0, ("a", "b", "c"), content_hashes=tuple(map(reader.content_hash, "abc")),
                        region_hashes=tuple(map(reader.region_hashes, "abc")))  # fmt: skip
    before = registered_contents(manifest, reader), registered_regions(manifest, reader)
    assert changed_contents(manifest, reader) == changed_regions(manifest, reader) == {}
    Image.new("L", (32, 32), 77).save(folder.root / "masks/b.png")
    (folder.root / "images/c.png").unlink()
    assert (registered_contents(manifest, reader), registered_regions(manifest, reader)) == before
    assert changed_contents(manifest, reader) == {"c": "vanished"}
    (changed,) = changed_regions(manifest, reader).items()
    assert changed[0] == "b" and changed[1].startswith("changed where it shows color::")
