"""Every artifact checks its invariants when it is built, and has a hash of its content."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sae_assets.errors import ArtifactError

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


# Metadata of a field that files of earlier versions lack: None there, and then no part of the content hash.
HASHED_IF_GIVEN = {"hashed_if_given": True}
HASHED_AT_ONCE = 2**22  # elements: a tensor may be mapped from a file and larger than memory


@dataclass(frozen=True, eq=False, kw_only=True)
class Artifact(ABC):
    """Base: the problems of an instance, its content hash and its equality (by content).

    ``examined``: whoever made it looked at what its invariants follow from, which is less than all of it.
    """

    kind: ClassVar[str]
    examined: InitVar[bool] = False

    def __post_init__(self, examined: bool) -> None:
        problems = [] if examined else list(self.problems())
        if problems:
            raise ArtifactError(f"{type(self).__name__} breaks its invariants:", problems)

    @abstractmethod
    def problems(self) -> Iterator[str]:
        """Return every broken invariant, one sentence each."""

    def content_hash(self) -> str:
        """Return sha256 over every field's name, dtype, shape and bytes: the same for the same content, in any file
        format."""
        import torch

        digest = hashlib.sha256(self.kind.encode())
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is None and field.metadata == HASHED_IF_GIVEN:
                continue
            digest.update(f"\0{field.name}\0".encode())
            if isinstance(value, torch.Tensor):
                digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
                for part in value.contiguous().flatten().split(HASHED_AT_ONCE):
                    # NaN payloads may differ between writers; every null is the same null. One is enough for the
                    # minimum, which torch would wake threads for that go on spinning.
                    if part.is_floating_point() and len(part) and math.isnan(part.numpy().min()):
                        part = torch.where(part.isnan(), torch.nan, part)
                    digest.update(part.numpy())
            else:
                digest.update(repr(value).encode())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.content_hash() == other.content_hash()

    __hash__ = None  # type: ignore[assignment]


def offsets_of(lengths: Int[Tensor, " segments"]) -> Int[Tensor, " segments_plus_1"]:
    """Return offsets [0, l0, l0 + l1, …] of segments with these lengths, int64."""
    import torch

    return torch.nn.functional.pad(lengths.long().cumsum(0), (1, 0))


def expect_tensor(tensor: Tensor, name: str, dtype: str, shape: tuple[int | None, ...]) -> Iterator[str]:
    if str(tensor.dtype) != f"torch.{dtype}":
        yield f"{name} has dtype {tensor.dtype}, expected torch.{dtype}"
    if tensor.ndim != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, tensor.shape, strict=False)
    ):
        yield f"{name} has shape {tuple(tensor.shape)}, expected {shape}"


def bad_offsets(offsets: Tensor, name: str, total: int) -> Iterator[str]:
    places = offsets.numpy()  # which takes a third of torch's time for the little there is
    if places.ndim != 1 or len(places) < 1 or places[0] != 0:
        yield f"{name} must start with 0"
    elif places[-1] != total:
        yield f"{name} ends at {places[-1]}, expected {total}"
    elif (places[1:] < places[:-1]).any():
        yield f"{name} must not decrease"


def any_step(table: Any, compare: Callable[[Any, Any], Any]) -> bool:
    """Return whether a number compares so with the one before it in its row of a NumPy array [rows, columns].

    All are compared with the one before, and those that begin a row left out: a third of the time of two dimensions.
    """
    flat, width = table.reshape(-1), table.shape[1]
    steps = compare(flat[1:], flat[:-1])
    if width:
        steps[width - 1 :: width] = False
    return bool(steps.any())
