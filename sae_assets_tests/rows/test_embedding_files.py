"""Files of embeddings: every format gives the rows that were put in; what a file should not hold is named."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from sae_assets.errors import DatasetError
from sae_assets.rows.precomputed.rows import PrecomputedRows
from sae_assets_tests.rows.embedding_folder import (
    WIDTH,
    Write,
    as_chunks,
    as_parquet,
    as_pt,
    every_format,
    files,
    given,
    rows_of,
)


@every_format
def test_rows_are_those_of_the_files(tmp_path: Path, reader: Any, write: Write) -> None:
    """Four patches of each image, in the data set's order, whatever order is asked for and where files are cut."""
    rows = given()
    source = rows_of(reader, path := write(tmp_path, rows))
    assert (source.d_model, source.rows_per_example("patch")) == (WIDTH, 4)
    assert source.origin == f"the precomputed embeddings {path}"
    for ids in (["a", "b", "c"], ["c", "a"], ["b"], ["b", "b"]):
        for example, found in zip(ids, source.embed(ids), strict=True):
            place = 4 * "abc".index(example)
            assert found.rows["patch"].dtype == torch.float32
            assert torch.equal(found.rows["patch"], rows[place : place + 4])
            assert (found.n_cut, found.silent) == (0, frozenset())


@every_format
def test_cls_is_one_row_per_example(tmp_path: Path, reader: Any, write: Write) -> None:
    """The default for ``cls``, which the number of rows must fit."""
    rows = given(3)
    source = rows_of(
        reader, write(tmp_path, rows) if write is not as_chunks else as_chunks(tmp_path, rows, (0, 2, 3)), "cls"
    )
    assert source.rows_per_example("cls") == 1
    assert torch.equal(torch.cat([found.rows["cls"] for found in source.embed(["a", "b", "c"])]), rows)
    with pytest.raises(DatasetError, match="holds 12 rows, expected 1 for each of 3 examples: 3"):
        rows_of(reader, as_pt(tmp_path, given(12)), "cls")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@every_format
def test_any_float_becomes_float32(tmp_path: Path, reader: Any, write: Write, dtype: torch.dtype) -> None:
    """The value is the nearest float32 of what the file holds."""
    rows = given().to(dtype)
    found = torch.cat([each.rows["patch"] for each in rows_of(reader, write(tmp_path, rows)).embed(["a", "b", "c"])])
    assert found.dtype == torch.float32
    assert torch.equal(found, rows.float())


def test_chunks_stand_in_numeric_order(tmp_path: Path, reader: Any) -> None:
    """Chunk 10 comes behind chunk 9; what the info says about ends does not matter."""
    rows = given()
    source = rows_of(reader, as_chunks(tmp_path, rows, range(13)))
    assert torch.equal(torch.cat([each.rows["patch"] for each in source.embed(["a", "b", "c"])]), rows)


def test_missing_chunk_is_an_error(tmp_path: Path, reader: Any) -> None:
    """A number that is not there is named, as is an info without any chunk."""
    info = as_chunks(tmp_path, given(), (0, 3, 6, 9, 12))
    (tmp_path / "rows_chunk_1.pt").unlink()
    with pytest.raises(DatasetError, match=r"lacks number 1 of rows_chunk_…pt, though rows_chunks_info\.json is there"):
        rows_of(reader, info)
    for number in (0, 2, 3):
        (tmp_path / f"rows_chunk_{number}.pt").unlink()
    with pytest.raises(DatasetError, match=r"lacks any rows_chunk_<i>\.pt"):
        rows_of(reader, info)


def test_chunked_files_by_their_base_name(tmp_path: Path, reader: Any) -> None:
    """Who names ``rows.pt`` where only chunks are is told what to name."""
    as_chunks(tmp_path, given())
    with pytest.raises(DatasetError, match=r"rows\.pt does not exist, but rows_chunks_info\.json does: name that one"):
        rows_of(reader, tmp_path / "rows.pt")


@every_format
def test_no_more_than_one_file_is_held(tmp_path: Path, reader: Any, write: Write) -> None:
    """After an example has been read, at most the file of its last row, or one row group, is held."""
    source = rows_of(reader, write(tmp_path, given()))
    parts = source._kinds["patch"].parts
    for example in ("a", "b", "c"):
        list(source.embed([example]))
        held = [part for part in parts if "_tensor" in vars(part)]
        assert len(held) <= 1
        for part in parts:
            if hasattr(part, "_held") and part._held[1] is not None:
                assert len(part._held[1]) <= 5
    list(source.embed(["a"]))
    assert [place for place, part in enumerate(parts) if "_tensor" in vars(part)] in ([], [0])


@pytest.mark.parametrize(("rows", "given_count"), [(13, None), (12, 5), (9, 4), (0, None)])
def test_rows_that_do_not_fit_the_examples(tmp_path: Path, reader: Any, rows: int, given_count: int | None) -> None:
    """Both numbers are named."""
    with pytest.raises(DatasetError, match=rf"holds {rows} rows, .*\b3 examples"):
        rows_of(reader, as_pt(tmp_path, given(rows)), rows_per_example=given_count)


@every_format
def test_values_that_are_not_finite_name_row_and_file(tmp_path: Path, reader: Any, write: Write) -> None:
    """The row's number in its own file; other examples can be read."""
    rows = given()
    rows[9, 2] = torch.nan
    source = rows_of(reader, write(tmp_path, rows))
    list(source.embed(["a", "b"]))
    row, file = (4, r"rows_chunk_2\.pt") if write is as_chunks else (9, "rows")
    with pytest.raises(DatasetError, match=rf"{file}.*: row {row} holds values that are not finite"):
        list(source.embed(["c"]))


def test_widths_that_differ(tmp_path: Path, reader: Any) -> None:
    """Between chunks, and between token kinds."""
    info = as_chunks(tmp_path, given(), (0, 6, 12))
    torch.save(torch.zeros(6, 7), tmp_path / "rows_chunk_1.pt")
    with pytest.raises(DatasetError, match=r"differ in width \(rows_chunk_0\.pt: 6, rows_chunk_1\.pt: 7\)"):
        rows_of(reader, info)
    (tmp_path / "cls").mkdir()
    both = {"patch": files(as_pt(tmp_path, given())), "cls": files(as_pt(tmp_path / "cls", given(3, 7)))}
    with pytest.raises(DatasetError, match=r"differ in width between token kinds: \{'patch': 6, 'cls': 7\}"):
        PrecomputedRows(reader, both, ("patch", "cls"), "cpu")


class Evil:
    """What a pickle could do."""

    def __reduce__(self) -> Any:
        return print, ("code of a pickle was run",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"embeddings": torch.zeros(2, 3)}, r"holds a dict with 'embeddings', expected one bare tensor"),
        ([torch.zeros(2, 3)], "holds a list, expected one bare tensor"),
        (torch.zeros(2, 3, 4), r"holds torch\.float32 \[2, 3, 4\], expected a float tensor \[rows, width\]"),
        (torch.zeros(2, 3, dtype=torch.int64), r"holds torch\.int64 \[2, 3\], expected a float tensor"),
        (Evil(), "could not be read as a tensor"),
    ],
)
def test_other_contents_of_a_pt_file(
    tmp_path: Path, reader: Any, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    """What was found; no code of a pickle is run."""
    torch.save(content, tmp_path / "rows.pt")
    with pytest.raises(DatasetError, match=said):
        rows_of(reader, tmp_path / "rows.pt")
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rows.pt", "rows.safetensors", "rows.parquet"])
def test_damaged_and_missing_files(tmp_path: Path, reader: Any, name: str) -> None:
    """By their path."""
    with pytest.raises(DatasetError, match=rf"{name} does not exist"):
        rows_of(reader, tmp_path / name)
    (tmp_path / name).write_bytes(b"\x00damaged" * 9)
    with pytest.raises(DatasetError, match=rf"{name} (could not be read|is not readable)"):
        rows_of(reader, tmp_path / name)


def test_unknown_format(tmp_path: Path, reader: Any) -> None:
    """Which there are."""
    with pytest.raises(DatasetError, match=r"rows\.npy: expected \.pt, \.safetensors, \.parquet"):
        rows_of(reader, tmp_path / "rows.npy")
    with pytest.raises(DatasetError, match=r"rows_chunks_info\.json does not exist"):
        rows_of(reader, tmp_path / "rows_chunks_info.json")


def test_tensor_and_column_have_names(tmp_path: Path, reader: Any) -> None:
    """``tensor`` names them; a wrong one is answered with those there are."""
    save_file({"resid": given()}, tmp_path / "rows.safetensors")
    assert rows_of(reader, tmp_path / "rows.safetensors", tensor="resid").d_model == WIDTH
    with pytest.raises(DatasetError, match=r"has no tensor 'embeddings' \(found resid\); set `tensor`"):
        rows_of(reader, tmp_path / "rows.safetensors")
    path = as_parquet(tmp_path, given())
    with pytest.raises(DatasetError, match=r"has no column 'resid' \(found embeddings\); set `tensor`"):
        rows_of(reader, path, tensor="resid")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1.0] * 12), "is double, expected lists of floats"),
        (pa.array([[1, 2]] * 12), r"is list<.*int64>, expected lists of floats"),
        (
            pa.array([[1.0, 2.0]] * 7 + [[1.0]] + [[1.0, 2.0]] * 4),
            "row 7 of column 'embeddings' does not hold 2 values",
        ),
        (pa.array([[1.0, 2.0]] * 11 + [[1.0, None]]), "holds nulls inside of rows"),
        (pa.array([[1.0, 2.0]] * 11 + [None]), "row 1. of column 'embeddings' does not hold 2 values"),
    ],
)
def test_other_columns_of_a_parquet_file(tmp_path: Path, reader: Any, column: Any, said: str) -> None:
    """Lists of floats, all of one length, without nulls."""
    pq.write_table(pa.table({"embeddings": column}), tmp_path / "rows.parquet", row_group_size=5)
    with pytest.raises(DatasetError, match=said):
        list(rows_of(reader, tmp_path / "rows.parquet").embed(["a", "b", "c"]))
