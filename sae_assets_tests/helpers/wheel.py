"""The package as others install it: a wheel built from a copy of the sources, in an environment outside the clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import sae_assets

ROOT = Path(sae_assets.__file__).parents[1]
LOOPS = Path("sae_assets") / "ops" / "__pycache__"  # where Numba keeps what it compiled
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


def build(folder: Path) -> Path:
    """The wheel, built by the tools of this environment in an empty folder."""
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=GENERATED)
        else:
            shutil.copy(source, folder / name)
    run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "dist", "."], folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def install(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """``sae-assets`` of an environment that borrows this one's libraries (torch is large) and not this package.

    Returns:
        The command, and the folder that the package lies in.
    """
    run([sys.executable, "-m", "venv", "--without-pip", "clean"], folder)
    python = folder / "clean" / "bin" / "python"
    packages = Path(run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)], folder)
    place = run([str(python), "-c", "import sae_assets; print(sae_assets.__file__)"], folder).strip()
    assert Path(place).parents[1] == packages
    return python.with_name("sae-assets"), packages


def lend_loops(one: Path, other: Path) -> None:
    """Copy loops that Numba has compiled for one copy of the package to another copy that has them not.

    Numba takes them where the source is the same to the byte, and compiles them anew where it is not. An index is
    copied last: what it names is there.

    Args:
        one: the folder that holds ``sae_assets``, as ``other`` is.
    """
    (other / LOOPS).mkdir(exist_ok=True)
    for index in (one / LOOPS).glob("*.nbi"):
        if not (other / LOOPS / index.name).exists():
            for file in [*index.parent.glob(f"{index.stem}.*.nbc"), index]:
                shutil.copy(file, other / LOOPS)
