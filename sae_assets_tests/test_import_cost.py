"""Heavy imports happen where they are needed: proved in a fresh process, by a detector that is itself proved."""

import gc
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import sae_assets
import sae_assets.artifacts
import sae_assets.ops
from sae_assets.package import SELDOM
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.storage.small import ADDRESS, small

pytestmark = pytest.mark.slow

PROBE = "import json, sys; before = set(sys.modules); {statement}; print(json.dumps(sorted(set(sys.modules) - before)))"


def loaded_by(statement: str, *search: Path) -> set[str]:
    """Top-level names of the modules that a statement loads in a fresh process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("SAE_ASSETS_", "PYTHON"))}
    places = [*map(str, search), str(Path(sae_assets.__file__).parents[1])]
    environment["PYTHONPATH"] = os.pathsep.join(places)
    result = subprocess.run(
        [sys.executable, "-c", PROBE.format(statement=statement)], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return {name.split(".")[0] for name in json.loads(result.stdout.splitlines()[-1])}


def every_module_of(package: object) -> str:
    """A statement that imports a package and all that it holds."""
    name, paths = package.__name__, package.__path__  # type: ignore[attr-defined]
    return "import " + ", ".join([name, *(f"{name}.{found.name}" for found in pkgutil.iter_modules(paths))])


@pytest.mark.parametrize(
    ("statement", "needed", "not_needed"),
    [
        ("import sae_assets", {"sae_assets"}, {"torch", "dagster", "numpy", "pydantic"}),
        (
            "import sae_assets.cli",
            {"sae_assets", "typer"},
            {"torch", "dagster", "numpy", "matplotlib", "pydantic", "yaml", "upath", "jinja2"},
        ),
        (
            "from typer.testing import CliRunner; from sae_assets.cli import app; CliRunner().invoke(app, ['--help'])",
            {"sae_assets", "typer"},
            {"torch", "dagster", "numpy", "pydantic", "yaml", "upath", "jinja2", "pandas", "sqlalchemy"},
        ),
        (
            "import sae_assets.commands.session, sae_assets.commands.status, sae_assets.commands.show",
            {"sae_assets", "pydantic", "upath"},
            {
                "torch",
                "dagster",
                "sqlalchemy",
                "transformers",
                "open_clip",
                "pandas",
                "jinja2",
                "matplotlib",
                "sklearn",
            },
        ),
        (
            "from sae_assets.catalog import load_catalog; load_catalog()",
            {"sae_assets", "pydantic"},
            {"torch", "PIL", "pyarrow", "numpy", "dagster", "transformers", "open_clip", "datasets"},
        ),
        ("import sae_assets.ops", {"sae_assets"}, {"dagster"}),
        (every_module_of(sae_assets.artifacts), {"sae_assets"}, {"torch", "numpy", "dagster", "pydantic"}),
        pytest.param(
            f"{every_module_of(sae_assets.ops)}; names = {{name.split('.')[0] for name in sys.modules}}; "
            "assert 'torch' in names; assert not names & {'dagster', 'pydantic', 'pyarrow', 'open_clip'}, names; "
            "from sae_assets.rows.open_clip.library import library; library()",
            {"open_clip", "torchvision"},
            {"sympy", "dagster", "timm", "transformers"},  # the first of torch's compiler
            marks=pytest.mark.long,
        ),
    ],
    ids=["package", "cli", "help", "status", "catalog", "ops", "all-artifacts", "all-ops, open_clip"],
)
def test_only_what_is_needed_is_loaded(statement: str, needed: set[str], not_needed: set[str]) -> None:
    """What the statement is for is loaded, and nothing of what it can do without."""
    loaded = loaded_by(statement)
    assert needed <= loaded
    assert loaded & not_needed == set()


def test_headers_are_read_without_arrow(tmp_path: Path) -> None:
    """So that ``status`` loads neither it nor numpy, which are half of what a look takes."""
    ArtifactStore(str(tmp_path)).write(ADDRESS, small("labels"))
    look = f"from sae_assets.storage.store import ArtifactStore; store = ArtifactStore({str(tmp_path)!r})"
    named = ", ".join(map(repr, (ADDRESS.dataset, ADDRESS.stage, ADDRESS.token_kind, ADDRESS.model, ADDRESS.chunk)))
    loaded = loaded_by(f"{look}; from sae_assets.storage.address import Address; store.header(Address({named})).kind")
    assert "upath" in loaded
    assert loaded & {"pyarrow", "numpy", "torch", "dagster"} == set()


def plant(folder: Path, **modules: str) -> Path:
    """Modules of these contents; ``torch`` and ``dagster`` are empty stand-ins that cost nothing to import."""
    for name, content in {"torch": "", "dagster": "", **modules}.items():
        (folder / f"{name}.py").write_text(content)
    return folder


@pytest.mark.parametrize("heavy", ["torch", "dagster"])
@pytest.mark.parametrize(
    "content",
    [
        "import {heavy}",
        "from {heavy} import __name__",
        "try:\n    import {heavy}\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('{heavy}')",
        "class A:\n    import {heavy}",
        "def f():\n    import {heavy}\nf()",
    ],
)
def test_the_detector_sees_a_planted_import(tmp_path: Path, heavy: str, content: str) -> None:
    """However a module loads something heavy, also by way of another module, it is seen."""
    folder = plant(tmp_path, planted=content.format(heavy=heavy), outer="import planted")
    for module in ("planted", "outer"):
        loaded = loaded_by(f"import {module}", folder)
        assert heavy in loaded
        assert {"torch", "dagster"} - {heavy} - loaded != set()


@pytest.mark.parametrize(
    "content",
    [
        "def f():\n    import torch, dagster",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch, dagster",
        "'import torch, dagster'",
    ],
)
def test_the_detector_lets_lazy_imports_pass(tmp_path: Path, content: str) -> None:
    """Imports inside functions and for types only are not loaded, and not reported."""
    loaded = loaded_by("import planted", plant(tmp_path, planted=content))
    assert "planted" in loaded
    assert loaded & {"torch", "dagster"} == set()


def test_a_failing_import_fails_the_detector(tmp_path: Path) -> None:
    """A statement that raises is no proof of anything."""
    with pytest.raises(AssertionError, match="nonsense"):
        loaded_by("import planted", plant(tmp_path, planted="import nonsense_that_is_nowhere"))


# How often Python looks for cycles among all objects while torch is imported.
LOOKS = (
    "import gc; looks = []; {first}; "
    "gc.callbacks.append(lambda phase, info: looks.append(phase) if info['generation'] == 2 else None); "
    "import torch; print(len(looks) // 2){then}"
)


@pytest.mark.long
def test_python_looks_through_all_objects_while_libraries_load() -> None:
    """As it is set: what commands do about it is needed."""
    code = LOOKS.format(first="pass", then="")
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) > 1


@pytest.mark.long
def test_commands_look_seldom_and_libraries_find_all_of_theirs_gone_when_they_end() -> None:
    """At most once while torch alone is imported; one that torch loads where it can compile prints what is left."""
    first = "from sae_assets.package import collect_seldom; collect_seldom()"
    code = LOOKS.format(first=first, then="; import torch._inductor.utils")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 1 and not done.stderr


def test_definitions_load_little_and_nobody_looks_for_cycles_while_they_are_made() -> None:
    """Afterwards Python does as before."""
    count = "gc.callbacks.append(lambda phase, info: looks.append(phase))"
    made = "import sae_assets.definitions; print(json.dumps([len(looks), gc.isenabled(), *sys.modules]))"
    code = f"import gc, json, sys, dagster; looks = []; gc.disable(); {count}; gc.enable(); {made}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    looks, enabled, *loaded = json.loads(result.stdout)
    assert looks <= 4, "of a few objects before and after"
    assert enabled is True
    assert "sae_assets.definitions" in loaded
    assert {"torch", "torchvision", "open_clip", "matplotlib", "sqlalchemy"} & {*loaded} == set()


ENDS = """
class Cycle:
    def __del__(self):
        print("looked at")
cycle = Cycle()
cycle.itself = cycle
"""


@pytest.mark.parametrize("seldom", [False, True], ids=["as Python does", "as commands do"])
def test_nobody_looks_for_cycles_when_a_command_ends(seldom: bool) -> None:
    """Memory goes with the process; after Dagster was loaded looking takes half a second."""
    first = "from sae_assets.package import collect_seldom; collect_seldom()" if seldom else ""
    result = subprocess.run([sys.executable, "-c", f"{first}\n{ENDS}"], capture_output=True, text=True, check=True)
    assert result.stdout == ("" if seldom else "looked at\n")


def test_commands_and_workers_collect_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes of their own; nobody else's process is touched."""
    from sae_assets import cli
    from sae_assets.orchestration.instance import worker

    before, seen = gc.get_threshold(), []
    for module, last in ((cli, "heed_signals"), (worker, "copy_output_by")):

        def stop(*_: object) -> None:
            seen.append(gc.get_threshold())
            raise InterruptedError

        monkeypatch.setattr(module, last, stop)
        gc.set_threshold(*before[:2], SELDOM // 10)  # as Python does; tests look as seldom as commands
        try:
            with pytest.raises(InterruptedError):
                (cli.run if module is cli else worker.main)()
        finally:
            gc.set_threshold(*before)
    assert seen == [(*before[:2], SELDOM)] * 2


LEAVES = """
import atexit, sys, types
from sae_assets.package import collect_seldom, end_with
class Last:
    def __del__(self):
        print("taken apart")
collect_seldom()
atexit.register(print, "done at exit")
sys.modules["holder"] = holder = types.ModuleType("holder")
holder.kept = Last()
sys.stdout.write("written, ")
if {said}:
    end_with({code})
sys.exit({code})
"""


@pytest.mark.parametrize(("code", "number"), [("0", 0), ("3", 3), ("None", 0), ("'in words'", 1)])
def test_objects_are_not_taken_apart_when_a_command_ends(code: str, number: int) -> None:
    """After torch that takes two seconds. What is to be done at exit is done, and what was printed is written."""
    for said, expected in ((True, "written, done at exit\n"), (False, "written, done at exit\ntaken apart\n")):
        line = [sys.executable, "-c", LEAVES.format(said=said, code=code)]
        ended = subprocess.run(line, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (number, expected)
        assert ended.stderr == ("in words\n" if number == 1 else "")


def test_a_command_says_what_it_ends_with(monkeypatch: pytest.MonkeyPatch) -> None:
    from sae_assets import cli

    codes: list[object] = []
    monkeypatch.setattr(cli, "end_with", codes.append)
    for name in ("collect_seldom", "heed_signals"):
        monkeypatch.setattr(cli, name, lambda: None)
    monkeypatch.setattr(sys, "argv", ["sae-assets", "--nonsense"])
    with pytest.raises(SystemExit):
        cli.run()
    assert codes == [2]
