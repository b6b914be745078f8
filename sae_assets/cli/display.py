"""How the command line looks: tables. Figures come from ``summary`` and ``session``."""

import sys
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from sae_assets.commands.session import Session

# Names and cells come from outside: none of them is markup, emoji code or number to be coloured.
PLAIN: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
console = Console(width=None if sys.stdout.isatty() else 100, **PLAIN)

UNLIMITED = 10**6  # characters, to ask how wide a table would be
MOST_LABELS = 10
MOST_WARNINGS, MOST_PARTITIONS = 10, 5
WIDEST = 32  # characters of a cell in tables with one column per row


def figure(value: float | None, digits: int = 3) -> str:
    """A number, or "–" where the figure does not exist."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(ends: Sequence[float | None]) -> str:
    """Both ends of an interval, or one "–" where it does not exist."""
    if None in ends:
        return "–"
    between = " to " if any(end is not None and end < 0 for end in ends) else "–"
    return between.join(figure(end, 2) for end in ends)


def print_summary(figures: dict[str, Any], session: "Session", made: int, skipped: int) -> None:
    """One table per data set, token kind and model, then where everything lies."""
    for name, result in figures.items():
        sizes = f"{result['dense_bytes'] / 1e6:,.1f} MB dense, {result['stored_bytes'] / 1e6:,.2f} MB stored"
        console.print(Text.assemble("\n", (name, "bold"), f"  {result['n_rows']:,} rows × {result['n_units']:,} units"))
        if result["stale_stages"]:
            stages = ", ".join(result["stale_stages"])
            console.print(f"STALE, made from other data, options or code than now: {stages}", style="bold")
        console.print(
            f"compression ratio {result['compression_ratio']:,.0f} ({sizes}), {result['n_kept']:,} units kept"
        )
        console.print(_fit_line(result["fit"]))
        pixels = any(best["row"] and best["row"]["pixel_iou"] is not None for best in result["concepts"].values())
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        for heading in (
            "concept",
            "unit",
            "cal\nF1",
            "test\nF1",
            "95 %",
            "bar",
            "q",
            "AUROC",
            "row\nP",
            "row\nR",
            "row\nF1",
            "row\nq",
            *(["px\nIoU"] if pixels else []),
        ):
            names = heading == "concept"
            table.add_column(heading, justify="left" if names else "right", no_wrap=not names, overflow="fold")
        for concept, best in result["concepts"].items():
            rows = best["row"]
            table.add_row(
                concept,
                "–" if best["unit_id"] is None else str(best["unit_id"]),
                figure(best["cal_f1"]),
                figure(best["test_f1"]),
                interval(best["test_f1_interval"]),
                figure(_bar(best)),
                figure(best["q"]),
                figure(best["auroc"]),
                figure(rows["precision"], 2) + ("!" if rows["beside"] else "") if rows else "–",
                *(figure(rows[name], 2) if rows else "–" for name in ("recall", "f1")),
                figure(rows["q"]) if rows else "–",
                *([figure(rows["pixel_iou"], 2) if rows else "–"] if pixels else []),
            )
        table.add_section()
        table.add_row(
            "weighted mean", "", "", figure(result["weighted_test_f1"]), interval(result["weighted_test_f1_interval"]),
            figure(_weighted_bar(result)),
        )  # fmt: skip
        console.print()
        console.print(table)
        console.print()
        if result["rows"] is not None:
            console.print(_rows_line(result["rows"]))
            console.print()
        if result["controls"] is not None:
            _print_controls(result)
        elif result["inapplicable_stages"]:
            stages = ", ".join(result["inapplicable_stages"])
            console.print(f"Activations were imported, so the rows behind them are not here: there is no {stages}.\n")
        removed = [
            f"{concept} (unit {audit['unit_id']}, {audit['removed_by']}: cal F1 {figure(audit['cal_f1'])}, "
            f"best kept {figure(audit['kept_cal_f1'])})"
            for concept, best in result["concepts"].items()
            if best["selection"] == "tails" and (audit := best["audit"]) and audit["removed_by"]
        ]
        if removed:
            console.print(f"pruning removed the best unit of {len(removed)}: {', '.join(removed)}")
        together = [
            f"{concept} ({_joined(each)}: test F1 {figure(each['test_f1'])}, {figure(each['difference'])} above, "
            f"95 % {interval(each['difference_interval'])})"
            for concept, best in result["concepts"].items()
            if (each := best["coalition"])
            and each["rule"]
            and (each["difference_interval"][0] or 0) > 0
            # An `or` of noise comes near calling all positive, whose F1 may be above a single unit's.
            and each["test_f1"] > best["always_positive_f1"]
        ]
        if together:
            console.print(f"several units beat the single one on test for {len(together)}: {', '.join(together)}")
        seconds = ", ".join(f"{stage} {value:.2f}" for stage, value in result["seconds"].items())
        console.print(f"seconds: {seconds}")
    console.print(f"\n{made} runs made, {skipped} were up to date.")
    console.print(f"Files:   {session.settings.store}", soft_wrap=True)
    settings = session.settings
    own = f" --catalog {quote(str(settings.catalog))}" if settings.catalog else ""
    home = quote(str(settings.home))
    console.print(f"UI:      sae-assets ui --home {home}{own}   (http://127.0.0.1:3000)", soft_wrap=True)
    if not figures:
        return
    console.print("\nPairs are chosen on cal, by rows where the data say where a concept is; test figures are only")
    console.print('reported. "bar": what a test F1 has to exceed, the largest of calling every example positive, the')
    console.print('95 % point of shuffled labels and the best control, where there are any. "q": share of false')
    console.print('discoveries among concepts that are this sure, by shuffled labels. "row P", "R", "F1": precision,')
    console.print('recall and F1 of the unit on the rows (patches, tokens) of test, "row q": as q, of the row F1, by')
    console.print('exchanging between examples where the concept is, "px IoU": on the pixels of masks; ! marks a unit')
    console.print("that fires beside the concept more than on it.")
    console.print('"coverage@t": share of concepts whose best unit by AP on cal has an AP of t on test.')
    if any(result["controls"] for result in figures.values()):
        console.print("Controls: random_sae is the mean of random SAEs; ! marks one that is better than the unit, by a")
        console.print("paired 95 % interval that excludes 0.")


def _bar(best: dict[str, Any]) -> float | None:
    """What a concept's test F1 has to exceed: chance, and the best of its controls."""
    return _largest(best["chance_f1"], *(control["f1"] for control in (best["controls"] or {}).values()))


def _weighted_bar(result: dict[str, Any]) -> float | None:
    """The same of the weighted mean."""
    controls = result["controls"]["weighted"].values() if result["controls"] else ()
    return _largest(result["always_positive_f1"], result["null_f1"]["p95"], *(control["f1"] for control in controls))


def _largest(*values: float | None) -> float | None:
    """The largest of the figures that exist."""
    return max((value for value in values if value is not None), default=None)


def _fit_line(fit: dict[str, Any]) -> str:
    """How well the SAE fits the rows, beside what its checkpoint says of itself."""
    stated = f" (stated: {fit['stated_l0']})" if fit["stated_l0"] is not None else ""
    dead = "–" if fit["dead_units_share"] is None else f"{fit['dead_units_share']:.0%}"
    return f"FVU {figure(fit['fvu'])}, mean L0 {figure(fit['mean_l0'], 1)}{stated}, {dead} of the units fire on no row"


def _rows_line(rows: dict[str, Any]) -> str:
    """What the SAE's units reach on rows, over the concepts that are located: each by its best unit on cal."""
    covered = ", ".join(f"{name} {figure(value, 2)}" for name, value in rows.items() if name.startswith("coverage@"))
    pixels = "" if rows["mean_best_pixel_iou"] is None else f", of pixels {figure(rows['mean_best_pixel_iou'], 2)}"
    return (
        f"Rows, best unit of each of {rows['concepts']} concepts: mean AP {figure(rows['mean_best_ap'], 2)}, "
        f"F1 {figure(rows['mean_best_f1'], 2)}, IoU {figure(rows['mean_best_iou'], 2)}{pixels}; {covered}; "
        f"F1 above .5: {rows['concepts_f1>0.5']} concepts, {rows['units_f1>0.5']} units; "
        f"IoU above .04: {rows['concepts_iou>0.04']} concepts, {rows['units_iou>0.04']} units"
    )


def _joined(coalition: dict[str, Any]) -> str:
    """Units of a coalition with its rule between them."""
    return "units " + f" {coalition['rule']} ".join(map(str, coalition["units"]))


def _print_controls(result: dict[str, Any]) -> None:
    """Test F1 of each concept's unit and of every control, and what they cost; ``!`` where a control is better."""
    controls = result["controls"]
    names = list(controls["weighted"])
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("test F1", overflow="fold")
    for heading in ("unit", *names):
        table.add_column(heading.replace("_", "\n"), justify="right", no_wrap=True)

    def cell(figures: dict[str, Any]) -> str:
        high = figures["difference_interval"][1]
        return figure(figures["f1"]) + ("!" if high is not None and high < 0 else "")

    for concept, best in result["concepts"].items():
        table.add_row(concept, figure(best["test_f1"]), *(cell(best["controls"][name]) for name in names))
    table.add_section()
    means = [controls["weighted"][name] for name in names]
    table.add_row("weighted mean", figure(result["weighted_test_f1"]), *(cell(mean) for mean in means))
    for kind, heading, scale in (("seconds", "seconds", 1), ("peak_bytes", "peak MB", 1e6), ("bytes", "reads MB", 1e6)):
        costs = [controls[kind].get(name) for name in ("unit", *names)]
        table.add_row(heading, *("–" if cost is None else f"{cost / scale:.2f}" for cost in costs))
    console.print(table)
    console.print()
    for sentence in filter(None, (controls["verdict"], controls["row_verdict"])):
        console.print(sentence)
    if controls["fitted_on_half_of_cal"]:
        console.print(
            "There are no train examples: controls were fitted on half of cal, thresholds chosen on the rest."
        )
    console.print()


def print_warnings(warnings: dict[str, list[str]]) -> None:
    """On stderr: what checks found that block nothing, each with the first partitions it was found in."""
    screen = Console(stderr=True, **PLAIN)
    for text, partitions in list(warnings.items())[:MOST_WARNINGS]:
        more = f" … ({len(partitions)} in all)" if len(partitions) > MOST_PARTITIONS else ""
        screen.print(f"Warning: {text} ({', '.join(partitions[:MOST_PARTITIONS])}{more})", soft_wrap=True)
    if len(warnings) > MOST_WARNINGS:
        screen.print(f"Warning: … and {len(warnings) - MOST_WARNINGS} more; see the checks in the UI.", soft_wrap=True)


def print_inspection(inspections: dict[str, Any]) -> None:
    """Per data set: examples per split and positives per concept, beside what was published, then what is wrong."""
    for name, each in inspections.items():
        console.print(f"\n{name}", style="bold")
        if "error" in each:
            console.print(each["error"], soft_wrap=True)
            continue
        published, splits = each["published"] or {}, each["splits"]
        where = {True: "located", False: "not located: rows inherit the example's label"}[each["located"]]
        console.print(f"{each['examples']:,} {each['modality']}s, concepts {where}")
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in ("", *splits, "always"):
            table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
        table.add_row("examples", *(f"{count:,}" for count in splits.values()), figure(each["always_positive_f1"], 4))
        if published:
            counts = (f"{published[split]:,}" for split in splits)
            table.add_row("published", *counts, figure(published["always_positive_f1"], 4))
        table.add_section()
        for concept, counts in each["concepts"].items():
            table.add_row(concept, *(f"{counts[s]:,}" for s in splits), figure(counts["always_positive_f1"], 4))
        console.print(table)
        files = each["files"] or {"bad": [], "positives_without_region": {}}
        if "characters" in files:
            low, middle, high = files["characters"].values()
            console.print(f"characters per text: {low} to {high}, median {middle}")
        for concept, count in files["positives_without_region"].items():
            console.print(f"{concept}: {count:,} positive examples show it nowhere")
        others = each["other_labels"]
        rest = [f"{label} ({other['count']:,})" for label, other in others.items() if not other["nearest"]]
        if rest:
            shown = ", ".join(rest[:MOST_LABELS]) + (" …" if len(rest) > MOST_LABELS else "")
            console.print(f"{len(rest)} other label(s) that are no concept: {shown}", soft_wrap=True)
        for problem in [*each["remarks"], *each["differences"], *each["problems"], *files["bad"]]:
            console.print(problem, soft_wrap=True)
        for model, found in each.get("models", {}).items():
            _print_model(model, found)
        if each["files"]:
            console.print(f"{files['read']:,} examples read, {len(files['bad'])} bad.")


def _print_model(name: str, found: dict[str, Any]) -> None:
    """What a model is, where it is read, what its SAE says, and what came of one example."""
    console.print(Text(f"model {name}: {found['hook_point']}"), soft_wrap=True)
    for title, values in (("SAE", found.get("sae", {})), ("preprocessing", found.get("preprocessing", {}))):
        if values:
            said = ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)
            console.print(Text(f"  {title}: {said}"), soft_wrap=True)
    for kind, count in found.get("rows", {}).items():
        console.print(Text(f"  first example: {count:,} {kind} rows, mean L0 {found['mean_l0'][kind]:.3g}"))
    if found["differences"]:
        console.print(Text(f"  warning: {found['differences']}"), soft_wrap=True)
    for problem in found["problems"]:
        console.print(Text(f"  {problem}"), soft_wrap=True)


def print_table(content: dict[str, Any]) -> None:
    """Metadata of one artifact, then its first rows."""
    console.print(f"{content['address']}: {content['rows']:,} rows, {content['bytes']:,} bytes")
    console.print(content["file"], soft_wrap=True)
    for name, value in {**content["counts"], **content["config"], "fingerprint": content["fingerprint"]}.items():
        shown = f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        console.print(f"  {name}: {shown}")
    rows = [{column: _cell(value) for column, value in row.items()} for row in content["head"]]
    if rows:
        table = Table()
        for column in rows[0]:
            table.add_column(column, no_wrap=not any(" " in row[column] for row in rows))
        for row in rows:
            table.add_row(*row.values())
        fits = console.measure(table, options=console.options.update_width(UNLIMITED)).minimum <= console.width
        for one in [table] if fits else _upright(rows):
            console.print(one)
            console.print()


def print_protocol(content: dict[str, Any]) -> None:
    """Figures of a protocol over the whole data set, then those of every concept."""
    of = "/".join(content[name] for name in ("dataset", "token_kind", "model"))
    console.print(Text.assemble((f"{content['protocol']} on {of}", "bold")))
    for name, value in content["figures"].items():
        console.print(f"  {name}: {_cell(value)}")
    rows = [{"concept": name, **{key: _cell(value) for key, value in each.items()}}
            for name, each in content["concepts"].items()]  # fmt: skip
    for table in _upright(rows) if rows else ():
        console.print()
        console.print(table)


def _upright(rows: Sequence[dict[str, str]]) -> Iterator[Table]:
    """Tables with one column per row, as many beside each other as the screen holds; long cells are folded."""
    widths = [min(WIDEST, max(cell_len(cell) for cell in (str(n), *row.values()))) for n, row in enumerate(rows)]
    names = max(cell_len(name) for name in rows[0])
    stop = 0
    while stop < len(rows):
        start, room = stop, console.width - names
        while stop < len(rows) and (stop == start or widths[stop] < room):
            room -= widths[stop] + 1
            stop += 1
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
        table.add_column("row", no_wrap=True)
        for number in range(start, stop):
            table.add_column(str(number), overflow="fold", max_width=WIDEST)
        for name in rows[0]:
            table.add_row(name, *(row[name] for row in rows[start:stop]))
        yield table


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_cell(part) for part in value[:6]) + (", …]" if len(value) > 6 else "]")
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
