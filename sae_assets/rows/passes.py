"""Examples through a transformer together, in passes of a fixed shape: no row depends on which examples went with it.

A matrix product's last bits depend on its shape, not on what stands in its other rows. So a pass always has the same
number of examples for inputs of one length; the last one is filled up. Whether a model keeps to that, and takes no
notice of what an input is filled up with, is tried once for each shape; one that does not gets its examples one by one.
On a CPU as many passes are computed side by side as torch has threads, each by one thread (``threads``).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sae_assets.rows.threads import side_by_side

if TYPE_CHECKING:
    from torch import Tensor

    Call = Callable[[], Sequence[Tensor]]  # of a pass, for its rows

T = TypeVar("T")
R = TypeVar("R")

POSITIONS = 256  # of one pass on the CPU, where more gain nothing
MOST_BESIDE = 4 * POSITIONS  # of a pass that has others beside it; a larger one keeps all threads busy
BYTES_PER_POSITION = 2**21  # of a GPU's memory
ENOUGH = 2**13  # numbers that do not agree by chance; with fewer, threads have nothing to share
SHORTEST = 8  # lengths are multiples of it
# Most by which rows of another shape of pass differ, as a share of their length. Rounding came to 3e-6 in float32,
# 3e-3 in float16 and 2e-2 in bfloat16 (48 blocks with random weights), a model that mixes all positions (FNet) to 0.9.
ROUNDING = {"float32": 1e-3}
ROUNDING_OF_HALVES = 0.1
LOOKAHEAD = 2  # times as many inputs as are computed at once are prepared meanwhile


def positions_at_once(device: Any) -> int:
    """Return positions (patches or tokens) of one pass: on a GPU a power of two by its memory, 2^15 for 80 GB."""
    import torch

    if torch.device(device).type != "cuda":
        return POSITIONS
    fit: int = torch.cuda.get_device_properties(device).total_memory // BYTES_PER_POSITION
    return max(POSITIONS, 1 << (fit.bit_length() - 1))


def together(forward_batch: int | None, length: int, device: Any) -> int:
    """Return how many examples make one pass.

    Args:
        forward_batch: as the catalog says; None: as many as have ``positions_at_once``.
        length: positions of each.
    """
    return max(1, positions_at_once(device) // length) if forward_batch is None else forward_batch


def padded(length: int, longest: int | None) -> int:
    """Return the length that inputs are filled up to: steps of 8, above 64 of at most a quarter more.

    Args:
        length: positions of the input; longest: those that a model takes; None: any number.
    """
    step = max(SHORTEST, 1 << max((length - 1).bit_length() - 3, 0))
    full = -(-length // step) * step
    return full if longest is None else max(length, min(full, longest))


@dataclass(frozen=True)
class ForwardPass(Generic[T]):
    """Inputs that go through a model together: at most ``size``, at least one, and none longer than ``length``."""

    inputs: Sequence[T]
    size: int
    length: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.size, self.length


@dataclass(frozen=True)
class Trial:
    """A trial is computed to know whether rows of a shape are independent, and has what tells it from the results."""

    calls: "Sequence[Call]"
    holds: "Callable[[Sequence[Sequence[Tensor]]], bool]"


class FixedShapes(Generic[T]):
    """A model's passes, and what is known of each of their shapes.

    Two things are tried, each by computing a pass once more in another way and comparing bits: whether its rows depend
    on what they are computed with (its inputs then go one by one), and whether all threads together give the bits that
    one gives (they then share a pass where there are few).

    Args:
        forward: rows of inputs that go together, filled up to a length (None: as long as they are); several threads
            may ask at once.
        filler: what fills a pass up beside an input; as short as an input can be.
        precision: that the model computes in; device: where it does.
        refilled: as ``forward``, of inputs that are filled up with something else; None where nothing fills them up.
        alone: it is known that rows depend on what goes with them, which a try may not show.
        length_of: an input; None: all are as long as their passes.
    """

    def __init__(
        self,
        forward: "Callable[[Sequence[T], int | None], Sequence[Tensor]]",
        filler: Callable[[T], T],
        precision: str = "float32",
        refilled: "Callable[[Sequence[T], int], Sequence[Tensor]] | None" = None,
        *,
        device: Any = "cpu",
        alone: bool = False,
        length_of: Callable[[T], int] | None = None,
    ):
        self._alone, self._on_cpu, self._length_of = alone, str(device).startswith("cpu"), length_of
        self._forward, self._filler, self._refilled = forward, filler, refilled
        self._exact, self._rounding = precision in ROUNDING, ROUNDING.get(precision, ROUNDING_OF_HALVES)
        self._independent: dict[tuple[int, int], bool] = {}
        self._same_by_all: dict[tuple[int, int, int], bool] = {}

    @property
    def one_by_one(self) -> bool:
        """Return whether a shape was found in which rows depend on what goes with them, or on what fills them up."""
        return self._alone or not all(self._independent.values())

    def n_beside(self, size: int, length: int) -> int:
        """Return how many passes of a shape are computed side by side."""
        import torch

        beside = self._on_cpu and size * length <= MOST_BESIDE
        return torch.get_num_threads() if beside else 1

    def rows(self, passes: Sequence[ForwardPass[T]]) -> "list[Sequence[Tensor]]":
        """Return rows of the inputs of each pass, in order."""
        computed: dict[int, Sequence[Tensor]] = {}
        by_number: dict[int, list[int]] = {}  # of passes side by side
        for index, one in enumerate(passes):
            if not self._mixes(one):
                by_number.setdefault(self.n_beside(*one.shape), []).append(index)
        for n_beside, indices in by_number.items():
            computed |= zip(indices, self._rows([passes[index] for index in indices], n_beside), strict=True)
        return [
            self._one_by_one(one) if self._mixes(one) else computed[index][: len(one.inputs)]
            for index, one in enumerate(passes)
        ]

    def _mixes(self, one: ForwardPass[T]) -> bool:
        """Return whether rows are known to depend on what they are computed with."""
        return (self._alone and one.size > 1) or not self._independent.get(one.shape, True)

    def _rows(self, passes: Sequence[ForwardPass[T]], n_beside: int) -> "list[Sequence[Tensor]]":
        """Return rows of passes that are filled up; new shapes are tried.

        Fewer passes than half of the threads are computed by all threads one after the other where that changes no bit.
        """
        calls: list[Call] = [partial(self._forward, *self._full(one)) for one in passes]
        first = {one.shape: index for index, one in reversed([*enumerate(passes)])}
        keys = [self._key(one, n_beside) for one in passes]
        few = 2 * len(passes) <= n_beside
        new = [shape for shape in first if shape not in self._independent and (n_beside > 1 or shape[0] > 1)]
        by_all = few and all(self._same_by_all.get(key, False) for key in keys)
        rows = _computed(calls, 1 if by_all else n_beside)
        if few:
            for key, call, of_pass in zip(keys, calls, rows, strict=True):
                self._is_same_by_all(key, call, of_pass)
        trials = [self._trial(passes[first[shape]], rows[first[shape]]) for shape in new]
        results = iter(_computed([call for trial in trials for call in trial.calls], n_beside))
        for shape, trial in zip(new, trials, strict=True):
            index = first[shape]
            self._independent[shape] = trial.holds([next(results) for _ in trial.calls]) and (
                n_beside == 1 or self._is_undisturbed(keys[index], calls[index], rows[index])
            )
        return rows

    def _key(self, one: ForwardPass[T], n_threads: int) -> tuple[int, int, int]:
        """Return what decides whether a pass by all threads has the bits that it has by one."""
        own = self._length_of if one.size == 1 else None
        return one.size, own(one.inputs[0]) if own else one.length, n_threads

    def _is_same_by_all(self, key: tuple[int, int, int], call: "Call", rows: "Sequence[Tensor]") -> bool:
        """Return whether a pass by all threads has the bits that it has by one, and so many that this is no chance."""
        if key not in self._same_by_all:
            self._same_by_all[key] = sum(each.numel() for each in rows) >= ENOUGH and _same_bits(call(), rows)
        return self._same_by_all[key]

    def _is_undisturbed(self, key: tuple[int, int, int], call: "Call", rows: "Sequence[Tensor]") -> bool:
        """Return whether a pass that had others beside it has the rows that it has without, by all threads or by
        one."""
        return self._is_same_by_all(key, call, rows) or _same_bits(side_by_side([call])[0], rows)

    def _one_by_one(self, one: ForwardPass[T]) -> "list[Tensor]":
        """Return rows of a pass's inputs, each for itself, and where even that depends on others, with none beside
        it."""
        if one.size > 1:
            return [rows for (rows,) in self.rows([ForwardPass([each], 1, one.length) for each in one.inputs])]
        return [self._forward([each], None)[0] for each in one.inputs]

    def _full(self, one: ForwardPass[T]) -> tuple[list[T], int | None]:
        """Return what goes through the model in a pass, and how long it is."""
        if one.size == 1:
            return [*one.inputs], None
        return [*one.inputs, *[self._filler(one.inputs[0])] * (one.size - len(one.inputs))], one.length

    def _trial(self, one: ForwardPass[T], rows: "Sequence[Tensor]") -> "Trial":
        """Return whether rows of a shape depend on what they are computed with, by one pass of it and its rows.

        Inputs must have the same rows at other places, and the first of them also beside others; and an input that is
        filled up must have the rows that it has for itself, but for rounding, whatever fills it up.

        A model that mixes positions and masks none (FNet) or not in all it does (ConvBERT's convolutions) has not. The
        first is far beyond rounding; the second need not be in half precision, and differs where the filling does.
        Beside what is as short as can be, the shortest input is tried, for what only longer ones show. A pass of one
        input has only itself beside it, for what a model changes in itself meanwhile.
        """
        inputs, length = self._full(one)
        if length is None:
            repeat = partial(self._forward, inputs, None)
            return Trial([repeat] * 2, lambda results: all(_same_bits(rows, result) for result in results))
        filler = self._filler(inputs[0])
        group = [*[filler] * (len(inputs) - 1), inputs[0]]
        shortest = min(range(len(inputs)), key=lambda index: len(rows[index]))
        calls: list[Call] = [
            partial(self._forward, inputs[::-1], length),
            partial(self._forward, group, length),
            partial(self._forward, [filler], None),
            partial(self._forward, [inputs[shortest]], None),
        ]
        if self._refilled is not None:
            calls.append(partial(self._refilled, group, length))

        def holds(results: "Sequence[Sequence[Tensor]]") -> bool:
            turned, beside, (filler_itself,), (shortest_itself,), *refilled = results
            if not _same_bits(rows, turned[::-1]) or not _same_bits(rows[:1], beside[-1:]):
                return False
            if not all(_same_bits(beside, result) for result in refilled):
                return False
            return self._is_rounding(beside[0], filler_itself) and self._is_rounding(rows[shortest], shortest_itself)

        return Trial(calls, holds)

    def _is_rounding(self, with_others: "Tensor", itself: "Tensor") -> bool:
        difference = (with_others - itself).double().norm(dim=-1)
        beyond = difference > self._rounding * itself.double().norm(dim=-1)
        # In half precision single rows of many round to more.
        return not bool(beyond.any() if self._exact else beyond.double().mean() > 0.5)


def _computed(calls: Sequence[Callable[[], R]], n_beside: int) -> list[R]:
    return side_by_side(calls) if n_beside > 1 else [call() for call in calls]


def _same_bits(some: "Sequence[Tensor]", others: "Sequence[Tensor]") -> bool:
    import torch

    return all(
        torch.equal(one.view(torch.int32), other.view(torch.int32)) for one, other in zip(some, others, strict=True)
    )


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of ``size`` items each, the last of the rest."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
