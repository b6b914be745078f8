"""Names and texts of others are shown as they are written: no terminal is steered, no line turned, no formula made."""

import dataclasses
import io
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.padding import Padding
from rich.text import Text

from sae_assets.catalog import load_catalog
from sae_assets.cli import common, display
from sae_assets.datasets import open_dataset
from sae_assets.errors import CatalogError, DatasetError
from sae_assets.pipeline import plots
from sae_assets.pipeline.drawing import literal
from sae_assets.wording import alike, is_plain, looks, spelt, visible
from sae_assets_tests.helpers.swift import as_shipped
from sae_assets_tests.storage.small import SMALL
from sae_assets_tests.strategies import PROPERTY

STEERING = ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x7f", "\x9b1m", "\u202egnp.exe", "\u2066x", "\u200f", "\u061cx",
            "\u2028", "\ud800"]  # fmt: skip
PLAIN = ["a $x^$ b", "[bold]x", "<b>y</b>", "ü 猫 שלום مرحبا", "`code` **bold**", "👩‍🔬", "a\tb\nc"]


@pytest.mark.parametrize("text", STEERING)
def test_steering_characters_become_escapes(text: str) -> None:
    shown = visible(f"before {text} after")
    assert shown.isprintable() and shown.startswith("before ") and shown.endswith(" after") and "\\" in shown
    assert not is_plain(text)


@pytest.mark.parametrize("text", PLAIN)
def test_everything_else_is_shown_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert is_plain(text) is ("\n" not in text)


@pytest.mark.parametrize("text", ["a\u200bb", "\ufeffa", "a\u2060"])
def test_what_nobody_sees_is_shown_and_may_be_in_names(text: str) -> None:
    assert visible(text).isascii() and is_plain(text)


@pytest.mark.parametrize("text", STEERING)
def test_errors_and_tables_do_not_steer_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    common.report(DatasetError(f"Data set 'x': {text}", [f"line 3: {text}"]), as_json=False)
    error = capsys.readouterr().err
    assert error.count("\n") == 2 and error.replace("\n", "").isprintable()
    written = io.StringIO()
    console = display.PlainConsole(file=written, width=80, **display.PLAIN)
    table = display.Table(title=text)
    table.add_column(text)
    table.add_row(text)
    console.print(table)
    console.print(text, soft_wrap=True)
    console.print(Text.assemble(text, (text, "bold")), Padding(Text(text), 1))
    assert all(line.isprintable() for line in written.getvalue().split("\n"))


@pytest.mark.parametrize("name", [*STEERING[:-1], "two\nlines"])
def test_concepts_and_examples_have_plain_names(tmp_path: Path, name: str) -> None:
    entry = {"root": "data.csv", "layout": "table", "modality": "text", "models": ["gemma-mini"], "concepts": ["calm"]}
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"x": {**entry, "concepts": [name]}}}))
    with pytest.raises(CatalogError, match="expected one line without control characters") as caught:
        load_catalog(path)
    assert visible(str(caught.value)).replace("\n", "").isprintable()
    path.write_text(yaml.safe_dump({"datasets": {"x": {**entry, "columns": {"id": "id"}}}}))
    (tmp_path / "data.csv").write_bytes(f'id,text,split,calm\n"{name}",a text,cal,1\n'.encode())
    with pytest.raises(DatasetError):
        open_dataset(load_catalog(path).datasets["x"])


@pytest.mark.parametrize(
    "names",
    [("joy", "Joy"), ("joy", "joy\u200b"), ("caf\u00e9", "cafe\u0301"), ("joy", "j\u043ey"), ("a b", "a  b"),
     ("joy", "joy "), ("fine", "\ufb01ne"), ("ok", "\u00ad")],
)  # fmt: skip
def test_concepts_that_look_alike_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    """One would be read for the other: in case, in what cannot be seen, in how letters are composed, or in script."""
    entry = {"root": "data.csv", "layout": "table", "modality": "text", "models": ["gemma-mini"]}
    path = tmp_path / "catalog.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"x": {**entry, "concepts": list(names)}}}))
    expected = "a name that can be seen" if names[0] == "ok" else f"look alike.*: {spelt(names[0])[:5]}.* and .*rename"
    with pytest.raises(CatalogError, match=expected):
        load_catalog(path)


@settings(PROPERTY, max_examples=100)
@given(st.text(max_size=8), st.text(max_size=8))
def test_looks_are_one_for_every_spelling(name: str, other: str) -> None:
    """Case, composition and what cannot be seen change no look; a look is its own look."""
    for spelling in (name.upper(), unicodedata.normalize("NFD", name), f" \u200b{name}\u2060", looks(name)):
        if looks(name.upper()) == looks(name.casefold()):
            assert looks(spelling) == looks(name)
    assert alike([name, other, name]) == (
        [] if name == other or looks(name) != looks(other) else [f"{spelt(name)} and {spelt(other)}"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["best_pairs", "controls", "coalitions", "pruning_audit", "localization", "row_alignment"]
)
def test_no_name_is_a_formula_in_a_picture(kind: str) -> None:
    """`$x^$` is no formula, which ended detection after everything had been computed."""
    artifact: Any = SMALL[kind]
    names, n = ("a $x^$ b", "$", "$$", r"a\$b $c^$", "_hidden", "<b>y</b>", r"\frac{"), len(artifact.concepts)
    with as_shipped():
        for start in range(
            0, len(names), 1 if kind in ("localization", "row_alignment") else n
        ):  # draw the first alone
            concepts = (*names[start:], *artifact.concepts)[:n]
            assert getattr(plots, f"plot_{kind}")(dataclasses.replace(artifact, concepts=concepts)).startswith("![")


@pytest.mark.parametrize("name", ["a $x^$ b", "$", "$$", r"a\$b", r"\$\$", "$a$b$c$"])
def test_names_come_out_of_matplotlib_as_they_went_in(name: str) -> None:
    from matplotlib.text import Text as Drawn

    shown, is_math = Drawn()._preprocess_math(literal(name))
    assert shown == name and not is_math
