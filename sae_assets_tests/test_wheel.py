"""What is installed from the wheel, outside the clone, runs the demo and makes its report: all it needs is in it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import sae_assets

pytestmark = pytest.mark.long
ROOT = Path(sae_assets.__file__).parents[1]
PARTS = ("sae_assets", "pyproject.toml", "setup.py", "README.md", "LICENSE")
GENERATED = shutil.ignore_patterns("__pycache__", "*.pyc")


def run(command: list[str], folder: Path) -> str:
    """What it prints, in a process that knows nothing of the clone."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SAE_ASSETS_"))}
    done = subprocess.run(
        command, cwd=folder, env={**inherited, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:] + done.stdout[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources, by the build tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=GENERATED)
        else:
            shutil.copy(source, folder / name)
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."], folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as content:
        held = {name for name in content.namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sae_assets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there


def test_it_runs_the_demo_and_makes_the_report_outside_the_clone(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, which borrows libraries (torch is large) and not this package."""
    run([sys.executable, "-m", "venv", "--without-pip", "clean"], tmp_path)
    python = tmp_path / "clean" / "bin" / "python"
    packages = Path(
        run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip()
    )
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], tmp_path)
    place = run([str(python), "-c", "import sae_assets; print(sae_assets.__file__)"], tmp_path).strip()
    assert Path(place).parents[1] == packages
    command, home = str(packages.parents[2] / "bin" / "sae-assets"), str(tmp_path / "home")
    figures = json.loads(run([command, "demo", "--home", home, "--json"], tmp_path))
    assert {"clevr_mini/patch/clip-mini", "moods_mini/token/gemma-mini"} <= {*figures}
    assert all(each["weighted_test_f1"] > 0.5 and not each["stale_stages"] for each in figures.values())
    page = tmp_path / "report.html"
    run([command, "report", "clevr_mini", "clip-mini", "--out", str(page), "--home", home], tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "color::red" in text and "data:image/" in text and len(text) > 100_000
