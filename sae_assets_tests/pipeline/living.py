"""A data set that grows, and Dagster's automation driven tick by tick in one process."""

import subprocess
import sys
from pathlib import Path

from sae_assets_tests.pipeline.small import PACKAGED, make_dataset, packaged_rows, write_metadata

MOST_TICKS = 40
LANDING = Path(__file__).with_name("landing.py")


def land(root: Path, n: int) -> None:
    """Let the first ``n`` packaged examples be there: an independent script, as whatever writes images would be."""
    subprocess.run([sys.executable, "-I", str(LANDING), str(PACKAGED), str(root), str(n)], check=True)


def land_without_calibration(root: Path, before: int, more: int) -> None:
    """``before`` examples as ever, and ``more`` that are all test or train."""
    make_dataset(root, before + more)
    rows = packaged_rows()[: before + more]
    for place, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[place % 3] if place < before else ("test", "train")[place % 2]
    write_metadata(root, rows)
