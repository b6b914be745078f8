"""Values are named by nouns and docstrings are sentences, as the guide's naming rules say (CONTRIBUTING.md, Names).

Nothing here judges English: it sees names that say nothing of a value, and docstrings that are a clause without a verb.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import sae_assets

PACKAGE = Path(sae_assets.__file__).parent
ROOT = PACKAGE.parent
# Participles and adverbs, which say of a value what happened to it and not what it is.
NO_NOUNS = {
    "again", "behind", "found", "given", "held", "kept", "known", "made", "more", "place", "said", "there",
    "wanted",
}  # fmt: skip
# With these a clause or an adverbial begins, and what follows is mostly no sentence.
CLAUSE = re.compile(r"(And|As|But|By|For|How|If|In|Not|Of|On|That|To|What|When|Where|Whether|Which|Why|With|Without)\b")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def unfit_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield values of a module, parameters among them, that are named by no noun."""
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in NO_NOUNS:
            yield f"line {node.lineno}: {node.id}"
        elif isinstance(node, ast.arg) and node.arg in NO_NOUNS:
            yield f"line {node.lineno}: {node.arg}"


def fragments(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield docstrings of a module that begin with a clause in place of a sentence."""
    for node in nodes:
        if isinstance(node, DOCUMENTED) and CLAUSE.match(ast.get_docstring(node) or ""):
            yield f"line {getattr(node, 'lineno', 1)}: {(ast.get_docstring(node) or '').splitlines()[0]}"


@pytest.mark.parametrize(
    "source",
    ["found = 1", "def f(given): ...", "for place in x: ...", "[known for known in x]", "with f() as (held, _): ...",
     "def f(*, kept=None): ...", "lambda wanted: wanted", "made: int = 1"],
)  # fmt: skip
def test_a_name_that_is_no_noun_is_seen(source: str) -> None:
    assert len(list(unfit_names(nodes_of(source)))) == 1
    assert list(unfit_names(nodes_of("count = 1\nx.found = f(given=1)"))) == []


@pytest.mark.parametrize(
    "source",
    ['"""Where files lie."""', 'class A:\n    """What a run takes."""', 'def f():\n    """Of a stage, its inputs."""'],
)
def test_a_fragment_is_seen(source: str) -> None:
    assert len(list(fragments(nodes_of(source)))) == 1
    assert list(fragments(nodes_of('"""Return where files lie."""\ndef f():\n    """Offer what there is."""'))) == []


def test_values_are_named_by_nouns_and_docstrings_are_sentences() -> None:
    """In the package, the benchmarks and the tools."""
    paths = [path for folder in (PACKAGE, ROOT / "benchmarks", ROOT / "tools") for path in folder.rglob("*.py")]
    seen: dict[str, list[str]] = {}
    for path in paths:
        nodes = nodes_of(path.read_text("utf-8"))
        seen[str(path.relative_to(ROOT))] = [*unfit_names(nodes), *fragments(nodes)]
    assert {path: lines for path, lines in seen.items() if lines} == {}


def nodes_of(source: str) -> list[ast.AST]:
    return [*ast.walk(ast.parse(source))]
