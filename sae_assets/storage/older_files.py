"""Sparse activation files of older scripts: ``{'indices', 'values', 'format', 'topk'}``, in one file or in chunks.

Reading and checking only; ``commands.importing`` decides which examples the rows belong to and what becomes of them.
Entries ≤ 0 are padding with arbitrary ids. ``…_chunks_info.json`` is used for its existence alone: its ``end_idx``
fields are wrong by a batch, the tensors' shapes are not.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_assets import ops
from sae_assets.artifacts import offsets_of
from sae_assets.errors import StoredFileError

_CHUNK = re.compile(r"^(?P<base>.+)_chunk_(?P<number>\d+)\.pt$")
INFO = "_chunks_info.json"
FILTERED_REASON = (
    "it holds filtered activations. Older filtered files number units in the order of a set, their unit mapping files "
    "in sorted order, so the two can disagree about which unit an index means. Import the unfiltered file "
    "(…_sparse_layer….pt) and let `sae-assets materialize` filter again"
)


@dataclass(frozen=True)
class OlderRows:
    """Entries of consecutive rows, sorted as ours are: value descending, unit ascending among equal values."""

    row_offsets: Tensor
    unit_ids: Tensor
    values: Tensor


class OlderFiles:
    """The files behind one path, in row order.

    Args:
        path: a ``.pt`` file, one chunk of several, their ``…_chunks_info.json``, or a folder with one such set.

    Attributes:
        paths: in row order; lengths: rows of each; topk: entries stored per row at most.

    Raises:
        StoredFileError: there are no files, they are filtered ones, chunks are missing, or tensors are not the
            format's; all problems are named.
    """

    def __init__(self, path: Path):
        self.paths = tuple(_files(path))
        problems: list[str] = []
        lengths, widths = [], []
        for file in self.paths:
            content = _load(file)
            file_problems = [f"{file.name}: {problem}" for problem in _problems(content)]
            problems += file_problems
            if not file_problems:
                lengths.append(len(content["values"]))
                widths.append(int(content["values"].shape[1]))
        if len(set(widths)) > 1:
            problems.append(f"files store {sorted(set(widths))} entries per row; one set stores the same number")
        if problems:
            raise StoredFileError(f"{path} cannot be imported:", problems)
        self.lengths, self.topk = tuple(lengths), widths[0]

    @property
    def n_rows(self) -> int:
        return sum(self.lengths)

    @cached_property
    def content_hash(self) -> str:
        """Return sha256 over the files' bytes, in row order."""
        digest = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()

    def read(self, ranges: Sequence[tuple[int, int]], n_units: int) -> OlderRows:
        """Return the rows of these ranges [start, stop), one after the other.

        Raises:
            StoredFileError: an active entry whose id is no unit, twice in one row, or not finite; file and row are
                named.
        """
        indices, values = (torch.cat(parts) for parts in zip(*self._slices(ranges), strict=True))
        active = values > 0
        bad = ~values.isfinite() | (active & ((indices < 0) | (indices >= n_units)))
        if bool(bad.any()):
            row, column = bad.nonzero()[0].tolist()
            raise StoredFileError(
                f"{self._name_row(ranges, row)}: an entry has unit {int(indices[row, column])} and value "
                f"{float(values[row, column])}, expected units 0..{n_units - 1} and finite values."
            )
        # Stable sorts from the least to the most significant key; padding goes last.
        order = indices.argsort(dim=1, stable=True)
        order = order.gather(1, values.gather(1, order).argsort(dim=1, descending=True, stable=True))
        indices, values = indices.gather(1, order), values.gather(1, order)
        lengths = (values > 0).sum(1)
        filled = torch.arange(values.shape[1], device="cpu") < lengths[:, None]
        rows = OlderRows(offsets_of(lengths), indices[filled].int(), values[filled])
        row = torch.repeat_interleave(torch.arange(len(lengths), device="cpu"), lengths)
        keys = (row * n_units + rows.unit_ids).sort().values
        twice = keys[1:][keys[1:] == keys[:-1]]
        if len(twice):
            number, unit = divmod(int(twice[0]), n_units)
            raise StoredFileError(f"{self._name_row(ranges, number)}: the row names the same unit twice ({unit}).")
        return rows

    def _name_row(self, ranges: Sequence[tuple[int, int]], number: int) -> str:
        """Return file and row in it (from 0) of the n-th row of these ranges."""
        for start, stop in ranges:
            if number < stop - start:
                number += start
                break
            number -= stop - start
        for path, length in zip(self.paths, self.lengths, strict=True):
            if number < length:
                return f"{path}, row {number} (from 0)"
            number -= length
        raise IndexError(number)

    def _slices(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
        starts = [sum(self.lengths[:position]) for position in range(len(self.lengths))]
        opened: tuple[Path, dict[str, Any]] | None = None
        for start, stop in ranges:
            for path, first, length in zip(self.paths, starts, self.lengths, strict=True):
                low, high = max(start, first), min(stop, first + length)
                if low < high:
                    if opened is None or opened[0] != path:
                        opened = (path, _load(path))  # one file is held at a time
                    part = slice(low - first, high - first)
                    yield opened[1]["indices"][part].long(), opened[1]["values"][part].float()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.pt"))
        bases = {(m["base"] if (m := _CHUNK.match(file.name)) else file.stem) for file in files}
        plain = {base for base in bases if "filtered" not in base}
        if len(plain) != 1:
            listing = ", ".join(sorted(bases)) or "no .pt file"
            raise StoredFileError(f"{path} holds {listing}; name one file (or …{INFO}) to import.")
        base = plain.pop()
        path = path / f"{base}.pt" if (path / f"{base}.pt").is_file() else path / f"{base}{INFO}"
    name = path.name
    if "filtered" in name:
        raise StoredFileError(f"{path} cannot be imported: {FILTERED_REASON}.")
    chunk = _CHUNK.match(name)
    if not name.endswith(INFO) and chunk is None:
        if not path.is_file():
            raise StoredFileError(f"{path} does not exist.")
        return [path]
    base = chunk["base"] if chunk else name.removesuffix(INFO)
    numbered = {
        int(match["number"]): file
        for file in path.parent.glob("*.pt")
        if (match := _CHUNK.match(file.name)) and match["base"] == base
    }
    missing = sorted(set(range(max(numbered, default=-1) + 1)) - set(numbered))
    if not numbered or missing:
        listing = ", ".join(map(str, missing)) or "all"
        raise StoredFileError(f"{path.parent}: chunk files {base}_chunk_<i>.pt are missing: {listing}.")
    return [numbered[number] for number in sorted(numbered)]


def _load(path: Path) -> dict[str, Any]:
    try:
        content = ops.plain.load(path, mmap=True)
    except ValueError as error:
        raise StoredFileError(f"{path} is not a file that torch.load(weights_only=True) reads ({error}).") from None
    return content if isinstance(content, dict) else {"": content}


def _problems(content: dict[str, Any]) -> Iterator[str]:
    if content.get("format") == "sparse_filtered" or "kept_units" in content:
        yield FILTERED_REASON
        return
    missing = [key for key in ("indices", "values", "format", "topk") if key not in content]
    if missing:
        yield f"keys {', '.join(missing)} are missing; found {', '.join(map(str, content)) or 'none'}"
        return
    if content["format"] != "sparse_topk":
        yield f"format is {content['format']!r}, expected 'sparse_topk'"
    indices, values = content["indices"], content["values"]
    if not isinstance(indices, Tensor) or not isinstance(values, Tensor) or indices.ndim != 2:
        yield "indices and values must be tensors [n_rows, k]"
        return
    if indices.shape != values.shape:
        yield f"indices have shape {tuple(indices.shape)}, values {tuple(values.shape)}; they must agree"
    if indices.dtype not in (torch.int32, torch.int64):
        yield f"indices have dtype {indices.dtype}, expected int32 or int64"
    if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        yield f"values have dtype {values.dtype}, expected float32"
