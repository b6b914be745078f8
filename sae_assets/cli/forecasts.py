"""The expected cost of a plan is shown in one line per stage, 80 columns wide."""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from sae_assets.cli.display import console, figure

UNKNOWN = "–"
LEAST_MB = 0.1  # of one stage, half of which may be header and footer
LEAST_SECONDS = 0.2  # of CPU of one stage: what takes less varies by more from run to run than a figure would say


def print_expected(expected: Mapping[str, Any]) -> None:
    """Per stage: runs, rows, megabytes on disk, seconds of CPU and peak memory; "–" is not known."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("expected", overflow="fold")
    for heading in ("runs", "rows", "MB on disk", "CPU seconds", "peak MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, stages in groupby(expected["stages"], key=_place):
        if group:
            table.add_row(group)
        for stage in stages:
            table.add_row(f"{'  ' if group else ''}{stage['stage']}", f"{stage['runs']:,}", *_cells(stage))
    table.add_section()
    total = {**expected["total"], "rows": None}
    table.add_row("in all, of what is known", "", *_cells(total, blank=("rows",), least=(0, 0)))
    console.print(table)
    others = sorted({stage["by"] for stage in expected["stages"]} - {None, "history", "calibration"})
    suffix = f"; of another data set: {', '.join(others)}" if others else ""
    console.print(f"By what earlier runs of this home cost, in proportion to the examples{suffix}.")
    if any(stage["by"] == "calibration" for stage in expected["stages"]):
        console.print("What was never made here: by some examples, of which it was made now.")
    if unknown := expected["total"]["unknown"]:
        console.print(f'"–": nothing here tells, {unknown} stages take seconds that are not known.')


def _place(stage: Mapping[str, Any]) -> str:
    return "/".join(part for part in (stage["token_kind"], stage["model"]) if part)


def _cells(
    stage: Mapping[str, Any], blank: tuple[str, ...] = (), least: tuple[float, float] = (LEAST_MB, LEAST_SECONDS)
) -> list[str]:
    """Return rows, MB, seconds (both no more than that they are below ``least``) and MiB as texts."""
    rows = UNKNOWN if stage["rows"] is None else f"{stage['rows']:,.0f}"
    size, seconds, peak = stage["bytes"], stage["cpu_seconds"], stage["peak_bytes"]
    return [
        "" if "rows" in blank else rows,
        _above(None if size is None else size / 1e6, least[0]),
        _above(seconds, least[1]),
        UNKNOWN if peak is None else f"{peak / 2**20:,.0f}",
    ]


def _above(value: float | None, least: float) -> str:
    return f"< {least}" if value is not None and value < least else figure(value, 2)
