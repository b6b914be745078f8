"""The command that finds units."""

from pathlib import Path
from typing import Annotated

import typer

from sae_assets.cli.advice import advice
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

HEADS = {f"test_{name}": name for name in ("precision", "recall", "iou", "ap")}  # room for a line in 80 columns


@app.command(rich_help_panel=FOUND)
def find(
    dataset: str,
    model: str,
    concept: Annotated[str | None, typer.Option(help="Units that are good for this concept on cal.")] = None,
    words: Annotated[str | None, typer.Option(help="Units that fire on the tokens of these words.")] = None,
    example: Annotated[
        str | None, typer.Option(help="Units that fire in this example (id, or file) and nowhere else.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Units that --labels calls so.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Explanations: JSON (lines, .gz) of Neuronpedia, or Delphi's folder.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Units to show.")] = 10,
    token_kind: Annotated[
        str | None, typer.Option("--sample-type", "--token-kind", help="patch, token, cls. (default: patch or token)")
    ] = None,
    home: Home = None,
    catalog: CatalogFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Find units: by concept, by words where they fire, by an example, or by labels of others."""
    with errors_without_traceback(as_json, debug):
        from sae_assets.reading.project import open_project  # noqa: PLC0415  # numpy, pyarrow

        kinds = open_project(home, catalog)[dataset][model]
        results = kinds[token_kind or next(iter(kinds))]
        one: str | Path | None = example
        if example is not None and not results.is_example(example):
            one = Path(example).expanduser()
            if not one.is_file():
                results.place_of(example)  # names the nearest
        table = results.find(concept=concept, words=words, example=one, label=label, labels=labels, n=top).to_arrow()
        lines = table.to_pylist()
        if as_json:
            print_json(
                {
                    "dataset": results.entry.name,
                    "token_kind": results.token_kind,
                    "model": results.model,
                    "units": lines,
                }
            )
            return
        names = table.column_names
        echo(f"{results.entry.name}/{results.token_kind}/{results.model}")
        echo(_title(names, concept, words, example, label))
        numbers = {name: HEADS.get(name, name) for name in names if name != "label"}
        echo("  ".join(f"{head:>7}" for head in numbers.values()) + ("  label" if "label" in names else ""))
        for line in lines:
            cells = {name: str(line[name]) if name == "unit_id" else _shown(line[name]) for name in numbers}
            echo("  ".join(f"{cells[name]:>{max(7, len(head))}}" for name, head in numbers.items())
                       + (f"  {line['label']}" if "label" in line else ""))  # fmt: skip
        if lines:
            of_kind = "" if results.token_kind == next(iter(kinds)) else f" --token-kind {results.token_kind}"
            which = f"{results.entry.name} {results.model}"
            echo(advice(f"How sure, where, beside what: sae-assets unit {which} {lines[0]['unit_id']}{of_kind}"))


def _title(names: list[str], concept: str | None, words: str | None, example: str | None, label: str | None) -> str:
    """Return what units were looked for, and by what they are sorted."""
    if concept is not None:
        suffix = "; precision to ap are of test" if "test_precision" in names else ""
        return f"units for {concept}, by F1 of {'rows' if suffix else 'examples'} on cal{suffix}"
    if words is not None:
        return f"units that fire on {words!r}, by F1 over all tokens"
    if example is not None:
        return f"units that fire in {example} and nowhere else, by the share of their rows there"
    return f"units labelled {label!r}, by the share of its words in the label"


def _shown(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
