"""Making an artifact will cost what a line over the examples says, from what it cost before.

From sizes that lie close together the line takes its growth alone: where it begins says the stage.

Nothing is measured here, and what is not known stays unknown. Where costs come from says ``orchestration.history``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING

from sae_assets.errors import SaeAssetsError

if TYPE_CHECKING:
    from sae_assets.pipeline.stage import Sources, Stage, Target

APART = 4  # times the smallest size: seconds of sizes nearer to each other tell as much of chance as of growth
APART_IN_FILES = 1.5  # the same of rows and bytes, in which there is less chance


@dataclass(frozen=True)
class Cost:
    """An artifact took this, or is expected to take it; None is not known.

    Attributes:
        examples: in the chunk, or in all chunks that were read.
        rows: of its table; n_bytes: of its file.
        cpu_seconds: of the whole pass, in which other artifacts may have been made too, all threads together.
        peak_bytes: the most memory that the process held during the pass, with all its libraries.
        whole_bytes: of ``peak_bytes``, what was held of all examples at once and not in blocks; it grows with them.
        first: it was the first such pass of its process, which loads libraries, models and SAEs.
        opening_seconds: of ``cpu_seconds``, what is known to have gone into that, whatever was read.
    """

    examples: int
    rows: float | None = None
    n_bytes: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: float | None = None
    first: bool = False
    opening_seconds: float = 0.0
    whole_bytes: float = 0.0

    def at_first(self, opening_seconds: float) -> "Cost":
        """Return the same of the first pass of a process, which opens what later ones find open."""
        seconds = (self.cpu_seconds or 0.0) + opening_seconds
        return replace(self, cpu_seconds=seconds, first=True, opening_seconds=opening_seconds)

    @property
    def figures(self) -> dict[str, float]:
        """Return those that are known, by their names in a run's metadata."""
        named = {
            "rows": self.rows,
            "bytes": self.n_bytes,
            "cpu_seconds": self.cpu_seconds,
            "peak_bytes": self.peak_bytes,
        }
        return {name: value for name, value in named.items() if value is not None}


def peak_of_more(
    held_bytes: float, peak: float, times: float, block: float, whole_bytes: float = 0.0, times_whole: float = 1.0
) -> float:
    """Return bytes that a process holds at most in a pass over so many times the examples of one that was measured.

    What a pass takes grows with its examples until blocks are as large as they may be; what it holds of all examples
    at once grows without end.

    Args:
        held: bytes before that pass; peak: at most during it.
        block: bytes of the largest block.
        whole_bytes: of what it took, that of all examples at once; times_whole: what it reads of them, as ``times``.
    """
    taken = max(0.0, peak - held_bytes - whole_bytes)
    return held_bytes + whole_bytes * times_whole + max(taken, min(taken * times, block))


def peak_after(peak: float, past: Sequence[Cost], growth: float) -> tuple[float, float]:
    """Return the most bytes that a process holds in a pass if it holds more than those of the past did, and how many.

    Little is given back between passes, so that what one took beyond what it took before, later ones find taken.

    Args:
        peak: expected of the pass itself, from this past; growth: bytes beyond those of the past in earlier passes.
    """
    seen = max(cost.peak_bytes for cost in past if cost.peak_bytes is not None)
    growth = max(growth, peak - seen)
    return (seen + growth if growth > 0 else peak), growth


def same_effort(_examples: int) -> float:
    """Return 1: the work for an example is the same over any number of them."""
    return 1.0


def effort_of(stage: "Stage", target: "Target", sources: "Sources") -> Callable[[int], float]:
    """Return what the work for an example is over the first so many examples of the data set, as the stage says."""
    effort = stage.effort
    if effort is None:
        return same_effort

    @cache
    def over(examples: int) -> float:
        try:
            records = sources.reader(target.dataset).records
        except (SaeAssetsError, OSError):  # whoever reads the data set is told
            return 1.0
        return effort(target, records[:examples])

    return over


def forecast(
    stage: "Stage",
    past: Sequence[Cost],
    examples: int,
    sharing: int = 1,
    *,
    first: bool = False,
    effort: Callable[[int], float] = same_effort,
) -> Cost:
    """Return what an artifact is expected to cost over so many examples.

    Rows, bytes and seconds are on a line over the examples. Memory is not, since work is done in blocks: the most that
    was seen is expected, but for what a pass holds of all examples, which grows with them. The line begins where the
    past shows it to, if that is of sizes ``APART`` times as large as each other (``APART_IN_FILES``), and else where
    the stage says (``seconds_offset``, ``file_offset``).

    Args:
        past: what artifacts of the stage cost, the latest first; empty where none was made.
        sharing: how many artifacts the pass makes, each of which has its share of the seconds.
        first: whether it is the first such pass of its process; seconds are then those of other first ones, if any
            is among the past, and what these spent on opening is expected once more, over any number of examples.
        effort: what the work for an example is over so many examples, by which seconds are compared.
    """
    alike = [cost for cost in past if cost.first is first] or past
    of_file = stage.file_offset
    apart = inf if of_file == inf else APART_IN_FILES
    if of_file is None:
        of_file = inf if stage.level == "model" else 0
    measured = [(cost, cost.cpu_seconds) for cost in alike if cost.cpu_seconds is not None and cost.examples > 0]
    each = [(cost.examples, (value - cost.opening_seconds) / effort(cost.examples)) for cost, value in measured]
    seconds = _at(examples, each, stage.seconds_offset, APART)
    opening = fmean(cost.opening_seconds for cost, _ in measured) if first and measured else 0.0
    return Cost(
        examples,
        _at(examples, [(cost.examples, cost.rows) for cost in past], of_file, apart),
        _at(examples, [(cost.examples, cost.n_bytes) for cost in past], of_file, apart),
        None if seconds is None else (seconds * effort(examples) + opening) / sharing,
        max(filter(None, (_peak(examples, cost) for cost in past)), default=None),
    )


def _peak(examples: int, cost: Cost) -> float | None:
    """Return the most memory that a pass over so many examples is expected to hold, by one that was made."""
    if cost.peak_bytes is None or not cost.whole_bytes:
        return cost.peak_bytes
    return cost.peak_bytes + cost.whole_bytes * (examples / cost.examples - 1)


def _at(examples: int, points: Sequence[tuple[int, float | None]], offset: float, apart: float) -> float | None:
    """Return the value of a line through these (examples, value), the latest first.

    Args:
        offset: in examples, what every value has beside that of its examples; infinite where all are as the latest.
        apart: how many times as large as another a size must be for the line to be drawn through them all.
    """
    measured = [(count, value) for count, value in points if value is not None and count > 0]
    if not measured:
        return None
    total = sum(value for _, value in measured)
    mean_x, mean_y = sum(count for count, _ in measured) / len(measured), total / len(measured)
    sizes = [count for count, _ in measured]
    if max(sizes) >= apart * min(sizes):
        spread = sum((count - mean_x) ** 2 for count in sizes)
        slope = sum((count - mean_x) * (value - mean_y) for count, value in measured) / spread
        start = mean_y - slope * mean_x
        if slope >= 0 and start >= 0:
            return start + slope * examples
        if slope < 0:
            return measured[0][1] if offset == inf else mean_y
        offset = 0
    if offset == inf:
        return measured[0][1]
    return mean_y * (offset + examples) / (offset + mean_x)
