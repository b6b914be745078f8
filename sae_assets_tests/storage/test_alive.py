"""A process that is there is told from one that ended, and from a later one of its number."""

import os
import subprocess
import sys
import time

from sae_assets.storage.processes import is_alive
from sae_assets_tests.processes import ended


def test_process_is_alive_until_it_ends():
    now = time.time()
    assert is_alive(os.getpid(), now)
    assert not is_alive(ended(), now)


def test_another_process_of_the_same_number_is_not_the_one():
    assert not is_alive(os.getpid(), since=1.0)  # this one was not there in 1970


def test_process_of_somebody_else_is_alive_as_ours_are(monkeypatch):
    """Nobody may signal it; when it started is seen all the same."""

    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refused)
    assert is_alive(os.getpid(), time.time()) and not is_alive(os.getpid(), since=1.0)


def test_dead_process_that_nobody_waited_for_is_dead():
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        end = time.monotonic() + 30
        while is_alive(process.pid, time.time()):
            assert time.monotonic() < end
            time.sleep(0.05)
