"""Older sparse files read as what they mean, and everything that would be guesswork is refused with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sae_assets.errors import StoredFileError
from sae_assets.storage.older_files import OlderFiles

N_UNITS = 50


def code(n_rows: int, k: int = 4, seed: int = 0, dtype: torch.dtype = torch.int64) -> tuple[Tensor, Tensor]:
    """Random entries, unsorted; about a third are padding with ids that mean nothing."""
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(N_UNITS, generator=generator)[:k] for _ in range(n_rows)]).to(dtype)
    values = torch.rand(n_rows, k, generator=generator) - 0.3
    indices[values <= 0] = 999_999
    return indices, values


def write(path: Path, indices: Tensor, values: Tensor, **changes: Any) -> Path:
    content = {"indices": indices, "values": values, "format": "sparse_topk", "topk": indices.shape[1], **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path


def write_chunks(
    folder: Path, lengths: list[int], base: str = "clipscope_patch_sparse_layer22"
) -> tuple[Tensor, Tensor]:
    """A chunk set as the older scripts leave it, ``end_idx`` one batch off."""
    indices, values = code(sum(lengths))
    info, start = [], 0
    for number, length in enumerate(lengths):
        rows = slice(start, start + length)
        write(folder / f"{base}_chunk_{number}.pt", indices[rows].clone(), values[rows].clone())
        info.append({"chunk": number, "start_idx": start, "end_idx": start + length - 1})
        start += length
    (folder / f"{base}_chunks_info.json").write_text(json.dumps(info))
    return indices, values


def expected(indices: Tensor, values: Tensor) -> list[list[tuple[int, float]]]:
    rows = [
        [(int(u), float(v)) for u, v in zip(*row, strict=True) if v > 0] for row in zip(indices, values, strict=True)
    ]
    return [sorted(row, key=lambda pair: (-pair[1], pair[0])) for row in rows]


def found(files: OlderFiles, *ranges: tuple[int, int]) -> list[list[tuple[int, float]]]:
    rows = files.read(ranges, N_UNITS)
    pairs = list(zip(rows.unit_ids.tolist(), rows.values.tolist(), strict=True))
    return [pairs[a:b] for a, b in zip(rows.row_offsets[:-1].tolist(), rows.row_offsets[1:].tolist(), strict=True)]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rows_come_sorted_and_without_padding(tmp_path, dtype):
    indices, values = code(20, dtype=dtype)
    files = OlderFiles(write(tmp_path / "a.pt", indices, values))
    assert (files.n_rows, files.topk) == (20, 4)
    assert found(files, (0, 20)) == expected(indices, values)


def test_ties_are_ordered_by_unit(tmp_path):
    files = OlderFiles(write(tmp_path / "a.pt", torch.tensor([[7, 3, 5]]), torch.tensor([[1.0, 1.0, 2.0]])))
    assert found(files, (0, 1)) == [[(5, 2.0), (3, 1.0), (7, 1.0)]]


@pytest.mark.parametrize("entry", ["folder", "info", "chunk"])
def test_chunk_set_is_one_run_of_rows_whatever_its_info_says(tmp_path, entry):
    lengths = [3] * 11  # chunk 10 must come after chunk 9, not after chunk 1
    indices, values = write_chunks(tmp_path, lengths)
    base = "clipscope_patch_sparse_layer22"
    path = {"folder": tmp_path, "info": tmp_path / f"{base}_chunks_info.json", "chunk": tmp_path / f"{base}_chunk_4.pt"}
    files = OlderFiles(path[entry])
    assert files.lengths == tuple(lengths)
    assert found(files, (0, 33)) == expected(indices, values)
    assert found(files, (30, 33), (2, 5)) == expected(indices, values)[30:33] + expected(indices, values)[2:5]


def test_content_hash_follows_the_bytes(tmp_path):
    a = OlderFiles(write(tmp_path / "a.pt", *code(5))).content_hash
    assert a != OlderFiles(write(tmp_path / "b.pt", *code(5, seed=1))).content_hash


def refused(path: Path, *words: str) -> None:
    with pytest.raises(StoredFileError) as caught:
        OlderFiles(path)
    for word in words:
        assert word in str(caught.value)


def test_filtered_files_are_refused_with_the_reason(tmp_path):
    reason = "their unit mapping files in sorted order"
    refused(write(tmp_path / "clipscope_patch_filtered.pt", *code(3)), reason)
    refused(write(tmp_path / "a.pt", *code(3), format="sparse_filtered"), reason)


def test_missing_chunk_is_named(tmp_path):
    write_chunks(tmp_path, [2, 2, 2])
    (tmp_path / "clipscope_patch_sparse_layer22_chunk_1.pt").unlink()
    refused(tmp_path, "are missing: 1")


def test_folder_with_two_sets_asks_for_one(tmp_path):
    write(tmp_path / "a.pt", *code(2))
    write(tmp_path / "b.pt", *code(2))
    refused(tmp_path, "holds a, b; name one file")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topk": None}, ["keys topk are missing"]),
        ({"format": "dense"}, ["format is 'dense'"]),
        ({"values": torch.rand(3, 5)}, ["(3, 4)", "(3, 5)"]),
        ({"indices": torch.rand(3, 4)}, ["dtype torch.float32, expected int32 or int64"]),
        ({"values": [1.0]}, ["must be tensors"]),
    ],
)
def test_other_dictionaries_are_refused(tmp_path, changes, words):
    indices, values = code(3)
    path = tmp_path / "a.pt"
    content = {"indices": indices, "values": values, "format": "sparse_topk", "topk": 4, **changes}
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    refused(path, *words)


def test_what_is_no_torch_file(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"nonsense")
    refused(tmp_path / "a.pt", "weights_only=True")
    refused(tmp_path / "gone.pt", "does not exist")


@pytest.mark.parametrize(
    ("indices", "values", "words"),
    [
        ([[N_UNITS, 1]], [[1.0, 2.0]], f"unit {N_UNITS} and value 1.0"),
        ([[-1, 1]], [[1.0, 2.0]], "unit -1"),
        ([[3, 1]], [[float("nan"), 2.0]], "value nan"),
        ([[3, 1]], [[float("inf"), 2.0]], "value inf"),
        ([[3, 3]], [[1.0, 2.0]], "names the same unit twice"),
    ],
)
def test_entries_that_cannot_be_are_refused(tmp_path, indices, values, words):
    sound = torch.tensor([[1, 2]]), torch.tensor([[1.0, 2.0]])
    write(tmp_path / "a_chunk_0.pt", *(part.repeat(3, 1) for part in sound))
    wrong = torch.tensor(indices), torch.tensor(values)
    write(tmp_path / "a_chunk_1.pt", *(torch.cat([one, two]) for one, two in zip(sound, wrong, strict=True)))
    files = OlderFiles(tmp_path)
    with pytest.raises(StoredFileError, match=words) as caught:
        files.read([(1, 2), (2, 5)], N_UNITS)
    assert str(caught.value).startswith(f"{tmp_path / 'a_chunk_1.pt'}, row 1 (from 0): ")
