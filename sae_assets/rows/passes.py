"""Examples through a transformer together, in passes of a fixed shape: no row depends on which examples went with it.

A matrix product's last bits depend on its shape, not on what stands in its other rows. So a pass always has the same
number of examples for inputs of one length; the last one is filled up. Whether a model keeps to that, and takes no
notice of what an input is filled up with, is tried once for each shape; one that does not gets its examples one by one.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")

POSITIONS = 256  # of one pass on the CPU, where more gain nothing
BYTES_PER_POSITION = 2**21  # of a GPU's memory
SHORTEST = 8  # lengths are multiples of it
# Most by which rows of another shape of pass differ, as a share of their length. Rounding came to 3e-6 in float32,
# 3e-3 in float16 and 2e-2 in bfloat16 (48 blocks with random weights), a model that mixes all positions (FNet) to 0.9.
ROUNDING = {"float32": 1e-3}
ROUNDING_OF_HALVES = 0.1
LOOKAHEAD = 2  # passes whose inputs are prepared while one is computed


def positions_at_once(device: Any) -> int:
    """Positions (patches or tokens) of one pass: on a GPU a power of two by its memory, 2^15 for 80 GB."""
    import torch

    if torch.device(device).type != "cuda":
        return POSITIONS
    fit: int = torch.cuda.get_device_properties(device).total_memory // BYTES_PER_POSITION
    return max(POSITIONS, 1 << (fit.bit_length() - 1))


def together(forward_batch: int | None, length: int, device: Any) -> int:
    """How many examples make one pass.

    Args:
        forward_batch: as the catalog says; None: as many as have ``positions_at_once``.
        length: positions of each.
    """
    return max(1, positions_at_once(device) // length) if forward_batch is None else forward_batch


def padded(length: int, longest: int | None) -> int:
    """The length that inputs are filled up to: steps of 8, above 64 of at most a quarter more.

    Args:
        length: positions of the input; longest: those that a model takes; None: any number.
    """
    step = max(SHORTEST, 1 << max((length - 1).bit_length() - 3, 0))
    full = -(-length // step) * step
    return full if longest is None else max(length, min(full, longest))


class FixedShapes(Generic[T]):
    """A model's passes, and what was found of each of their shapes.

    Args:
        forward: rows of inputs that go together, filled up to a length (None: as long as they are).
        filler: what fills a pass up beside an input; as short as an input can be.
        precision: that the model computes in.
        refilled: as ``forward``, of inputs that are filled up with something else; None where nothing fills them up.
        alone: it is known that rows depend on what goes with them, which a try may not show.
    """

    def __init__(
        self,
        forward: "Callable[[Sequence[T], int | None], Sequence[Tensor]]",
        filler: Callable[[T], T],
        precision: str = "float32",
        refilled: "Callable[[Sequence[T], int], Sequence[Tensor]] | None" = None,
        *,
        alone: bool = False,
    ):
        self._alone = alone
        self._forward, self._filler, self._refilled = forward, filler, refilled
        self._exact, self._rounding = precision in ROUNDING, ROUNDING.get(precision, ROUNDING_OF_HALVES)
        self._independent: dict[tuple[int, int], bool] = {}

    @property
    def one_by_one(self) -> bool:
        """Whether a shape was found in which rows depend on what goes with them, or on what fills them up."""
        return self._alone or not all(self._independent.values())

    def rows(self, inputs: Sequence[T], size: int, length: int) -> "Sequence[Tensor]":
        """Rows of inputs, at most ``size`` of them, which are not longer than ``length``."""
        if size == 1 or self._alone:
            return [self._forward([each], None)[0] for each in inputs]
        full = [*inputs, *[self._filler(inputs[0])] * (size - len(inputs))]
        found = self._forward(full, length)
        if (size, length) not in self._independent:
            self._independent[size, length] = self._is_independent(full, found, length)
        return found[: len(inputs)] if self._independent[size, length] else self.rows(inputs, 1, length)

    def _is_independent(self, inputs: Sequence[T], found: "Sequence[Tensor]", length: int) -> bool:
        """Whether inputs have the same rows at other places, and the first of them also beside others; and whether an
        input that is filled up has the rows that it has for itself, but for rounding, whatever fills it up.

        A model that mixes positions and masks none (FNet) or not in all it does (ConvBERT's convolutions) has not. The
        first is far beyond rounding; the second need not be in half precision, and differs where the filling does.
        Beside what is as short as can be, the shortest input is tried, for what only longer ones show.
        """
        filler = self._filler(inputs[0])
        turned = self._forward(inputs[::-1], length)[::-1]
        group = [*[filler] * (len(inputs) - 1), inputs[0]]
        (filled, *others, alone) = self._forward(group, length)
        pairs = [*zip(found, turned, strict=True), (found[0], alone)]
        if self._refilled is not None:
            pairs += zip((filled, *others, alone), self._refilled(group, length), strict=True)
        if not all(_same_bits(one, other) for one, other in pairs):
            return False
        shortest = min(range(len(inputs)), key=lambda place: len(found[place]))
        for one, with_others in ((filler, filled), (inputs[shortest], found[shortest])):
            (itself,) = self._forward([one], None)
            difference = (with_others - itself).double().norm(dim=-1)
            beyond = difference > self._rounding * itself.double().norm(dim=-1)
            # In half precision single rows of many round to more.
            if bool(beyond.any() if self._exact else beyond.double().mean() > 0.5):
                return False
        return True


def _same_bits(one: "Tensor", other: "Tensor") -> bool:
    import torch

    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def prepared(prepare: Callable[[T], R], items: Iterable[T], n_ahead: int) -> Iterator[R]:
    """What threads make of each item, in order, while earlier ones are used.

    Args:
        n_ahead: items that may be prepared before they are asked for.
    """
    waiting: deque[Future[R]] = deque()
    n_threads = min(n_ahead, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads, thread_name_prefix="prepare") as threads:
        _start_alone(threads, n_threads)
        try:
            for item in items:
                waiting.append(threads.submit(prepare, item))
                if len(waiting) > n_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _start_alone(threads: ThreadPoolExecutor, n_threads: int) -> None:
    """Start the threads, whom no others help with torch's work: each would ask for as many as there are cores."""
    import torch

    barrier, here = threading.Barrier(n_threads + 1), torch.get_num_threads()

    def alone() -> None:
        torch.set_num_threads(1)  # of this thread, and of those that start from now on
        barrier.wait()

    for _ in range(n_threads):
        threads.submit(alone)
    barrier.wait()
    torch.set_num_threads(here)


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` items each, the last of the rest."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
