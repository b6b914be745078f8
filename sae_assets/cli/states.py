"""How ``status`` and a plan look: few lines per data set, whatever the width of the screen and the number of chunks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.padding import Padding
from rich.text import Text

from sae_assets.cli.display import console

MOST_RANGES = 6
OF_ALL_CHUNKS = "all"


def print_status(states: Mapping[str, Any]) -> None:
    """Per data set, token kind and model how many stages are current, and each other one with its partitions."""
    for name, dataset in states.items():
        console.print(Text.assemble((name, "bold"), f": {_counted(len(dataset['chunks']), 'chunk')} registered"))
        by_place: dict[str, dict[str, Mapping[str, str]]] = {}
        for label, partitions in dataset["stages"].items():
            place, _, stage = label.rpartition("/")
            by_place.setdefault(place, {})[stage] = partitions
        for place, stages in by_place.items():
            print_indented(place or "of no model", 2)
            current = [stage for stage, partitions in stages.items() if {*partitions.values()} <= {"current"}]
            for stage, partitions in stages.items():
                if stage not in current:
                    print_indented(f"{stage}: {_said(partitions)}", 4)
            if current:
                others = "" if len(current) == len(stages) else "other "
                print_indented(f"{_counted(len(current), others + 'stage')} current", 4)


def print_indented(text: str, columns: int) -> None:
    """A paragraph that begins so far to the right, and of which lines that follow begin farther."""
    for number, line in enumerate(Text(text).wrap(console, max(20, console.width - columns - 2))):
        line.rstrip()
        console.print(Padding(line, (0, 0, 0, columns + (2 if number else 0)), expand=False))


def _said(partitions: Mapping[str, str]) -> str:
    """Of a stage: how many partitions are current, and which are in which other state."""
    if [*partitions] == [OF_ALL_CHUNKS]:
        return partitions[OF_ALL_CHUNKS]
    by_state: dict[str, list[str]] = {}
    for key, state in partitions.items():
        by_state.setdefault(state, []).append(key)
    current = len(by_state.pop("current", []))
    parts = [f"{len(keys)} {state} ({ranges(keys)})" for state, keys in by_state.items()]
    return "; ".join([f"{current} of {len(partitions)} current", *parts])


def ranges(keys: Sequence[str]) -> str:
    """Chunk keys as a person writes them: ``0000–0003, 0007``, the first few of many."""
    found = list(_ranges(keys))
    more = f", … {len(found) - MOST_RANGES} more" if len(found) > MOST_RANGES else ""
    return ", ".join(found[:MOST_RANGES]) + more


def _ranges(keys: Iterable[str]) -> Iterator[str]:
    numbered = [(int(key), key) for key in keys if key.isdecimal()]
    for _, group in groupby(enumerate(sorted(numbered)), key=lambda each: each[1][0] - each[0]):
        run = [key for _, (_, key) in group]
        yield run[0] if len(run) == 1 else f"{run[0]}–{run[-1]}"
    yield from (key for key in keys if not key.isdecimal())


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
