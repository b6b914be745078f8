"""CPU seconds (user and system) from the start of a process to its end, of commands that a person waits for.

python benchmarks/bench_startup.py [HOME] [--repeat 3]

The home has to be finished, as ``sae-assets demo`` leaves it. "first" is a look after which nothing of Dagster's
history has changed: it asks Dagster, any later one takes what that look found.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sae_assets.orchestration.remembered import FOLDER
from sae_assets.settings import load_settings

COMMAND = "import sys; from sae_assets.cli import run; sys.argv[0] = 'sae-assets'; run()"
SHOWN = ["clevr_mini", "clip-mini", "best_pairs"]


def cpu_seconds(arguments: list[str]) -> float:
    """Of a Python process and what it starts. Raises: CalledProcessError: it failed."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = os.times()
    return after.children_user - before.children_user + after.children_system - before.children_system


def line(name: str, arguments: list[str], repeat: int) -> None:
    """The least of several: what other processes take from a shared processor only adds."""
    print(f"{name:34} {min(cpu_seconds(arguments) for _ in range(repeat)):6.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path, nargs="?", help="default: ~/.sae_assets")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    settings = load_settings(options.home)
    place = ["--home", str(settings.home)]
    for name in ("pass", "import sae_assets", "import dagster", "import torch"):
        line(f"python -c '{name}'", ["-c", name], options.repeat)
    line("sae-assets --help", ["-c", COMMAND, "--help"], options.repeat)
    line("sae-assets materialize --help", ["-c", COMMAND, "materialize", "--help"], options.repeat)
    shutil.rmtree(settings.dagster_home / FOLDER, ignore_errors=True)
    line("sae-assets status, first", ["-c", COMMAND, "status", *place], 1)
    line("sae-assets status", ["-c", COMMAND, "status", *place], options.repeat)
    line("sae-assets show", ["-c", COMMAND, "show", *SHOWN, *place], options.repeat)
    line("sae-assets unit", ["-c", COMMAND, "unit", *SHOWN[:2], "6", *place], options.repeat)


if __name__ == "__main__":
    main()
