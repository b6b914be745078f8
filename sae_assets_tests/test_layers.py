"""The contracts of ``pyproject.toml`` can fail: each refuses what it is against, planted in a copy of the package."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sae_assets

PACKAGE = Path(sae_assets.__file__).parent
CONTRACTS = PACKAGE.parent / "pyproject.toml"
LAYERS, DAGSTER = "Every layer knows those below it only", "Dagster is known to orchestration alone"
# By contract, imports that it refuses: the module that is written to, and what it would import.
PLANTED = {
    LAYERS: {"pipeline/plots.py": "sae_assets.orchestration.partitions"},
    "No package imports in a circle": {"pipeline/options.py": "sae_assets.pipeline.staleness"},
    "Layouts of data sets stand side by side": {"datasets/layouts/coco.py": "sae_assets.datasets.layouts.clevr"},
    "SAE formats stand side by side": {"saes/formats/sparsify.py": "sae_assets.saes.formats.clipscope"},
    "Model libraries stand side by side": {"rows/open_clip/vision.py": "sae_assets.rows.precomputed.rows"},
    DAGSTER: {"__init__.py": "dagster"},
    "Numerics know tensors, artifacts and errors, and nothing that opens a file": {"ops/choice.py": "pyarrow"},
    "What decides, orchestrates and talks to people computes nothing": {"cli/common.py": "torch"},
}

pytestmark = pytest.mark.slow


def broken(base: Path, planted: dict[str, str]) -> set[str]:
    """Return the contracts that a copy of the package breaks into which these imports were written."""
    shutil.copytree(PACKAGE, base / PACKAGE.name, ignore=shutil.ignore_patterns("data", "checkpoints", "__pycache__"))
    shutil.copy(CONTRACTS, base)
    for module, imported in planted.items():
        path = base / PACKAGE.name / module
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as file:
            file.write(f"\nimport {imported}\n")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(
        command, cwd=base, env={**os.environ, "PYTHONPATH": str(base)}, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    return {line.partition(" BROKEN")[0] for line in lines if " BROKEN" in line}


def test_every_contract_refuses_what_it_is_against(tmp_path: Path) -> None:
    contracts = tomllib.loads(CONTRACTS.read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    assert [contract["name"] for contract in contracts] == list(PLANTED)
    planted = {module: imported for imports in PLANTED.values() for module, imported in imports.items()}
    assert broken(tmp_path, planted) == set(PLANTED)


def test_a_new_package_has_to_be_given_its_layer_and_knows_no_dagster(tmp_path: Path) -> None:
    assert broken(tmp_path, {"another/__init__.py": "dagster"}) == {LAYERS, DAGSTER}
