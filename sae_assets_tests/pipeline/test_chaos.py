"""Commands killed at 25 random moments: see ``sae_assets_tests.chaos``, of which ``make chaos`` does 200."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("chaos")]


def test_whatever_is_killed_the_same_command_finishes_and_nothing_is_lost() -> None:
    """In a process of its own, which forks commands from what it has loaded."""
    arguments = ["-m", "sae_assets_tests.chaos", "--kills", "25", "--seed", "3", "--swift"]
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["kills"] >= 25 and counts["homes"] >= 1, counts
