"""``status`` and plans take few lines per data set, whatever the width of the screen and the number of chunks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.padding import Padding
from rich.text import Text

from sae_assets.cli.display import PLAIN, PlainConsole, console
from sae_assets.cli.forecasts import print_expected
from sae_assets.wording import counted, visible

MOST_RANGES = 6
OF_ALL_CHUNKS = "all"


def print_status(states: Mapping[str, Any]) -> None:
    """Per data set, token kind and model how many stages are current, and each other one with its partitions."""
    for name, dataset in states.items():
        console.print(Text.assemble((name, "bold"), f": {counted(len(dataset['chunks']), 'chunk')} registered"))
        by_place: dict[str, dict[str, Mapping[str, str]]] = {}
        for label, partitions in dataset["stages"].items():
            group, _, stage = label.rpartition("/")
            by_place.setdefault(group, {})[stage] = partitions
        for group, stages in by_place.items():
            print_indented(group or "of no model", 2)
            current = [stage for stage, partitions in stages.items() if {*partitions.values()} <= {"current"}]
            for stage, partitions in stages.items():
                if stage not in current:
                    print_indented(f"{stage}: {_said(partitions)}", 4)
            if current:
                others = "" if len(current) == len(stages) else "other "
                print_indented(f"{counted(len(current), others + 'stage')} current", 4)


def print_kinds(kinds: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Print a line per data set on stderr: which token kinds are made, and which are left."""
    screen = PlainConsole(stderr=True, **PLAIN)
    for name, each in kinds.items():
        every = ",".join([*each["made"], *each["left"]])
        left = f", leaves {' and '.join(each['left'])} (--token-kind {every} makes all)" if each["left"] else ""
        screen.print(f"{name}: makes {' and '.join(each['made'])}{left}", soft_wrap=True)


def print_plan(told: Mapping[str, Any]) -> None:
    """Per data set what would be made and why, stages of the same reason with their partitions together."""
    for name, each in told.items():
        runs, later = each["runs"], each["later"]
        artifacts = counted(sum(len(run["artifacts"]) for run in runs), "artifact")
        what = f"would make {artifacts} in {counted(len(runs), 'run')}" if runs else "nothing to make"
        console.print(Text.assemble((name, "bold"), f": {what}"))
        if each["new_chunks"]:
            fresh = each["new_chunks"]
            print_indented(f"would register {counted(len(fresh), 'chunk')} first ({ranges(fresh)})", 2)
        _print_reasons([artifact for run in runs for artifact in run["artifacts"]], 2)
        if later:
            print_indented("to be made, once what it reads is known to be what it was or was made:", 2)
            _print_reasons(later, 4)
        if each["may_follow"]:
            stages = dict.fromkeys(_without_chunk(address) for address in each["may_follow"])
            print_indented(f"current, and made if what is read comes out otherwise: {', '.join(stages)}", 2)
        if each["left_out"]:
            print_indented("imported, and not replaced without --force:", 2)
            _print_reasons(each["left_out"], 4)
        if each["expected"]["stages"]:
            print_expected(each["expected"])
    console.print("Nothing was made.")


def _print_reasons(artifacts: Sequence[Mapping[str, Any]], columns: int) -> None:
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for one in artifacts:
        group = "/".join(part for part in (one["token_kind"], one["model"]) if part)
        grouped.setdefault((group, one["stage"], one["why"]), []).append(one["chunk"] or "")
    last = ""
    for (group, stage, why), chunks in sorted(grouped.items(), key=lambda each: each[0][0]):
        if group != last:
            print_indented(group, columns)
            last = group
        where = f" ({ranges(chunks)})" if any(chunks) else ""
        print_indented(f"{stage}{where}: {why}", columns + (2 if group else 0))


def _without_chunk(address: str) -> str:
    """Return an address without the data set, and without the chunk: chunks are numbers, and no stage is one."""
    return "/".join(part for part in address.split("/")[1:] if not part.isdecimal())


def print_indented(text: str, columns: int) -> None:
    """A paragraph that begins so far to the right, and of which lines that follow begin farther."""
    for number, line in enumerate(Text(visible(text)).wrap(console, max(20, console.width - columns - 2))):
        line.rstrip()
        console.print(Padding(line, (0, 0, 0, columns + (2 if number else 0)), expand=False))


def _said(partitions: Mapping[str, str]) -> str:
    """Say how many partitions of a stage are current, and which are in which other state."""
    if [*partitions] == [OF_ALL_CHUNKS]:
        return partitions[OF_ALL_CHUNKS]
    by_state: dict[str, list[str]] = {}
    for key, state in partitions.items():
        by_state.setdefault(state, []).append(key)
    current = len(by_state.pop("current", []))
    parts = [f"{len(keys)} {state} ({ranges(keys)})" for state, keys in by_state.items()]
    return "; ".join([f"{current} of {len(partitions)} current", *parts])


def ranges(keys: Sequence[str]) -> str:
    """Return chunk keys as a person writes them: ``0000–0003, 0007``, the first few of many."""
    ranges = list(_ranges(keys))
    ellipsis = f", … {len(ranges) - MOST_RANGES} more" if len(ranges) > MOST_RANGES else ""
    return ", ".join(ranges[:MOST_RANGES]) + ellipsis


def _ranges(keys: Iterable[str]) -> Iterator[str]:
    numbered = [(int(key), key) for key in keys if key.isdecimal()]
    for _, group in groupby(enumerate(sorted(numbered)), key=lambda each: each[1][0] - each[0]):
        members = [key for _, (_, key) in group]
        yield members[0] if len(members) == 1 else f"{members[0]}–{members[-1]}"
    yield from (key for key in keys if not key.isdecimal())
