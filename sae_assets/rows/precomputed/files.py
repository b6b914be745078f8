"""Files of dense rows made elsewhere: bare tensors, chunks of them, safetensors and Parquet, read a piece at a time.

Which rows belong to which example is decided in ``rows``. Pickles are read with ``weights_only``: no code runs.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import EmbeddingFiles
from sae_assets.errors import DatasetError
from sae_assets.saes.weights import expect_small_header

if TYPE_CHECKING:
    from torch import Tensor

MOST_NAMED = 8  # tensors, in a message
CHUNKS_INFO = "_chunks_info.json"
FORMATS = ".pt, .safetensors, .parquet, or the …_chunks_info.json of chunked .pt files"


class Part(ABC):
    """One file of rows. ``n_rows`` and ``width`` are known without reading the rows.

    Raises:
        DatasetError: a file that is missing, damaged, or holds something else than rows of floats.
    """

    n_rows: int
    width: int

    def __init__(self, path: Path):
        self.path = path
        if not path.is_file():
            raise DatasetError(f"Embedding file {path} does not exist (`path` under `embeddings` in the catalog).")

    @abstractmethod
    def read(self, start: int, stop: int) -> "Tensor":
        """Return float [stop - start, width]: these rows."""

    def close(self) -> None:  # noqa: B027 - not every format holds memory
        """Release the memory that the file takes up."""

    def integers(self, column: str) -> "Tensor | None":
        """Return int64 [n_rows] of another column, where the format has columns."""
        return None

    def _expect(self, shape: Sequence[int], dtype: str, is_float: bool) -> None:
        if len(shape) != 2 or not is_float:
            raise DatasetError(f"{self.path} holds {dtype} {[*shape]}, expected a float tensor [rows, width].")
        self.n_rows, self.width = int(shape[0]), int(shape[1])


class TensorPart(Part):
    """A bare tensor of ``torch.save``, mapped into memory: pages are read when rows are."""

    def __init__(self, path: Path):
        super().__init__(path)
        tensor = self._tensor
        self._expect(tensor.shape, str(tensor.dtype), tensor.is_floating_point())
        self.close()

    @cached_property
    def _tensor(self) -> "Tensor":
        import torch

        try:
            content = ops.plain.load(self.path, mmap=True)
        except ValueError as error:
            raise DatasetError(f"{self.path} could not be read as a tensor ({error}).") from error
        if not isinstance(content, torch.Tensor):
            keys = f" with {', '.join(map(repr, list(content)[:8]))}" if isinstance(content, dict) else ""
            raise DatasetError(f"{self.path} holds a {type(content).__name__}{keys}, expected one bare tensor.")
        return content

    def read(self, start: int, stop: int) -> "Tensor":
        return self._tensor[start:stop].clone()

    def close(self) -> None:
        self.__dict__.pop("_tensor", None)


class SafetensorsPart(Part):
    """A named tensor of a safetensors file, read slice by slice."""

    def __init__(self, path: Path, name: str):
        super().__init__(path)
        self._name = name
        with self._open() as file:
            if name not in file.keys():  # noqa: SIM118 - not a dict
                names = list(file.keys())
                shown = ", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else "")
                raise DatasetError(f"{path} has no tensor {name!r} (found {shown or 'none'}); set `tensor`.")
            tensor = file.get_slice(name)
            dtype = str(tensor.get_dtype())
            self._expect(tensor.get_shape(), dtype, dtype.startswith(("F", "BF")))

    def _open(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            expect_small_header(self.path)
            return safe_open(self.path, "pt")
        except (SafetensorError, OSError, ValueError) as error:
            raise DatasetError(f"{self.path} is not readable as safetensors: {error}") from None

    def read(self, start: int, stop: int) -> "Tensor":
        with self._open() as file:
            return file.get_slice(self._name)[start:stop]


class ParquetPart(Part):
    """A list column of a Parquet file, read by row groups; other columns may say whose rows they are."""

    def __init__(self, path: Path, name: str):
        super().__init__(path)
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._name = name
        self._held: tuple[int, Tensor | None] = (-1, None)
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise DatasetError(f"{path} is not readable as Parquet: {error}") from None
        self._schema = self._file.schema_arrow
        if name not in self._schema.names:
            raise DatasetError(f"{path} has no column {name!r} (found {', '.join(self._schema.names)}); set `tensor`.")
        kind = self._schema.field(name).type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not pa.types.is_floating(kind.value_type):
            raise DatasetError(f"{path}: column {name!r} is {kind}, expected lists of floats.")
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [sum(sizes[:group]) for group in range(len(sizes) + 1)]
        self.n_rows = self._starts[-1]
        self.width = kind.list_size if pa.types.is_fixed_size_list(kind) else self._first_width()

    def _first_width(self) -> int:
        first = next(self._file.iter_batches(1, columns=[self._name], use_threads=False), None) if self.n_rows else None
        return len(first.column(0)[0].as_py() or ()) if first is not None else 0

    def read(self, start: int, stop: int) -> "Tensor":
        import torch

        parts = [torch.zeros(0, self.width, dtype=torch.float32, device="cpu")]
        for group, first in enumerate(self._starts[:-1]):
            last = self._starts[group + 1]
            if first < stop and start < last:
                parts.append(self._group(group)[max(start - first, 0) : min(stop, last) - first])
        return torch.cat(parts)

    def _group(self, group: int) -> "Tensor":
        """Return one row group, float32; the last one stays in memory for the next example."""
        import numpy as np
        import torch

        if self._held[0] != group:
            table = self._file.read_row_group(group, columns=[self._name], use_threads=False)
            column = table.column(0).combine_chunks()
            lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False)) if len(column) else np.zeros(0)
            wrong = (lengths != self.width).nonzero()[0]
            if column.null_count or len(wrong):
                row = self._starts[group] + (int(wrong[0]) if len(wrong) else 0)
                raise DatasetError(
                    f"{self.path}: row {row} of column {self._name!r} does not hold {self.width} values, as "
                    "the first does."
                )
            values = column.flatten()
            if values.null_count:
                raise DatasetError(f"{self.path}: column {self._name!r} holds nulls inside of rows.")
            array = values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, self.width)
            self._held = (group, torch.from_numpy(array))
        rows = self._held[1]
        assert rows is not None
        return rows

    def close(self) -> None:
        self._held = (-1, None)

    def integers(self, column: str) -> "Tensor | None":
        import pyarrow as pa
        import torch

        if column not in self._schema.names:
            return None
        if not pa.types.is_integer(self._schema.field(column).type):
            raise DatasetError(
                f"{self.path}: column {column!r} is {self._schema.field(column).type}, expected integers."
            )
        values = self._file.read(columns=[column], use_threads=False).column(0)
        if values.null_count:
            raise DatasetError(f"{self.path}: column {column!r} holds nulls.")
        return torch.from_numpy(values.to_numpy().astype("int64"))


def open_parts(files: EmbeddingFiles) -> list[Part]:
    """Return the files of an entry in the order of their rows, all of one width.

    Raises:
        DatasetError: an unknown format, a chunk number that is missing, or widths that differ.
    """
    path = files.path
    parts: list[Part]
    if path.name.endswith(CHUNKS_INFO):
        parts = [TensorPart(chunk) for chunk in chunk_files(path)]
    elif path.suffix == ".pt":
        info = path.with_name(path.stem + CHUNKS_INFO)
        if not path.is_file() and info.is_file():
            raise DatasetError(f"Embedding file {path} does not exist, but {info.name} does: name that one in `path`.")
        parts = [TensorPart(path)]
    elif path.suffix == ".safetensors":
        parts = [SafetensorsPart(path, files.tensor)]
    elif path.suffix == ".parquet":
        parts = [ParquetPart(path, files.tensor)]
    else:
        raise DatasetError(f"Embedding file {path}: expected {FORMATS}.")
    widths = {part.width: part.path.name for part in parts}
    if len(widths) > 1:
        listing = ", ".join(f"{name}: {width}" for width, name in widths.items())
        raise DatasetError(f"Embedding files beside {path} differ in width ({listing}).")
    return parts


def chunk_files(info: Path) -> list[Path]:
    """Return the chunk files beside a ``…_chunks_info.json``, by number. What the info says is not trusted.

    Raises:
        DatasetError: no info file, no chunks, or a number that is missing.
    """
    if not info.is_file():
        raise DatasetError(f"Embedding file {info} does not exist (`path` under `embeddings` in the catalog).")
    base = info.name.removesuffix(CHUNKS_INFO)
    name = re.compile(re.escape(base) + r"_chunk_(\d+)\.pt")
    chunks = {int(match[1]): path for path in info.parent.iterdir() if (match := name.fullmatch(path.name))}
    missing = sorted(set(range(max(chunks, default=-1) + 1)) - set(chunks))
    if missing or not chunks:
        what = f"number {', '.join(map(str, missing))} of {base}_chunk_…pt" if chunks else f"any {base}_chunk_<i>.pt"
        raise DatasetError(f"{info.parent} lacks {what}, though {info.name} is there.")
    return [chunks[number] for number in sorted(chunks)]
