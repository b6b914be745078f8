"""Servers and daemons of tests: process groups that never outlive the test, and waiting for what they do.

Waiting polls for a state up to a bound that only a hang reaches; a failure shows what was found and the processes' last
words. A machine may be slow or busy: nothing here is a matter of seconds.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from sae_assets.settings import CATALOG_VARIABLE, Settings
from sae_assets.storage.atomic import TEMPORARY_PREFIX

PATIENCE = 420.0  # seconds in which nothing changes
MOST_TIMES = 3  # patience in all, with changes
PAUSE_SECONDS = 0.5
PROGRESS_SECONDS = 5.0  # between two looks at what changes, each of which reads the history
STOP_SECONDS = 60.0
SHOWN = 6_000  # characters of a log that a failure shows
SWIFT = Path(__file__).parent / "swift"
# Ends the group when this process has ended, however it did: the pipe that it reads from is closed then.
LEASH = """\
import os, shutil, signal, sys
sys.stdin.read()
try:
    os.killpg(int(sys.argv[1]), signal.SIGKILL)
finally:
    shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


def environment(home: Path, catalog: Path | None = None, *, swift: bool = False) -> dict[str, str]:
    """This home and catalog (None: the packaged one), whatever this process was told to use.

    Args:
        swift: a Dagster daemon among the processes is not to wait as long as it would.
    """
    home = home.expanduser().absolute()
    settings = Settings(home=home, store=str(home / "store"), catalog=catalog)
    inherited = {name: value for name, value in os.environ.items() if name != CATALOG_VARIABLE}
    mine = {"DAGSTER_HOME": str(settings.dagster_home), "DAGSTER_DISABLE_TELEMETRY": "yes", "PYTHONUNBUFFERED": "1"}
    if swift:
        mine["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SWIFT), os.environ.get("PYTHONPATH"))))
    return {**inherited, **settings.environment(), **mine}


def _heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and hands that on to all its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Group:
    """A process and whatever it starts: one group, with a folder of its own for sockets and temporary files.

    Args:
        background: it is started as a shell starts what is followed by ``&``.

    Attributes:
        log: the file that the output of all of them is added to.
    """

    def __init__(
        self, command: Sequence[str], variables: Mapping[str, str], folder: Path, log: Path, background: bool = False
    ):
        self.log = log
        self._scratch = tempfile.TemporaryDirectory(prefix="sae_", ignore_cleanup_errors=True)  # sockets: a short path
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command, env={**variables, "TMPDIR": self._scratch.name}, cwd=folder, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=_ignore_interrupts if background else _heed_interrupts,
            )  # fmt: skip
        self._leash = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", LEASH, str(self.process.pid), self._scratch.name],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; after a while end whatever is left of its group."""
        if not self.ended:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """As a power cut: all of them at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self._leash.stdin is not None
        self._leash.kill()
        self._leash.wait()
        self._leash.stdin.close()
        self._scratch.cleanup()


def wait_until(
    done: Callable[[], bool], what: str, *, tell: Callable[[], str] = str, group: Group | None = None,
    progress: Callable[[], object] = str, seconds: float = PATIENCE, pause: Callable[[float], None] = time.sleep,
) -> None:  # fmt: skip
    """Poll until it is done.

    Args:
        what: what is waited for, as a failure says it.
        tell: what there is instead, asked when it is a failure.
        group: processes without which it can never be done.
        progress: what changes while there is hope; with every change patience begins anew, a few times over.
        seconds: without a change.

    Raises:
        AssertionError: it took too long, or the processes ended.
    """
    start = changed = looked = time.monotonic()
    seen = progress()
    while not done():
        if group is not None and group.ended:
            raise AssertionError(f"{what}: the process has ended with {group.process.returncode}\n{_told(tell, group)}")
        now = time.monotonic()
        if now - looked > min(PROGRESS_SECONDS, seconds / 4):
            looked, found = now, progress()
            if found != seen:
                seen, changed = found, now
        if now - changed > seconds or now - start > MOST_TIMES * seconds:
            raise AssertionError(f"{what}: not within {now - start:.0f} s\n{_told(tell, group)}")
        pause(PAUSE_SECONDS)


def _told(tell: Callable[[], str], group: Group | None) -> str:
    try:
        found = tell()
    except Exception as error:
        found = f"(what there is could not be found out: {error!r})"
    return found + (f"\nThe end of {group.log}:\n{group.output()[-SHOWN:]}" if group is not None else "")


def ended() -> int:
    """Return the id of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        process.wait()
    return process.pid


def half_written_by(pid: int) -> str:
    """Return the name of a file that a process of this machine was writing."""
    return f"{TEMPORARY_PREFIX}{socket.gethostname()}-{pid}-{'0' * 32}"
