"""Embedding files of every format that are small, for tests."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from sae_assets.catalog import EmbeddingFiles
from sae_assets.rows.precomputed.rows import PrecomputedRows

WIDTH = 6
CUTS = (0, 5, 5, 12)  # chunks of different lengths, one empty, borders inside of examples


def given(rows: int = 12, width: int = WIDTH) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(0))


def as_pt(folder: Path, rows: Tensor) -> Path:
    torch.save(rows, folder / "rows.pt")
    return folder / "rows.pt"


def as_chunks(folder: Path, rows: Tensor, cuts: Sequence[int] = CUTS) -> Path:
    """As the older scripts wrote them: bare tensors, and an info whose ends are off by one batch."""
    chunks = []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        torch.save(rows[start:stop].clone(), folder / f"rows_chunk_{number}.pt")
        chunks.append({"file": f"rows_chunk_{number}.pt", "start_idx": start, "end_idx": stop + 3})
    (folder / "rows_chunks_info.json").write_text(json.dumps({"num_chunks": len(chunks), "chunks": chunks}))
    return folder / "rows_chunks_info.json"


def as_safetensors(folder: Path, rows: Tensor) -> Path:
    save_file({"other": torch.zeros(1), "embeddings": rows}, folder / "rows.safetensors")
    return folder / "rows.safetensors"


def as_parquet(folder: Path, rows: Tensor, name: str = "rows", fixed: bool = False, **columns: Any) -> Path:
    values = pa.array(rows.flatten().float().numpy())
    if rows.dtype in (torch.float16, torch.float64):
        values = pa.array(rows.flatten().numpy())
    kind = (
        pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
        if fixed
        else pa.ListArray.from_arrays(pa.array(range(0, len(values) + 1, rows.shape[1]), pa.int32()), values)
    )
    table = pa.table({"embeddings": kind, **columns})
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=5)
    return folder / f"{name}.parquet"


def as_fixed_parquet(folder: Path, rows: Tensor) -> Path:
    return as_parquet(folder, rows, fixed=True)


FORMATS = [as_pt, as_chunks, as_safetensors, as_parquet, as_fixed_parquet]
every_format = pytest.mark.parametrize("write", FORMATS)
Write = Callable[[Path, Tensor], Path]


def files(path: Path, **changes: Any) -> EmbeddingFiles:
    return EmbeddingFiles(path=path, **changes)


def rows_of(reader: Any, path: Path, kind: str = "patch", **changes: Any) -> PrecomputedRows:
    return PrecomputedRows(reader, {kind: files(path, **changes)}, (kind,), "cpu")
