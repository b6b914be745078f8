"""The command that shows one unit: its figures in the terminal, or a page."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sae_assets.cli.common import (
    FOUND,
    AsJson,
    CatalogFile,
    Debug,
    Home,
    app,
    echo,
    errors_without_traceback,
    print_json,
)
from sae_assets.pages.figures import figure
from sae_assets.wording import counted, interval

BLOCKS = " ▁▂▃▄▅▆▇█"


@app.command(rich_help_panel=FOUND)
def unit(
    dataset: str,
    model: str,
    unit: Annotated[int, typer.Argument(min=0, help="Original id of the unit.")],
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Examples, concepts and co-active units to show.")] = 5,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures or marked texts to this file.")] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a unit fires on: statistics, concepts, best examples and where in them, units that fire beside it."""
    with errors_without_traceback(as_json, debug):
        from upath import UPath  # noqa: PLC0415 - loads fsspec

        from sae_assets.reading.page import unit_page  # noqa: PLC0415  # numpy, pyarrow
        from sae_assets.reading.project import open_project  # noqa: PLC0415
        from sae_assets.reading.summary import unit_summary  # noqa: PLC0415
        from sae_assets.storage.atomic import write_atomically  # noqa: PLC0415  # fsspec

        kinds = open_project(home, catalog)[dataset][model]
        chosen = kinds[token_kind or next(iter(kinds))].unit(unit)
        if html is not None:
            write_atomically(UPath(html), unit_page(chosen, top).encode())
        summary = unit_summary(chosen, top)
        if as_json:
            print_json(summary)
        else:
            _print(summary)
            if html is not None:
                echo(f"Page: {html}")


def _print(unit: dict[str, Any]) -> None:
    from sae_assets.reading.page import headline  # noqa: PLC0415 - as above

    echo(f"{unit['dataset']}/{unit['token_kind']}/{unit['model']}  unit {unit['unit']}")
    echo(headline(unit))
    for pair in unit["pairs"]:
        _print_beside(pair)
    counts = unit["histogram"]["counts"]
    if any(counts):
        bars = "".join(BLOCKS[-(-8 * count // max(counts))] for count in counts)
        echo(f"values    0 {bars} {figure(unit['histogram']['edges'][-1])}   threshold {figure(unit['threshold'])}")
    echo("cal rows  " + "  ".join(f"{name} {figure(value)}" for name, value in unit["stats"].items()))
    if unit["concepts"]:
        echo(f"\n{'on rows':24} cal F1  test F1  precision  recall")
        for line in unit["concepts"]:
            figures = [figure(line[name]) for name in ("cal_f1", "test_f1", "test_precision", "test_recall")]
            echo("{:24} {:>6}  {:>7}  {:>9}  {:>6}".format(line["concept"][:24], *figures))
    if unit["examples"]:
        echo("\nlargest values")
        for one in unit["examples"]:
            echo(
                f"{figure(one['value']):>8}  {one['example_id']}  {counted(one['n_rows'], 'row')}{_where(one['peak'])}"
            )
    if unit["co_active"]:
        beside = ", ".join(f"{one['unit_id']} ({one['jaccard']:.2f})" for one in unit["co_active"])
        echo(f"\nfires with (share of rows of either): {beside}")


def _print_beside(pair: dict[str, Any]) -> None:
    """The F1 of a pair on examples and on rows, beside chance, random SAEs and the best detector without an SAE."""
    echo(f"\n{pair['concept']}\n{'':11}  test F1       95 %  chance  random  best without an SAE")
    for level, beside in pair["beside"].items():
        ends = interval(beside["f1_low"], beside["f1_high"]) if beside["f1_low"] is not None else "–"
        best = figure(beside["without_sae"])
        name = beside["without_sae_name"]
        echo(
            f"{'on ' + level:11}  {figure(beside['f1']):>7}  {ends:>9}  {figure(beside['chance']):>6}  "
            f"{figure(beside['random_saes']):>6}  {best}{f' ({name})' if name else ''}"
        )
    echo("")


def _where(peak: dict[str, Any] | None) -> str:
    if peak is None:
        return ""
    if "context" in peak:
        return f"  {peak['text']!r} in …{' '.join(peak['context'].split())}…"
    return "  around x {:.0f}–{:.0f}, y {:.0f}–{:.0f}".format(
        *(peak[name] for name in ("left", "right", "top", "bottom"))
    )
