"""Users' own tables: CSV and Parquet, paths and bytes, label columns and lists, masks and spans, drawn splits."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sae_assets.catalog import SeededSplit
from sae_assets.datasets import ImageReader, Reader, TextReader, expect_files, open_dataset
from sae_assets.datasets.records import Record, draw_split
from sae_assets.errors import DatasetError
from sae_assets_tests.datasets.layouts import entry_of, write_csv, write_image

CONCEPTS = ("wing", "beak")


def opened(root: Path, **changes: Any) -> Any:
    reader = open_dataset(entry_of(root, "table", changes.pop("concepts", CONCEPTS), **changes))
    assert isinstance(reader, (ImageReader, TextReader))
    return reader


def refusal(root: Path, **changes: Any) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        opened(root, **changes)
    assert "Data set 'table'" in str(caught.value)
    return caught.value


def png(colour: Any = (1, 2, 3), size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    Image.new(mode, size, colour).save(content, "PNG")
    return content.getvalue()


def row(name: str, wing: Any = 1, beak: Any = 0, **cells: Any) -> dict[str, Any]:
    return {"image": f"{name}.png", "wing": wing, "beak": beak, "split": "cal", **cells}


def birds(root: Path, *rows: dict[str, Any]) -> Path:
    for each in rows:
        write_image(root / each["image"])
    write_csv(root / "birds.csv", rows)
    return root


def test_folder_or_file(tmp_path: Path) -> None:
    """The only table of a folder, or the table itself; ids are file stems."""
    birds(tmp_path, row("x/a"), row("b", 0, 1, split="test"))
    expected = [Record("a", "x/a.png", "cal", (True, False)), Record("b", "b.png", "test", (False, True))]
    for root in (tmp_path, tmp_path / "birds.csv"):
        reader = opened(root)
        assert reader.records == expected
        assert reader.image("a").size == (8, 6)
        assert not reader.has_regions and reader.masks("a") == {}


def test_tables_that_are_none_or_too_many(tmp_path: Path) -> None:
    """What is there is said, and how to choose."""
    assert "holds no table" in str(refusal(tmp_path))
    birds(tmp_path, row("a"))
    write_csv(tmp_path / "other.csv", [row("a")])
    assert "holds 2 tables (birds.csv, other.csv)" in str(refusal(tmp_path))
    (tmp_path / "other.csv").rename(tmp_path / "metadata.csv")
    assert len(opened(tmp_path).records) == 1
    assert "root` in the catalog must name a table: a .csv, .tsv or .parquet file" in str(refusal(tmp_path / "nowhere"))
    (tmp_path / "birds.txt").touch()
    assert "neither a folder nor a .csv, .tsv or .parquet file" in str(refusal(tmp_path / "birds.txt"))


def test_published_path_columns_are_known(tmp_path: Path) -> None:
    """``image_path`` and ``text_path`` serve where ``image`` and ``text`` are not there."""
    write_image(tmp_path / "a.png")
    write_csv(tmp_path / "metadata.csv", [{"image_path": "a.png", "wing": 1, "beak": 1, "split": "cal"}])
    assert opened(tmp_path).image("a").size == (8, 6)
    (tmp_path / "a.txt").write_bytes("é\r\n".encode())
    write_csv(tmp_path / "metadata.csv", [{"text_path": "a.txt", "wing": 1, "beak": 1, "split": "cal"}])
    assert opened(tmp_path, modality="text").text("a") == "é\r\n"


@pytest.mark.parametrize("cell", ["wing;beak", '["wing", "beak"]', " wing ; beak;tail "])
def test_one_column_of_labels(tmp_path: Path, cell: str) -> None:
    """A list, separated by semicolons or as JSON, in the column that the catalog names."""
    rows = [{"image": "a.png", "is": cell, "split": "cal"}, {"image": "b.png", "is": "", "split": "cal"}]
    birds(tmp_path, *rows)
    records = opened(tmp_path, columns={"labels": "is"}).records
    assert [record.labels for record in records] == [(True, True), (False, False)]


def test_masks_per_concept_and_for_all(tmp_path: Path) -> None:
    """``masks/<concept>/<name>.png`` before ``masks/<name>.png``; the latter serves several concepts at once."""
    birds(tmp_path, row("a", 1, 1), row("b", 1, 1))
    for place, box in (("wing/a", (0, 0, 4, 6)), ("a", (4, 0, 8, 6)), ("b", (0, 0, 8, 3))):
        mask = np.zeros((6, 8), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = 200
        (tmp_path / "masks" / f"{place}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{place}.png")
    reader = opened(tmp_path)
    assert reader.has_regions
    masks = reader.masks("a")
    assert masks["wing"].getbbox() == (0, 0, 4, 6) and masks["beak"].getbbox() == (4, 0, 8, 6)
    both = reader.masks("b")
    assert both["wing"] is both["beak"] and both["wing"].getbbox() == (0, 0, 8, 3)


def test_missing_mask_of_a_true_concept(tmp_path: Path) -> None:
    """Where there are masks at all, a missing one is said with the places where it was looked for."""
    birds(tmp_path, row("a", 0, 1), row("b", 0, 0))
    (tmp_path / "masks").mkdir()
    reader = opened(tmp_path)
    assert reader.masks("b") == {}
    with pytest.raises(DatasetError, match=r"masks/beak/a\.png or .*masks/a\.png"):
        reader.masks("a")
    with pytest.raises(DatasetError, match="'beak' is true of 'a'"):
        reader.region_hashes("a")


def test_mask_column(tmp_path: Path) -> None:
    """One file for all concepts of an example; needed where any is true, looked at nowhere else."""
    rows = [row("a", 1, 1, where="m/one.png"), row("b", 0, 0, where="")]
    birds(tmp_path, *rows)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/one.png").write_bytes(png(255, mode="L"))
    reader = opened(tmp_path, columns={"mask": "where"})
    assert set(reader.masks("a")) == {"wing", "beak"} and reader.masks("b") == {}
    birds(tmp_path, row("a", 1, 1, where="../one.png"), row("b", 1, 0, where=""))
    assert [p.split(": found")[0] for p in refusal(tmp_path, columns={"mask": "where"}).problems] == [
        "line 2: column 'where'",
        "line 3: column 'where'",
    ]
    assert "'wher' not found" in refusal(tmp_path, columns={"mask": "wher"}).problems[0]


def test_hostile_ids_are_no_mask_paths(tmp_path: Path) -> None:
    """An id with slashes never becomes a path."""
    write_parquet(tmp_path / "a.parquet", [{**row("x"), "image": png(), "id": "../secret"}])
    (tmp_path / "masks").mkdir()
    (tmp_path / "secret.png").write_bytes(png(255, mode="L"))
    reader = opened(tmp_path, columns={"id": "id"})
    with pytest.raises(DatasetError, match="there is no mask at a plain file name"):
        reader.masks("../secret")


@pytest.mark.parametrize("hostile", ["../x.png", "/etc/passwd", "a\\b.png", ""])
def test_paths_stay_inside(tmp_path: Path, hostile: str) -> None:
    """Nothing outside the folder is read."""
    write_image(tmp_path / "x.png")
    birds(tmp_path / "set", row("a"))
    write_csv(tmp_path / "set/birds.csv", [{**row("a"), "image": hostile}])
    (problem,) = refusal(tmp_path / "set").problems
    assert problem.startswith("line 2: column 'image': ")


def test_missing_images_and_masks_are_named_when_they_are_expected(tmp_path: Path) -> None:
    """A mask is expected of examples that are positive for something."""
    write_image(tmp_path / "a.png")
    write_csv(tmp_path / "birds.csv", [row("a", mask="m.png"), row("b", mask="m.png"), row("c", 0, mask="m.png")])
    reader = opened(tmp_path, columns={"mask": "mask"})
    with pytest.raises(DatasetError) as caught:
        expect_files(reader, reader.records)
    assert caught.value.problems == (
        f"lines 2, 3: column 'mask': file 'm.png' does not exist in {tmp_path}",
        f"line 3: column 'image': file 'b.png' does not exist in {tmp_path}",
        f"line 4: column 'image': file 'c.png' does not exist in {tmp_path}",
    )


def test_text_that_is_not_there_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    """Its spans are looked at when it is read."""
    (tmp_path / "a.txt").write_text("a wing")
    spans = json.dumps([[2, 6, "wing"]])
    rows = [{"text_path": f"{name}.txt", "wing": 1, "beak": 0, "split": "cal", "spans": spans} for name in "ab"]
    write_csv(tmp_path / "birds.csv", rows)
    reader = opened(tmp_path, modality="text")
    assert reader.spans("a") == {"wing": [(2, 6)]}
    with pytest.raises(DatasetError, match=r"'b\.txt' does not exist"):
        reader.spans("b")
    with pytest.raises(DatasetError) as caught:
        expect_files(reader, reader.records)
    assert caught.value.problems == (f"line 3: column 'text_path': file 'b.txt' does not exist in {tmp_path}",)


def test_labels_do_not_depend_on_whether_a_text_is_there(tmp_path: Path) -> None:
    """Spans alone say what is true of a text; that it arrives, later and in a folder of its own, changes no label."""
    spans = json.dumps([{"start": 2, "end": 6, "label": "wing"}])
    write_csv(tmp_path / "birds.csv", [{"text_path": "texts/a.txt", "split": "cal", "spans": spans}])
    before = opened(tmp_path, modality="text")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("a wing")
    after = opened(tmp_path, modality="text")
    assert before.records[0].labels == after.records[0].labels == (True, False)
    assert list(after.missing(after.records[0])) == [] and after.spans("a") == {"wing": [(2, 6)]}


def test_table_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Every stage of every run opens its data set; a changed table, or entry, is another one."""
    birds(tmp_path, row("a"), row("b"))
    first = opened(tmp_path)
    assert opened(tmp_path) is first
    assert opened(tmp_path, concepts=("beak", "wing")).records[0].labels == (False, True)
    birds(tmp_path, row("a"), row("b"), row("c"))
    assert [record.example_id for record in opened(tmp_path).records] == ["a", "b", "c"]


def test_problems_of_all_lines_together(tmp_path: Path) -> None:
    """Split, labels and ids that stand twice: all in one message."""
    birds(tmp_path, row("a", split="dev"), row("b", "yes", ""), row("c"), row("x/c"))
    assert refusal(tmp_path).problems == (
        "line 2: column 'split': found 'dev', expected one of train, cal, test",
        "line 3: column 'wing': found 'yes', expected 0 or 1",
        "line 3: column 'beak': found '', expected 0 or 1",
        "example 'c' is named more than once (lines 4, 5); ids (file stems) must differ",
    )


def test_missing_columns_with_suggestions(tmp_path: Path) -> None:
    """Concepts without column name the nearest one, and the other way of labelling."""
    birds(tmp_path, row("a"))
    error = refusal(tmp_path, concepts=("wings", "beak"))
    assert "`columns: {labels: …}` names another one" in str(error)
    assert error.problems == ("'wings' not found among image, wing, beak, split; did you mean 'wing'?",)


@pytest.mark.parametrize(
    ("columns", "near"), [({"labels": "tag"}, "tags"), ({"id": "idd"}, "id"), ({"spans": "mark"}, "marks")]
)
def test_named_columns_must_be_there(tmp_path: Path, columns: dict[str, str], near: str) -> None:
    """A column that the catalog names is never silently taken for empty."""
    write_csv(tmp_path / "a.csv", [{"text": "a", "tags": "wing", "marks": "", "id": 1, "split": "cal"}])
    given = {"labels": "tags", **columns}
    assert f"did you mean {near!r}?" in refusal(tmp_path, modality="text", columns=given).problems[0]


def test_columns_named_twice(tmp_path: Path) -> None:
    """Two columns of one name are ambiguous."""
    birds(tmp_path, row("a"))
    (tmp_path / "birds.csv").write_text("image,wing,beak,split,wing\na.png,1,0,cal,0\n")
    assert "names columns twice: wing" in str(refusal(tmp_path))


def write_parquet(path: Path, rows: list[dict[str, Any]], schema: pa.Schema | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), path, **options)
    return path


@pytest.mark.parametrize("as_struct", [False, True])
def test_images_as_bytes(tmp_path: Path, as_struct: bool) -> None:
    """Bytes, or structs with bytes as the hub's files have them; ids are row numbers, after the file's name."""
    for name, count in (("one", 40), ("two", 3)):
        images = [png((place, 0, 0)) for place in range(count)]
        cells = [{"bytes": image, "path": "x.png"} if as_struct else image for image in images]
        rows = [{**row("x"), "image": cell} for cell in cells]
        write_parquet(tmp_path / f"{name}.parquet", rows, row_group_size=16)
    reader = opened(tmp_path)
    assert [record.example_id for record in reader.records][38:42] == ["one-39", "one-40", "two-1", "two-2"]
    for example in ("one-1", "one-40", "two-3", "one-2", "one-33"):  # forwards, to another file, and back again
        assert reader.image(example).getpixel((0, 0))[0] == int(example.split("-")[1]) - 1
    deferred = [reader.deferred_image(record.example_id) for record in reader.records]
    assert [image().getpixel((0, 0))[0] for image in deferred[::-1]] == [2, 1, 0, *range(39, -1, -1)]
    assert len({reader.content_hash(record.example_id) for record in reader.records}) == 40
    assert opened(tmp_path / "two.parquet").records[0] == Record("1", "two.parquet", "cal", (True, False))


def test_masks_as_bytes_and_labels_as_lists(tmp_path: Path) -> None:
    """A Parquet table that holds everything."""
    rows = [
        {"image": png(), "labels": ["wing"], "mask": png(255, mode="L"), "split": "cal", "id": "x"},
        {"image": png(), "labels": [], "mask": None, "split": "test", "id": "y"},
        {"image": None, "labels": ["beak"], "mask": None, "split": "test", "id": "z"},
    ]
    reader = opened(write_parquet(tmp_path / "a.parquet", rows), columns={"mask": "mask", "id": "id"})
    assert [record.labels for record in reader.records] == [(True, False), (False, False), (False, True)]
    assert set(reader.masks("x")) == {"wing"} and reader.masks("y") == {}
    with pytest.raises(DatasetError, match=r"row 3: column 'image' holds no bytes for 'z'"):
        reader.image("z")


def test_bytes_that_are_no_image(tmp_path: Path) -> None:
    """The example is named."""
    reader = opened(write_parquet(tmp_path / "a.parquet", [{**row("a"), "image": b"text"}]))
    with pytest.raises(DatasetError, match="the image of '1' is not a readable image"):
        reader.image("1")


def test_paths_in_parquet_and_other_columns(tmp_path: Path) -> None:
    """Paths as in CSV; columns that nobody asks for are not even read."""
    write_image(tmp_path / "a.png")
    rows = [{**row("a", True, False), "embedding": [0.5] * 4}]
    reader = opened(write_parquet(tmp_path / "a.parquet", rows))
    assert reader.records == [Record("a", "a.png", "cal", (True, False))]
    assert reader.image("a").size == (8, 6)


def test_files_that_are_no_parquet_or_differ(tmp_path: Path) -> None:
    """The file is named."""
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    assert "b.parquet is not readable Parquet" in str(refusal(tmp_path))
    write_parquet(tmp_path / "a.parquet", [{**row("a"), "image": png()}])
    write_parquet(tmp_path / "b.parquet", [{"other": 1}])
    assert "b.parquet has other columns than a.parquet" in str(refusal(tmp_path))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_texts_with_spans(tmp_path: Path, form: str) -> None:
    """Texts in cells, spans as JSON in CSV and as lists in Parquet."""
    spans = [{"start": 1, "end": 3, "label": "wing"}]
    rows: list[dict[str, Any]] = [{"text": "a😀\r\nb", "spans": spans, "wing": 1, "beak": 1, "split": "cal"}]
    if form == "csv":
        write_csv(tmp_path / "a.csv", [{**each, "spans": json.dumps(each["spans"])} for each in rows])
    else:
        write_parquet(tmp_path / "a.parquet", rows)
    reader = opened(tmp_path, modality="text")
    assert reader.text("1") == "a😀\r\nb"
    assert reader.spans("1") == {"wing": [(1, 3)]}
    assert reader.has_regions


def test_span_of_a_concept_that_its_column_denies(tmp_path: Path) -> None:
    """0 and a span of it contradict each other."""
    write_csv(tmp_path / "a.csv", [{"text": "ab", "spans": '[[0, 1, "wing"]]', "wing": 0, "beak": 1, "split": "cal"}])
    assert refusal(tmp_path, modality="text").problems == ("line 2: column 'wing': found 0, but there are spans of it",)


def test_long_texts(tmp_path: Path) -> None:
    """Longer than the csv module reads by itself."""
    write_csv(tmp_path / "a.csv", [{"text": "x" * 300_000, "wing": 0, "beak": 1, "split": "cal"}])
    assert len(opened(tmp_path, modality="text").text("1")) == 300_000


SPLIT = {"train": 0.5, "cal": 0.25, "test": 0.25, "seed": 3}


def splits(reader: Reader) -> dict[str, str]:
    return {record.example_id: record.split for record in reader.records}


def test_growing_data_move_nobody(tmp_path: Path) -> None:
    """Examples keep their split when others come before, between and after them."""
    few = [f"bird{number:03d}" for number in range(0, 100, 3)]
    many = [f"bird{number:03d}" for number in range(100)]

    def table(names: list[str]) -> Reader:
        rows = [{"id": name, "text": "t", "wing": 1, "beak": 0} for name in names]
        write_csv(tmp_path / "a.csv", rows)
        return opened(tmp_path, modality="text", columns={"id": "id"}, split=SPLIT)

    before, after = splits(table(few)), splits(table(many))
    assert {name: after[name] for name in few} == before
    assert table(few).places_split
    assert set(after.values()) == {"train", "cal", "test"}


def test_drawn_splits_have_their_shares_and_follow_the_seed() -> None:
    """Shares are met as closely as chance allows; another seed draws otherwise; a share of nothing gets nobody."""
    names = [str(number) for number in range(4000)]
    split = SeededSplit(**SPLIT)
    counts = Counter(draw_split(split, name) for name in names)
    for name, share in (("train", 0.5), ("cal", 0.25), ("test", 0.25)):
        assert abs(counts[name] - 4000 * share) < 4 * (4000 * share * (1 - share)) ** 0.5
    other = SeededSplit(**{**SPLIT, "seed": 4})
    assert [draw_split(split, name) for name in names] != [draw_split(other, name) for name in names]
    none = SeededSplit(train=0, cal=0.5, test=0.5)
    assert {draw_split(none, name) for name in names} == {"cal", "test"}
    # `printf 3:a | sha256sum` begins with a byte below 128 for train, below 192 for cal
    assert [draw_split(split, name) for name in "abcdef"] == ["train", "cal", "cal", "test", "train", "test"]


def test_without_split_the_error_says_both_ways(tmp_path: Path) -> None:
    """Add the column, or let the catalog draw."""
    write_csv(tmp_path / "a.csv", [{"text": "t", "wing": 1, "beak": 0}])
    (problem,) = refusal(tmp_path, modality="text").problems
    assert "add it (train, cal or test), or let `split` in the catalog draw" in problem


def test_parts_that_are_not_there_are_remarked(tmp_path: Path) -> None:
    """Their examples would be missing without a word; a part of a table may be what is wanted, so it is no error."""
    for number in (0, 2):
        rows = [{**row(f"{number}"), "image": png()}]
        write_parquet(tmp_path / f"train-{number:05}-of-00003-abc.parquet", rows)
    assert opened(tmp_path).remarks() == [
        "train: 2 of its 3 Parquet files are there; the examples of the others are not"
    ]
    write_parquet(tmp_path / "train-00001-of-00003-abc.parquet", rows)
    assert opened(tmp_path).remarks() == []
    for number in (0, 2):
        rows = [{"text": "ab", "wing": 1, "beak": 0, "split": "cal"}]
        write_parquet(tmp_path / f"texts/a-{number}-of-4.parquet", rows)
    assert "a: 2 of its 4 Parquet files" in opened(tmp_path / "texts", modality="text").remarks()[0]
