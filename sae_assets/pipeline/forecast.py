"""What making an artifact will cost, from what it cost before: a line over the examples that were read.

Nothing is measured here, and what is not known stays unknown. Where costs come from says ``orchestration.history``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_assets.pipeline.stage import Stage


@dataclass(frozen=True)
class Cost:
    """What an artifact took, or is expected to take; None is not known.

    Attributes:
        examples: in the chunk, or in all chunks that were read.
        rows: of its table; n_bytes: of its file.
        cpu_seconds: of the whole pass, in which other artifacts may have been made too, all threads together.
        peak_bytes: the most memory that the process held during the pass, with all its libraries.
        first: it was the first such pass of its process, which loads libraries, models and SAEs.
    """

    examples: int
    rows: float | None = None
    n_bytes: float | None = None
    cpu_seconds: float | None = None
    peak_bytes: float | None = None
    first: bool = False

    @property
    def figures(self) -> dict[str, float]:
        """Those that are known, by their names in a run's metadata."""
        named = {
            "rows": self.rows,
            "bytes": self.n_bytes,
            "cpu_seconds": self.cpu_seconds,
            "peak_bytes": self.peak_bytes,
        }
        return {name: value for name, value in named.items() if value is not None}


def forecast(stage: "Stage", past: Sequence[Cost], examples: int, sharing: int = 1, *, first: bool = False) -> Cost:
    """What an artifact is expected to cost over so many examples.

    Rows, bytes and seconds grow with the examples, but for the file of a model-level stage that does not (``grows``);
    memory does not, since work is done in blocks: the most that was seen is expected.

    Args:
        past: what artifacts of the stage cost, the latest first; empty where none was made.
        sharing: how many artifacts the pass makes, each of which has its share of the seconds.
        first: whether it is the first such pass of its process; seconds are then those of other first ones, if any
            is among the past.
    """
    same = stage.level == "model" and not stage.grows
    alike = [cost for cost in past if cost.first is first] or past
    seconds = _at(examples, [(cost.examples, cost.cpu_seconds) for cost in alike])
    return Cost(
        examples,
        _of_file(examples, [(cost.examples, cost.rows) for cost in past], same),
        _of_file(examples, [(cost.examples, cost.n_bytes) for cost in past], same),
        None if seconds is None else seconds / sharing,
        max((cost.peak_bytes for cost in past if cost.peak_bytes is not None), default=None),
    )


def _of_file(examples: int, points: Sequence[tuple[int, float | None]], same: bool) -> float | None:
    """As :func:`_at`, or the latest value where it is the same whatever was read."""
    latest = next((value for _, value in points if value is not None), None)
    return latest if same else _at(examples, points)


def _at(examples: int, points: Sequence[tuple[int, float | None]]) -> float | None:
    """The value of a line through these (examples, value): through the origin unless they show that it is not."""
    known = [(count, value) for count, value in points if value is not None and count > 0]
    if not known:
        return None
    total = sum(value for _, value in known)
    mean_x, mean_y = sum(count for count, _ in known) / len(known), total / len(known)
    spread = sum((count - mean_x) ** 2 for count, _ in known)
    if spread:
        slope = sum((count - mean_x) * (value - mean_y) for count, value in known) / spread
        start = mean_y - slope * mean_x
        if slope >= 0 and start >= 0:
            return start + slope * examples
    return mean_y / mean_x * examples
