"""A check of an artifact is a name, a question to the file that was just written, and whether a failure blocks.

The checks themselves stand with their stages; Dagster's part (specs, results) is ``orchestration.checks``. What no
artifact can be built without is no check: constructors refuse it, and a damaged file fails ``file_reads_back``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

READABLE = "file_reads_back"
READABLE_DESCRIPTION = "The written file reads back, its content hash holds, and no invariant is broken."
WARNING = "warning"  # beside a stage's figures in the file and in the UI: what ``Expected.elsewhere`` said of it
MOST_NAMED = 20  # examples or concepts that a check names


@dataclass(frozen=True)
class Expected:
    """A stage knows this of its artifact besides the artifact itself.

    Attributes:
        rows: how many rows every example has: one number, a tensor [n_examples], or None where nothing is known.
        changes: examples that are no longer what was registered, and what happened to each; what_to_do: about it.
        elsewhere: how the training differed from what is used: another place, dtype, preprocessing, tokenizer.
        limits: bounds by name, from the catalog; None where it says none.
        others: figures of other chunks of the same stage, by figure, to compare a chunk with.
        blank: ids of examples whose image is one colour or whose text is empty.
        beside: figures of other rows of the same chunk, to compare rows with.
    """

    rows: Any = None
    changes: Mapping[str, str] = field(default_factory=dict)
    what_to_do: str = ""
    elsewhere: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    blank: tuple[str, ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)

    @property
    def warning(self) -> dict[str, str]:
        """Return what stands with the file's figures; empty if there is nothing to say."""
        return {WARNING: self.elsewhere} if self.elsewhere else {}


NOTHING_MORE = Expected()


@dataclass(frozen=True)
class Outcome:
    """An outcome says whether a check passed, and has the numbers behind it."""

    passed: bool
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One named check of a stage; ``test`` takes the artifact and what is expected of it.

    A failure blocks what reads the artifact, or warns.
    """

    name: str
    description: str
    test: Callable[[Any, Expected], Outcome]
    blocking: bool = True


def contents_outcome(changes: Mapping[str, str], what_to_do: str = "") -> Outcome:
    """Return whether examples are what they were when they were registered; what to do if not."""
    if not changes:
        return Outcome(True, {"changed_or_vanished": 0})
    shown = ", ".join(f"{example} ({what})" for example, what in list(changes.items())[:MOST_NAMED])
    return Outcome(False, {"changed_or_vanished": len(changes), "examples": shown, "what_to_do": what_to_do})
