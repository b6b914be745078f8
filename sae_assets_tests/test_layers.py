"""Layers are one-way: every import of the package is parsed and held against one table and a few rules.

Each rule has a test that plants a violation in a source tree of its own and sees it reported.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import sae_assets

PACKAGE = "sae_assets"
ROOT = Path(sae_assets.__file__).parent

# Lowest first; a module may import its own layer and those above it in this list.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("", "errors"),
    ("settings", "catalog", "progress"),
    ("artifacts",),
    ("ops",),
    ("saes", "embedding", "datasets"),
    ("storage",),
    (
        *("stages", "lineage", "config", "partitions", "resources", "io_manager", "metadata", "checks", "automation"),
        *(
            "instance",
            "freshness",
            "materialize",
            "importing",
            "registration",
            "backfills",
            "schedules",
            "verification",
            "alerts",
            "failures",
            "launcher",
            "retries",
            "housekeeping",
            "summary",
            "session",
            "definitions",
            "assets",
            "reports",
        ),
    ),
    ("cli", "display", "demo"),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SHELL = len(LAYERS) - 2
OPS_MAY_IMPORT = ("torch", "jaxtyping", f"{PACKAGE}.ops", f"{PACKAGE}.artifacts", f"{PACKAGE}.errors")
STORAGE_MAY_NOT_IMPORT = ("ops", "saes", "embedding")
ASSETS_ASIDE = ("graph", "factory")


@dataclass(frozen=True)
class Import:
    """One import: who, whom, where, and whether it happens when the module is loaded."""

    module: str
    target: str
    line: int
    at_module_level: bool
    only_for_types: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name to file, packages under their own name."""
    names = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        names[".".join((PACKAGE, *parts))] = path
    return names


def imports_of(root: Path) -> Iterator[Import]:
    """Every import statement of every module; ``from a import b`` is an import of ``a.b`` where that is a module."""
    known = modules_of(root)
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from _walk(tree, module, path.name == "__init__.py", known, at_module_level=True, only_for_types=False)


def _walk(
    node: ast.AST, module: str, is_package: bool, known: dict[str, Path], *, at_module_level: bool, only_for_types: bool
) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for target in _targets(child, module, is_package, known):
            yield Import(module, target, child.lineno, at_module_level, only_for_types)  # type: ignore[attr-defined]
        inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            types = ast.Module(child.body, [])
            yield from _walk(types, module, is_package, known, at_module_level=at_module_level, only_for_types=True)
            child = ast.Module(child.orelse, [])
        yield from _walk(
            child,
            module,
            is_package,
            known,
            at_module_level=at_module_level and not inside,
            only_for_types=only_for_types,
        )


def _targets(node: ast.AST, module: str, is_package: bool, known: dict[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = module.split(".")
            parents = parents[: len(parents) - node.level + (1 if is_package else 0)]
            base = ".".join([*parents, *([base] if base else [])])
        for alias in node.names:
            yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
    elif isinstance(node, ast.Call):  # importlib.import_module("…") and __import__("…")
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def belongs(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def part(name: str) -> str:
    """First name below the package; empty for the package itself."""
    return name.split(".")[1] if "." in name else ""


def ours(found: Import) -> bool:
    return belongs(found.target, PACKAGE)


def unknown_modules(root: Path) -> list[str]:
    """Modules that stand in no layer: a new one must be given its place."""
    return sorted({f"{part(name)} stands in no layer" for name in modules_of(root) if part(name) not in RANK})


def upward(root: Path) -> list[str]:
    """Imports of a higher layer, wherever in the file, for types too."""
    return [
        f"{found}, a higher layer"
        for found in imports_of(root)
        if ours(found) and RANK.get(part(found.target), 99) > RANK.get(part(found.module), -1)
    ]


def dagster_below_the_shell(root: Path) -> list[str]:
    """Dagster in a module that is neither shell nor edge."""
    return [
        f"{found}, but only the shell does"
        for found in imports_of(root)
        if belongs(found.target, "dagster") and RANK.get(part(found.module), -1) < SHELL
    ]


def foreign_to_ops(root: Path) -> list[str]:
    """Anything in ops but torch, jaxtyping, the standard library, artifacts and errors."""
    return [
        f"{found}, which ops does not need"
        for found in imports_of(root)
        if part(found.module) == "ops"
        and not any(belongs(found.target, allowed) for allowed in OPS_MAY_IMPORT)
        and found.target.split(".")[0] not in sys.stdlib_module_names
    ]


def torch_with_artifacts(root: Path) -> list[str]:
    """torch when artifacts are imported, rather than when one is built or for types only."""
    return [
        f"{found} when it is loaded"
        for found in imports_of(root)
        if part(found.module) in ("artifacts", "errors", "catalog", "settings")
        and found.at_module_level
        and not found.only_for_types
        and any(belongs(found.target, heavy) for heavy in ("torch", "numpy", "jaxtyping"))
    ]


def assets_that_know_each_other(root: Path) -> list[str]:
    """One asset module in another; graph is for all of them, factory knows all of them."""

    def stage(name: str) -> str | None:
        found = name.removeprefix(f"{PACKAGE}.assets.")
        return None if found == name or found in ASSETS_ASIDE else found

    problems = []
    for found in imports_of(root):
        if belongs(found.module, f"{PACKAGE}.assets") and found.module != f"{PACKAGE}.assets.factory":
            target, source = stage(found.target), stage(found.module)
            if (target and target != source) or found.target == f"{PACKAGE}.assets.factory":
                problems.append(f"{found}, another asset module")
    return problems


def numerics_in_storage(root: Path) -> list[str]:
    """ops, SAEs or transformers in storage: it knows artifacts and files."""
    return [
        f"{found}, but storage holds no numerics"
        for found in imports_of(root)
        if part(found.module) == "storage" and ours(found) and part(found.target) in STORAGE_MAY_NOT_IMPORT
    ]


RULES: tuple[Callable[[Path], list[str]], ...] = (
    unknown_modules,
    upward,
    dagster_below_the_shell,
    foreign_to_ops,
    torch_with_artifacts,
    assets_that_know_each_other,
    numerics_in_storage,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Callable[[Path], list[str]]) -> None:
    """Today's code breaks no rule."""
    assert rule(ROOT) == []


def test_the_parser_sees_the_package() -> None:
    """The rules hold for real imports, not for want of any: known ones of every sort are found."""
    found = {(each.module, each.target): each for each in imports_of(ROOT)}
    assert len(modules_of(ROOT)) > 50
    assert found[f"{PACKAGE}.partitions", "dagster"].at_module_level
    assert found[f"{PACKAGE}.assets.factory", f"{PACKAGE}.assets.unit_stats"].at_module_level
    assert (
        found[f"{PACKAGE}.artifacts.base", "torch"].only_for_types
        or not found[f"{PACKAGE}.artifacts.base", "torch"].at_module_level
    )
    assert not found[f"{PACKAGE}.lineage", f"{PACKAGE}.saes"].at_module_level
    assert (f"{PACKAGE}.storage.manifests", f"{PACKAGE}.datasets.chunking") in found


def plant(root: Path, files: dict[str, str]) -> Path:
    """A package of these files, sound but for what they say."""
    package = root / PACKAGE
    for name, content in {"__init__.py": "", "errors.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(package).parents:
            (package / folder / "__init__.py").touch()
        path.write_text(content)
    return package


SOUND = {
    "artifacts/base.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
    "def f():\n    import torch\n",
    "ops/means.py": "import math\nimport torch\nfrom jaxtyping import Float\nfrom sae_assets.artifacts import base\n",
    "storage/store.py": "from sae_assets.artifacts.base import f\nfrom sae_assets.datasets import read\n",
    "datasets/read.py": "import numpy\nfrom sae_assets import errors\n",
    "assets/graph.py": "import dagster as dg\nfrom sae_assets.storage import store\n",
    "assets/means.py": "from sae_assets.assets.graph import dg\ndef g():\n    from sae_assets.ops.means import Float\n",
    "assets/factory.py": "from sae_assets.assets import graph, means\n",
    "cli.py": "def run():\n    from sae_assets.assets.factory import means\n",
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_tree_breaks_no_rule(tmp_path: Path, rule: Callable[[Path], list[str]]) -> None:
    """What the planted trees below are made from is sound, so that their one violation is what is reported."""
    assert rule(plant(tmp_path, SOUND)) == []


VIOLATIONS = [
    (unknown_modules, "extras.py", "", "extras stands in no layer"),
    (unknown_modules, "extras/deep.py", "", "extras stands in no layer"),
    (upward, "errors.py", "from sae_assets.catalog import a", "errors:1 imports sae_assets.catalog"),
    (upward, "catalog.py", "import sae_assets.artifacts", "catalog:1 imports sae_assets.artifacts"),
    (upward, "artifacts/base.py", "def f():\n    from sae_assets.ops import means", "base:2 imports sae_assets.ops.me"),
    (upward, "ops/means.py", "from sae_assets.storage.store import x", "means:1 imports sae_assets.storage.store"),
    (upward, "ops/means.py", "from sae_assets.progress import track", None),
    (upward, "datasets/read.py", "from sae_assets import storage", "read:1 imports sae_assets.storage"),
    (upward, "datasets/read.py", "from ..storage import store", "read:1 imports sae_assets.storage.store"),
    (upward, "datasets/__init__.py", "from ..storage import store", "datasets:1 imports sae_assets.storage.store"),
    (upward, "storage/store.py", "from sae_assets.assets.graph import x", "store:1 imports sae_assets.assets.graph"),
    (
        upward,
        "storage/store.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sae_assets.stages import Stage",
        "store:3 imports sae_assets.stages",
    ),
    (upward, "stages.py", "class A:\n    import sae_assets.cli", "stages:2 imports sae_assets.cli"),
    (upward, "stages.py", 'import importlib\nimportlib.import_module("sae_assets.cli")', "stages:2 imports sae_asse"),
    (dagster_below_the_shell, "storage/store.py", "import dagster as dg", "store:1 imports dagster"),
    (dagster_below_the_shell, "ops/means.py", "def f():\n    from dagster import asset", "means:2 imports dagster"),
    (
        dagster_below_the_shell,
        "catalog.py",
        "try:\n    import dagster.utils\nexcept ImportError:\n    pass",
        "catalog:2",
    ),
    (foreign_to_ops, "ops/means.py", "import numpy as np", "means:1 imports numpy"),
    (foreign_to_ops, "ops/means.py", "def f():\n    import pandas", "means:2 imports pandas"),
    (foreign_to_ops, "ops/means.py", "from sae_assets.catalog import Model", "means:1 imports sae_assets.catalog"),
    (foreign_to_ops, "ops/means.py", "from sae_assets.progress import track", "means:1 imports sae_assets.progress"),
    (foreign_to_ops, "ops/means.py", "import torchvision", "means:1 imports torchvision"),
    (torch_with_artifacts, "artifacts/base.py", "import torch", "base:1 imports torch"),
    (torch_with_artifacts, "artifacts/__init__.py", "from torch import Tensor", "artifacts:1 imports torch"),
    (torch_with_artifacts, "artifacts/base.py", "class A:\n    import torch", "base:2 imports torch"),
    (
        torch_with_artifacts,
        "artifacts/base.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import torch.nn",
        "base:5 imports torch.nn",
    ),
    (assets_that_know_each_other, "assets/sums.py", "from sae_assets.assets import means", "sums:1 imports sae_as"),
    (assets_that_know_each_other, "assets/sums.py", "from .means import x", "sums:1 imports sae_assets.assets.means"),
    (assets_that_know_each_other, "assets/sums.py", "from sae_assets.assets.factory import x", "sums:1 imports sae_as"),
    (assets_that_know_each_other, "assets/graph.py", "import sae_assets.assets.means", "graph:1 imports sae_assets.a"),
    (numerics_in_storage, "storage/store.py", "from sae_assets.ops.means import x", "store:1 imports sae_assets.ops"),
    (numerics_in_storage, "storage/store.py", "from sae_assets.saes import y", "store:1 imports sae_assets.saes"),
    (numerics_in_storage, "storage/store.py", "def f():\n    import sae_assets.embedding", "store:2 imports sae_asse"),
]


@pytest.mark.parametrize(("rule", "file", "content", "said"), VIOLATIONS)
def test_a_planted_violation_is_reported(
    tmp_path: Path, rule: Callable[[Path], list[str]], file: str, content: str, said: str | None
) -> None:
    """One violation in an otherwise sound tree is one report, with module, line and target."""
    found = rule(plant(tmp_path, {**SOUND, file: content}))
    if said is None:  # allowed by this rule, though another one forbids it
        assert found == []
    else:
        assert len(found) == 1
        assert said in found[0]


def test_every_rule_has_a_planted_violation() -> None:
    """A new rule comes with the proof that it can fail."""
    assert {rule for rule, *_ in VIOLATIONS} == set(RULES)
