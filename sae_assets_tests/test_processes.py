"""Processes that tests start end with them, whatever ends the test, and a failure says what was found."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import count, repeat
from pathlib import Path

import pytest

from sae_assets.storage.processes import is_alive
from sae_assets_tests.browser import server as servers
from sae_assets_tests.processes import Group, wait_until

pytestmark = pytest.mark.slow

# Two processes; the first one says what its folder is, and the second one's number.
ENDLESS = """\
import os, subprocess, time
print(os.environ["TMPDIR"], subprocess.Popen(["sleep", "600"]).pid, flush=True)
time.sleep(600)
"""
OWNER = f"""\
import os, sys, time
from pathlib import Path
from sae_assets_tests.processes import Group
group = Group([sys.executable, "-c", {ENDLESS!r}], os.environ, Path.cwd(), Path("log"))
print(group.process.pid, flush=True)
time.sleep(600)
"""
ANSWER = """\
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def gone(pid: int) -> bool:
    return not is_alive(pid, time.time())


def test_group_ends_with_its_owner_though_that_was_killed(tmp_path):
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        first = int(owner.stdout.readline())
        wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"), "the second process has started")
        scratch, second = (tmp_path / "log").read_text().split()
        assert Path(scratch).is_dir()
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: gone(first) and gone(int(second)), "both processes are gone")
    wait_until(lambda: not Path(scratch).exists(), "their folder is gone")


@pytest.mark.parametrize("end", [Group.stop, Group.kill])
def test_group_leaves_nothing(tmp_path, end):
    group = Group([sys.executable, "-c", ENDLESS], os.environ, tmp_path, tmp_path / "log")
    wait_until(lambda: group.output().endswith("\n"), "both processes have started", group=group)
    scratch, second = group.output().split()
    assert Path(scratch).is_dir()
    end(group)
    wait_until(lambda: gone(group.process.pid) and gone(int(second)), "both processes are gone")
    assert not Path(scratch).exists()


def test_waiting_in_vain_says_for_what_what_there_is_and_what_the_process_said(tmp_path):
    group = Group([sys.executable, "-c", "print('my last words'); raise SystemExit(3)"], os.environ, tmp_path,
                  tmp_path / "log")  # fmt: skip
    try:
        with pytest.raises(AssertionError, match=r"the moon: the process has ended with 3\n0 of 1\n(.|\n)*last words"):
            wait_until(lambda: False, "the moon", tell=lambda: "0 of 1", group=group)
        with pytest.raises(AssertionError, match=r"the moon: not within 0 s\n\(what there is (.|\n)*KeyError"):
            wait_until(lambda: False, "the moon", tell=lambda: {}["x"], seconds=0)
    finally:
        group.kill()


@pytest.mark.parametrize(("changes", "times"), [(True, 3), (False, 1)])
def test_patience_begins_anew_while_there_is_progress_but_not_for_ever(changes, times):
    seen = count() if changes else repeat(0)
    start = time.monotonic()
    with pytest.raises(AssertionError, match="the moon: not within"):
        wait_until(lambda: False, "the moon", progress=lambda: next(seen), seconds=0.5)
    assert time.monotonic() - start > 0.5 * times


def answer_of(home: Path) -> str:
    info = json.dumps({"local_artifact_storage": {"config": {"base_dir": str(home / "dagster")}}})
    return json.dumps({"data": {"instance": {"info": info}, "workspaceOrError": "RepositoryLocation"}})


def test_server_tries_another_port_where_one_is_taken(tmp_path):
    ports: list[int] = []

    def start(port: int) -> Group:
        ports.append(port)
        taken = "print('[Errno 98] error while attempting to bind: Address already in use'); raise SystemExit(1)"
        code = taken if len(ports) < 3 else ANSWER
        command = [sys.executable, "-c", code, str(port), answer_of(tmp_path)]
        return Group(command, os.environ, tmp_path, tmp_path / f"{port}.log")

    with servers._served(start, tmp_path) as found:
        assert found.url.endswith(f":{ports[2]}") and not found.group.ended
    assert len(ports) == 3 and gone(found.group.process.pid)


def test_answer_of_a_strangers_server_is_not_taken(tmp_path):
    assert servers._instance_of(answer_of(tmp_path)) == tmp_path / "dagster"
    assert servers._instance_of(json.dumps({"data": {"instance": {"info": None}}})) is None
