"""Chunks that were read and checked once, to be gone through again without either: tensors in a temporary file."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from sae_assets.ops.scratch import ScratchFile

C = TypeVar("C")


@dataclasses.dataclass(frozen=True)
class _Place:
    """A tensor stands at this place of the file."""

    start: int
    dtype: torch.dtype
    shape: torch.Size


@dataclasses.dataclass(frozen=True)
class _Fields:
    """A dataclass by its fields."""

    of: type
    values: dict[str, Any]


class ChunkSpool(Generic[C]):
    """Dataclasses of tensors on the CPU, one after another, as they came; of other fields, what they hold is kept.

    One of them is in memory at a time.
    """

    def __init__(self, chunks: Iterable[C]):
        """Go through the chunks, once."""
        self._file = ScratchFile()
        self._chunks = [self._put(chunk) for chunk in chunks]

    def __iter__(self) -> Iterator[C]:
        return map(self._get, self._chunks)

    def _put(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return _Place(self._file.append(item), item.dtype, item.shape)
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return _Fields(
                type(item), {field.name: self._put(getattr(item, field.name)) for field in dataclasses.fields(item)}
            )
        return item

    def _get(self, item: Any) -> Any:
        if isinstance(item, _Place):
            tensor = torch.empty(item.shape, dtype=item.dtype, device="cpu")
            self._file.fill(tensor, item.start)
            return tensor
        if isinstance(item, _Fields):
            copy: Any = object.__new__(item.of)  # it was checked when it was made
            for name, value in item.values.items():
                object.__setattr__(copy, name, self._get(value))
            return copy
        return item
