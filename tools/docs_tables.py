"""Tables in the documents that say what the code says, written from the code: ``python -m tools.docs_tables``.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. The tests refuse documents in which it is another.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sae_assets.catalog import Bounds, Dataset, Model, Pruning
from sae_assets.catalog.datasets import TokenKind
from sae_assets.catalog.models import ModelName, Sae
from sae_assets.catalog.registry import formats, layouts, libraries
from sae_assets.cli import app
from sae_assets.cli.common import EXIT_CODES
from sae_assets.datasets.pixels import MODES
from sae_assets.orchestration.switches import SWITCHES
from sae_assets.pipeline.checks import READABLE, READABLE_DESCRIPTION, Check
from sae_assets.pipeline.planning import STATES
from sae_assets.pipeline.stages import STAGES
from sae_assets.rows.properties import KNOWN, OF
from sae_assets.settings import VARIABLES
from sae_assets.storage.tables import table_of
from sae_assets_tests.storage.small import SMALL

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.S)
PARTITIONS = {"dataset-chunk": "chunk", "chunk": "model × chunk", "model": "model"}
COMMON = ("--home", "--catalog", "--json", "--debug")
ELSEWHERE = (Sae, Pruning, Bounds)  # entries with a table of their own
NAMES_OF = {"layout": layouts, "format": formats, "library": libraries}
KEYS_OF_MAPPINGS = {ModelName: "<model>", TokenKind: "<token kind>"}

Rows = Iterator[tuple[str, ...]]


def stages() -> Rows:
    yield "asset", "partitioned by", "holds"
    for stage in STAGES.values():
        kind = "<kind>/" if stage.has_token_kind else ""
        yield f"`<dataset>/{kind}{stage.name}`", PARTITIONS[stage.level], stage.description.rstrip(".")


def layout_table() -> Rows:
    yield "layout", "of", "`root` names", "also takes", "concepts are located"
    for layout in layouts().values():
        kinds = " or ".join(f"{kind}s" for kind in layout.modalities)
        yield f"`{layout.name}`", kinds, layout.expected, _codes(layout.takes), layout.located


def pixel_table() -> Rows:
    yield "the file holds", "read"
    yield from MODES.items()


def property_table() -> Rows:
    yield "property", "of", "the model's files say it", "the SAE's files say it", "a difference"
    for name, cells in KNOWN.items():
        yield name, " and ".join(f"{modality}s" for modality, names in OF.items() if name in names), *cells


def format_table() -> Rows:
    yield "format", "`path` names"
    for one in formats().values():
        files = "a folder with " + " and ".join(f"`{file}`" for file in one.files) if one.files else "one file"
        yield f"`{one.name}`", files + (f", or with `{one.single}`" if one.single else "")


def _commands() -> dict[str, Any]:
    """Return commands by name, without those that stand for a former name."""
    every = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: command for name, command in every.items() if not command.hidden}


def commands() -> Rows:
    yield "command", "does"
    for name, command in _commands().items():
        yield f"`{name}`", " ".join((command.help or "").split())


def common_options() -> Rows:
    yield "option", "means", "default", "not of"
    commands = {name: getattr(command, "declared", command) for name, command in _commands().items()}
    taken = {name: {spelt: one for one in command.params for spelt in one.opts} for name, command in commands.items()}
    for option in COMMON:
        parameter = next(parameters[option] for parameters in taken.values() if option in parameters)
        yield f"`{option}`", *_help(parameter), _codes(name for name in taken if option not in taken[name])


def options() -> Rows:
    yield "option", "means", "default"
    for parameter in _commands()["materialize"].declared.params:
        if not set(parameter.opts) & set(COMMON):
            names = sorted(parameter.opts, key=lambda name: (not name.startswith("--"), -len(name)))
            yield _codes(names), *_help(parameter)


def _help(parameter: Any) -> tuple[str, str]:
    """Return what an option means, and its default, which its help names at the end."""
    text, _, default = parameter.help.partition(" (default: ")
    return text.rstrip("."), "off" if parameter.is_flag else default.removesuffix(")") or "none"


def exit_codes() -> Rows:
    yield "code", "means"
    yield from EXIT_CODES.items()


def states() -> Rows:
    yield "state", "means"
    yield from STATES.items()


def checks() -> Rows:
    yield "check", "of", "asks that", "otherwise"
    yield f"`{READABLE}`", "every stage", READABLE_DESCRIPTION.rstrip("."), "blocks"
    stages_of = {check: [name for name, stage in STAGES.items() if check in stage.checks] for check in _checks()}
    for check, names in stages_of.items():
        yield f"`{check.name}`", _codes(names), check.description.rstrip("."), "blocks" if check.blocking else "warns"


def switches() -> Rows:
    yield "switch", "looks", "does"
    for switch in SWITCHES:
        yield f"`{switch.name('<dataset>')}`", switch.looks, switch.does.rstrip(".")


def variables() -> Rows:
    yield "variable", "means", "default"
    for name, variable in VARIABLES.items():
        yield f"`{name}`", variable.description, f"`{variable.default}`" if variable.default else "none"


def keys_of(entry: type[BaseModel]) -> Rows:
    yield "key", "means", "default"
    yield from _keys(entry, "")


def _keys(entry: type[BaseModel], prefix: str) -> Rows:
    """A row per key, and below a key that holds keys theirs, unless they have a table of their own."""
    for name, field in entry.model_fields.items():
        path, inner = _inner(field.annotation, prefix + name)
        text, _, default = (field.description or "").partition("; default: ")
        values = [f"`{value}`" for value in (NAMES_OF[name]() if name in NAMES_OF else _literals(field.annotation))]
        if not all(value in text for value in values):
            text = f"{', '.join(values)}: {text}"
        yield f"`{prefix}{name}`", text, default or _default(field)
        if inner is not None and inner not in ELSEWHERE:
            yield from _keys(inner, f"{path}.")


def _inner(annotation: Any, path: str) -> tuple[str, type[BaseModel] | None]:
    """The path to what a key holds, and the entry there, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return path, annotation
    parts = get_args(annotation)
    if get_origin(annotation) is dict:
        return _inner(parts[1], f"{path}.{KEYS_OF_MAPPINGS.get(parts[0], '*')}")
    return next((inner for part in parts if (inner := _inner(part, path))[1]), (path, None))


def _literals(annotation: Any) -> tuple[str, ...]:
    """The values that are allowed, where they are a few words and nothing else is."""
    if get_origin(annotation) is tuple:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):  # its keys have defaults of their own
        return ""
    if value is None or value in ("", (), {}):
        return "none"
    if isinstance(value, (str, bool)):
        return f"`{str(value).lower() if isinstance(value, bool) else value}`"
    return ", ".join(f"{number:g}" for number in (value if isinstance(value, tuple) else [value]))


def columns_of(kind: str) -> Rows:
    """Columns as they are written of a small artifact; those that stand once per concept have one row."""
    yield "column", "type", "holds"
    table = table_of(kind)
    texts, listed = table.COLUMNS, set()
    for field in table.encode(SMALL[kind])[0].schema:
        name, colon, _ = field.name.partition(":")
        if name not in listed:
            listed.add(name)
            yield f"`{name}:<concept>`" if colon else f"`{name}`", str(field.type), texts[name]


TABLES: dict[str, Callable[[], Rows]] = {
    "stages": stages,
    "layouts": layout_table,
    "pixels": pixel_table,
    "properties": property_table,
    "formats": format_table,
    "commands": commands,
    "common-options": common_options,
    "materialize": options,
    "exit-codes": exit_codes,
    "states": states,
    "checks": checks,
    "switches": switches,
    "variables": variables,
    "keys-of-datasets": partial(keys_of, Dataset),
    "keys-of-models": partial(keys_of, Model),
    "keys-of-sae": partial(keys_of, Sae),
    "keys-of-pruning": partial(keys_of, Pruning),
    "keys-of-bounds": partial(keys_of, Bounds),
    **{f"columns-of-{kind}": partial(columns_of, kind) for kind in STAGES},
}


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _checks() -> list[Check]:
    """Every check of a stage, once."""
    return list(dict.fromkeys(check for stage in STAGES.values() for check in stage.checks))


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
