"""Tables show what a finished run found: pairs of each concept, rows, controls and who wins."""

from shlex import quote
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from sae_assets.artifacts.detection import FEWEST
from sae_assets.cli.display import console, figure, interval
from sae_assets.wording import counted

if TYPE_CHECKING:
    from sae_assets.commands.session import Session


def print_summary(figures: dict[str, Any], session: "Session", n_runs: int, skipped: int) -> None:
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
                interval(best["test_f1_interval"]) + ("?" if best["too_few"] else ""),
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
    console.print(f"\n{n_runs} runs made, {skipped} were up to date.")
    console.print(f"Files:   {session.settings.store}", soft_wrap=True)
    settings = session.settings
    own = f" --catalog {quote(str(settings.catalog))}" if settings.catalog else ""
    home = quote(str(settings.home))
    console.print(f"UI:      sae-assets ui --home {home}{own}   (http://127.0.0.1:3000)", soft_wrap=True)
    for key in figures:
        dataset, kind, model = map(quote, key.split("/"))
        which = f"sae-assets report {dataset} {model} --token-kind {kind}"
        console.print(f"Report:  {which} --home {home}{own}", soft_wrap=True)
    if not figures:
        return
    console.print("\nPairs are chosen on cal, by rows where the data say where a concept is; test figures are only")
    console.print('reported. "bar": what a test F1 has to exceed, the largest of calling every example positive, the')
    console.print('95 % point of shuffled labels and the best control, where there are any. "q": share of false')
    console.print('discoveries among concepts that are this sure, by shuffled labels. "row P", "R", "F1": precision,')
    console.print('recall and F1 of the unit on the rows (patches, tokens) of test, "row q": as q, of the row F1, by')
    console.print('exchanging between examples where the concept is, "px IoU": on the pixels of masks; ! marks a unit')
    console.print("that fires beside the concept more than on it.")
    if any(best["too_few"] for result in figures.values() for best in result["concepts"].values()):
        console.print(f"? marks figures of fewer than {FEWEST} positive or negative test examples, which say little.")
    console.print('"coverage@t": share of concepts whose best unit by AP on cal has an AP of t on test.')
    if any(result["controls"] for result in figures.values()):
        console.print("Controls: random_sae is the mean of random SAEs; ! marks one that is better than the unit, by a")
        console.print("paired 95 % interval that excludes 0.")
    if any(result["controls"] is None and not result["inapplicable_stages"] for result in figures.values()):
        console.print("With `controls: {}` in its catalog entry a data set's units stand beside random SAEs and")
        console.print("detectors without an SAE, too, and not beside chance alone.")


def _bar(best: dict[str, Any]) -> float | None:
    """Return what a concept's test F1 has to exceed: chance, and the best of its controls."""
    return _largest(best["chance_f1"], *(control["f1"] for control in (best["controls"] or {}).values()))


def _weighted_bar(result: dict[str, Any]) -> float | None:
    """Return the same of the weighted mean."""
    controls = result["controls"]["weighted"].values() if result["controls"] else ()
    return _largest(result["always_positive_f1"], result["null_f1"]["p95"], *(control["f1"] for control in controls))


def _largest(*values: float | None) -> float | None:
    """Return the largest of the figures that exist."""
    return max((value for value in values if value is not None), default=None)


def _fit_line(fit: dict[str, Any]) -> str:
    """Return how well the SAE fits the rows, beside what its checkpoint says of itself."""
    stated = f" (stated: {fit['stated_l0']})" if fit["stated_l0"] is not None else ""
    dead = "–" if fit["dead_units_share"] is None else f"{fit['dead_units_share']:.0%}"
    return f"FVU {figure(fit['fvu'])}, mean L0 {figure(fit['mean_l0'], 1)}{stated}, {dead} of the units fire on no row"


def _rows_line(rows: dict[str, Any]) -> str:
    """Return what the SAE's units reach on rows, over the concepts that are located: each by its best unit on cal."""
    covered = ", ".join(f"{name} {figure(value, 2)}" for name, value in rows.items() if name.startswith("coverage@"))
    pixels = "" if rows["mean_best_pixel_iou"] is None else f", of pixels {figure(rows['mean_best_pixel_iou'], 2)}"
    return (
        f"Rows, best unit of each of {counted(rows['concepts'], 'concept')}: "
        f"mean AP {figure(rows['mean_best_ap'], 2)}, F1 {figure(rows['mean_best_f1'], 2)}, "
        f"IoU {figure(rows['mean_best_iou'], 2)}{pixels}; {covered}; "
        f"F1 above .5: {counted(rows['concepts_f1>0.5'], 'concept')}, {counted(rows['units_f1>0.5'], 'unit')}; "
        f"IoU above .04: {counted(rows['concepts_iou>0.04'], 'concept')}, {counted(rows['units_iou>0.04'], 'unit')}"
    )


def _joined(coalition: dict[str, Any]) -> str:
    """Return units of a coalition with its rule between them."""
    return "units " + f" {coalition['rule']} ".join(map(str, coalition["units"]))


def _print_aurocs(result: dict[str, Any]) -> None:
    """Test AUROC of each concept's unit and of the control with the largest, with their intervals."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("test AUROC", "unit", "95 %", "best control", "", "95 %"):
        words = heading in ("test AUROC", "best control")
        table.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for concept, best in result["concepts"].items():
        rivals = [name for name, control in best["controls"].items() if control["auroc"] is not None]
        name = max(rivals, key=lambda name: best["controls"][name]["auroc"], default="–")
        control = best["controls"].get(name, {"auroc": None, "auroc_interval": (None, None)})
        few = "?" if best["too_few"] else ""
        table.add_row(
            concept, figure(best["auroc"]), interval(best["auroc_interval"]) + few, name,
            figure(control["auroc"]), interval(control["auroc_interval"]) + few,
        )  # fmt: skip
    console.print(table)
    console.print()


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
        few = "?" if best["too_few"] else ""
        table.add_row(concept, figure(best["test_f1"]) + few, *(cell(best["controls"][name]) for name in names))
    table.add_section()
    means = [controls["weighted"][name] for name in names]
    table.add_row("weighted mean", figure(result["weighted_test_f1"]), *(cell(mean) for mean in means))
    for kind, heading, scale in (("seconds", "seconds", 1), ("peak_bytes", "peak MB", 1e6), ("bytes", "reads MB", 1e6)):
        costs = [controls[kind].get(name) for name in ("unit", *names)]
        table.add_row(heading, *("–" if cost is None else f"{cost / scale:.2f}" for cost in costs))
    console.print(table)
    console.print()
    _print_aurocs(result)
    for sentence in filter(None, (controls["verdict"], controls["row_verdict"])):
        console.print(sentence)
    if controls["fitted_on_half_of_cal"]:
        console.print(
            "There are no train examples: controls were fitted on half of cal, thresholds chosen on the rest."
        )
    console.print()
