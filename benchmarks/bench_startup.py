"""CPU seconds (user and system) from the start of a process to its end, of commands that a person waits for.

python benchmarks/bench_startup.py [HOME] [--repeat 3]

The home has to be finished, as ``sae-assets demo`` leaves it. "first" is a look after which nothing of Dagster's
history has changed: it asks Dagster, any later one takes what that look found. Definitions are those of ten data sets
(each as the packaged images) beside the packaged ones, "without Dagster" is less what importing Dagster takes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from sae_assets.catalog import load_catalog
from sae_assets.orchestration.remembered import FOLDER
from sae_assets.settings import load_settings

COMMAND = "import sys; from sae_assets.cli import run; sys.argv[0] = 'sae-assets'; run()"
DEFINITIONS = """
import time
import dagster
start = time.process_time()
from sae_assets.definitions import defs
print(time.process_time() - start)
"""
SHOWN = ["clevr_mini", "clip-mini", "best_pairs"]


def cpu_seconds(arguments: list[str]) -> float:
    """Return CPU seconds of a Python process and what it starts. Raises: CalledProcessError: it failed."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def line(name: str, arguments: list[str], repeat: int) -> None:
    """The least of several: what other processes take from a shared processor only adds."""
    print(f"{name:34} {min(cpu_seconds(arguments) for _ in range(repeat)):6.2f} s", flush=True)


def definitions(folder: Path) -> float:
    """Return CPU seconds of making Dagster's definitions of ten more data sets, imports of this package included and
    Dagster's not."""
    entry = load_catalog().datasets[SHOWN[0]]
    dataset = {"root": str(entry.root), "layout": entry.layout, "modality": "image", "concepts": [*entry.concepts],
            "token_kinds": [*entry.token_kinds], "models": [*entry.models], "controls": {}}  # fmt: skip
    catalog = folder / "catalog.yaml"
    catalog.write_text(yaml.safe_dump({"datasets": {f"data_{number}": dataset for number in range(10)}}))
    places = {"SAE_ASSETS_CATALOG": str(catalog), "SAE_ASSETS_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", DEFINITIONS], env={**os.environ, **places}, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def first_line(options: Sequence[str]) -> float:
    """Return the seconds of ``materialize`` until it has said something, to a hundredth of a second; it is ended
    then."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, "materialize", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        figures = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.terminate()
        process.stdout.read()
    process.wait()
    return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path, nargs="?", help="default: ~/.sae_assets")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    settings = load_settings(options.home)
    home = ["--home", str(settings.home)]
    for name in ("pass", "import sae_assets", "import dagster", "import torch"):
        line(f"python -c '{name}'", ["-c", name], options.repeat)
    line("sae-assets --help", ["-c", COMMAND, "--help"], options.repeat)
    line("sae-assets materialize --help", ["-c", COMMAND, "materialize", "--help"], options.repeat)
    with tempfile.TemporaryDirectory(prefix="sae_assets_startup_") as folder:
        took = min(definitions(Path(folder)) for _ in range(options.repeat))
        print(f"{'definitions, without Dagster':34} {took:6.2f} s", flush=True)
    took = min(first_line(home) for _ in range(options.repeat))
    print(f"{'sae-assets materialize, first line':34} {took:6.2f} s", flush=True)
    shutil.rmtree(settings.dagster_home / FOLDER, ignore_errors=True)
    line("sae-assets status, first", ["-c", COMMAND, "status", *home], 1)
    line("sae-assets status", ["-c", COMMAND, "status", *home], options.repeat)
    line("sae-assets show", ["-c", COMMAND, "show", *SHOWN, *home], options.repeat)
    line("sae-assets unit", ["-c", COMMAND, "unit", *SHOWN[:2], "6", *home], options.repeat)


if __name__ == "__main__":
    main()
