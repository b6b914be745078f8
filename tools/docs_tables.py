"""Tables in the documents that say what the code says, written from the code: ``python -m tools.docs_tables``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. The tests refuse documents in which it is another.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

from sae_assets.catalog.registry import formats, layouts
from sae_assets.cli import app
from sae_assets.pipeline.stages import STAGES, options_kinds

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
PARTITIONS = {"dataset-chunk": "chunk", "chunk": "model × chunk", "model": "model"}
EVERYWHERE = {"--home", "--catalog", "--json", "--debug"}

Rows = Iterator[tuple[str, ...]]


def stages() -> Rows:
    yield "asset", "partitioned by", "holds"
    for stage in STAGES.values():
        kind = "<kind>/" if stage.has_token_kind else ""
        yield f"`<dataset>/{kind}{stage.name}`", PARTITIONS[stage.level], stage.description.rstrip(".")


def layout_table() -> Rows:
    yield "layout", "of", "`root` names", "also takes"
    for layout in layouts().values():
        kinds = " or ".join(f"{kind}s" for kind in layout.modalities)
        yield f"`{layout.name}`", kinds, layout.expected, ", ".join(f"`{key}`" for key in layout.takes)


def format_table() -> Rows:
    yield "format", "`path` names"
    for one in formats().values():
        files = "a folder with " + " and ".join(f"`{file}`" for file in one.files) if one.files else "one file"
        yield f"`{one.name}`", files + (f", or with `{one.single}`" if one.single else "")


def commands() -> Rows:
    yield "command", "does"
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        yield f"`{name}`", " ".join((command.help or "").split())


def options() -> Rows:
    yield "option", "means", "default"
    fields = {name: field for kind in options_kinds() for name, field in kind.model_fields.items()}
    for parameter in typer.main.get_command(app).commands["materialize"].params:  # type: ignore[attr-defined]
        names = sorted(parameter.opts, key=lambda name: (not name.startswith("--"), -len(name)))
        if set(names) & EVERYWHERE:
            continue
        text, _, default = parameter.help.partition(" [default: ")
        text, default = text.rstrip("."), "off" if parameter.is_flag else default.rstrip("]")
        of_stages = [fields[name] for each in names if (name := each.lstrip("-").replace("-", "_")) in fields]
        if of_stages and not parameter.is_flag:
            text = (of_stages[0].description or "").partition("; default: ")[0]
            default = "the catalog's" if of_stages[0].default is None else str(of_stages[0].default)
        yield ", ".join(f"`{name}`" for name in names), text, default


TABLES: dict[str, Callable[[], Rows]] = {
    "stages": stages,
    "layouts": layout_table,
    "formats": format_table,
    "commands": commands,
    "materialize": options,
}


def _plain(cell: str) -> str:
    """Text whose angle brackets are no HTML; between backticks they are none anyway."""
    return cell if "`" in cell else cell.replace("<", "&lt;")


def table(name: str) -> str:
    """A table in Markdown."""
    heading, *rows = TABLES[name]()
    lines = [heading, tuple("---" for _ in heading), *rows]
    return "".join(
        "|" + "|".join(f" {_plain(cell)} " if cell != "---" else cell for cell in line) + "|\n" for line in lines
    )


def filled(text: str) -> str:
    """A page with its tables as they are now. Raises: KeyError, for a table that nothing makes."""

    def fill(match: "re.Match[str]") -> Any:
        return match[1] + table(match[2]) + match[3]

    return MARKED.sub(fill, text)


def main() -> None:
    """Write all tables."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
            print(f"{page.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
