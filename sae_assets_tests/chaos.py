"""Commands killed at random moments, again and again, each followed by the same command and nothing else.

``python -m sae_assets_tests.chaos --kills 200 --seed 1`` (``make chaos``). A home is made by ``materialize`` from
nothing; every command is killed, half of them after a random time, half at a random file operation, until one is done
before its turn comes. Then the home must be what one that nobody disturbed is: content bit by bit, no leftovers, no
run without an end, no slot of a pool taken. Processes are forked from one that has everything loaded, so that a kill
costs what was worked and not a start.
"""

import argparse
import atexit
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_assets.package import SELDOM
from sae_assets_tests.helpers.homes import Places, places_in
from sae_assets_tests.helpers.swift import swift_homes
from sae_assets_tests.pipeline.small import WITH_CONTROLS, make_dataset, write_catalog

N_IMAGES, CHUNK = 6, 3
OPERATIONS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "sqlite3.connect", "socket.connect")
HANG_SECONDS = 300.0
LONGEST_IMPORTS = ("torch", "open_clip", "sae_assets.orchestration.build")  # not once more for what the rest of them is


class StuckError(AssertionError):
    """What chaos must not leave."""


@dataclass(frozen=True)
class Moments:
    """Until when commands are killed, so that most are: half of what one takes that begins with nothing.

    Attributes:
        operations: on files and databases.
    """

    seconds: float
    operations: int


def command(places: Places, log: Path) -> int:
    """``materialize`` in this process; its exit code."""
    from typer.testing import CliRunner

    from sae_assets.cli import app

    arguments = ["materialize", "-d", "small", "--home", str(places["home"]), "--catalog", str(places["catalog"])]
    result = CliRunner().invoke(app, arguments)
    log.write_text(f"{result.output}\n{result.exception!r}\n")
    return result.exit_code


def command_and_modules(places: Places, log: Path, modules: Path) -> int:
    """The same; what was imported for it, and by a look at what it made, is written down."""
    code = command(places, log)
    look(places)
    modules.write_text(json.dumps(list(sys.modules)))
    return code


def counted_command(places: Places, log: Path, count: Path) -> int:
    """The same; the number of its operations is written down."""
    operations = 0

    def hook(event: str, _: Any) -> None:
        nonlocal operations
        operations += event in OPERATIONS

    sys.addaudithook(hook)
    code = command(places, log)
    count.write_text(str(operations))
    return code


def forked(work: Callable[[], int]) -> int:
    """Process id of a child of this process that works and exits."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with suppress(BaseException):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        code = work()
    os._exit(code)


def killed_at(operation: int) -> None:
    """Kill this process at its n-th operation on files and databases."""
    count = 0

    def hook(event: str, _: Any) -> None:
        nonlocal count
        if event in OPERATIONS:
            count += 1
            if count == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def waited_for(pid: int, seconds: float) -> int | None:
    """Exit code of a child, negative if it was killed; None if it is still there after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def one_try(places: Places, log: Path, chance: random.Random, moments: Moments) -> int:
    """One command, killed at a random moment if it is not done before; its exit code.

    Raises:
        StuckError: it does not end.
    """
    if chance.random() < 0.5:
        seconds = moments.seconds * chance.random() ** 2
        pid = forked(lambda: command(places, log))
        code = waited_for(pid, seconds)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            code = waited_for(pid, HANG_SECONDS)
    else:
        operation = 1 + int(moments.operations * chance.random() ** 2)

        def work() -> int:
            killed_at(operation)
            return command(places, log)

        pid = forked(work)
        code = waited_for(pid, HANG_SECONDS)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        raise StuckError(f"a command did not end within {HANG_SECONDS:.0f} s after earlier kills: {log.read_text()}")
    return code


def contents(places: Places) -> dict[str, bytes]:
    """Every file of the store, whatever its name."""
    store = places["home"] / "store"
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def look(places: Places) -> list[str]:
    """What is wrong with a home after the command succeeded, in a process of its own."""
    import dagster as dg

    from sae_assets.commands.session import open_session
    from sae_assets.commands.status import states
    from sae_assets.commands.verifying import verify
    from sae_assets.orchestration.history import ACTIVE

    with open_session(places["home"], places["catalog"]) as session:
        instance = session.instance
        wrong = [f"run {record.dagster_run.run_id} is {record.dagster_run.status.value}"
                 for record in instance.get_run_records(dg.RunsFilter(statuses=ACTIVE))]  # fmt: skip
        storage = instance.event_log_storage
        for pool in storage.get_concurrency_keys():
            info = storage.get_concurrency_info(pool)
            wrong += [f"a slot of {pool} is taken: {info}"] if info.claimed_slots or info.pending_steps else []
        found = verify(session.store, session.catalog, instance)
        wrong += [*found.damaged.values(), *(f"left over: {path}" for path in found.leftovers)]
        for stage, of in states(session, ["small"])["small"]["stages"].items():
            wrong += [f"{stage} {chunk} is {state}" for chunk, state in of.items() if state != "current"]
    return wrong


def problems(places: Places) -> list[str]:
    """The same from a child, which leaves this process as it is."""
    answer = places["home"] / "wrong.json"
    pid = forked(lambda: answer.write_text(json.dumps(look(places))) and 0)
    if waited_for(pid, HANG_SECONDS) != 0 or not answer.exists():
        return ["the home could not be looked at"]
    return json.loads(answer.read_text())


def until_done(places: Places, log: Path, chance: random.Random, moments: Moments, most: int) -> int:
    """Give the same command until it is done, killed before so often at most; how often it was.

    Raises:
        StuckError: it failed, or did not end.
    """
    kills, code = 0, -1
    while code != 0:
        if kills < most:
            code = one_try(places, log, chance, moments)
        else:
            ended = waited_for(forked(lambda: command(places, log)), HANG_SECONDS)
            code = 1 if ended is None else ended
        if code not in (0, -signal.SIGKILL):
            raise StuckError(f"after {kills} kills a command ended with {code}: {log.read_text()}")
        kills += code == -signal.SIGKILL
    return kills


def undisturbed(places: Places, log: Path) -> tuple[dict[str, bytes], Moments]:
    """Files of a home that nobody disturbs, and how long it takes where all is imported.

    Raises:
        StuckError: it failed, or made other files the second time.
    """
    folder = places["home"]
    modules, count = log.with_suffix(".modules"), log.with_suffix(".count")
    first, second = ({**places, "home": folder / name} for name in ("first", "second"))
    import_all(LONGEST_IMPORTS)
    ended = waited_for(forked(lambda: command_and_modules(first, log, modules)), HANG_SECONDS)
    if ended == 0:
        import_all(json.loads(modules.read_text()))
        started = time.monotonic()
        ended = waited_for(forked(lambda: counted_command(second, log, count)), HANG_SECONDS)
        seconds = time.monotonic() - started
    if ended != 0:
        raise StuckError(f"undisturbed: {log.read_text()}")
    expected = contents(first)
    if wrong := differences(second, expected):
        raise StuckError("made twice, undisturbed: " + "; ".join(wrong))
    return expected, Moments(seconds / 2, int(count.read_text()) // 2)


def two_at_once(places: Places, log: Path, expected: dict[str, bytes]) -> None:
    """Two commands on a new home at the same time: both are done, and nothing is made twice in two ways.

    Raises:
        StuckError: one of them failed, or what they made is not what one makes.
    """
    logs = [log.with_suffix(f".{number}") for number in (1, 2)]
    children = [forked(lambda own=own: command(places, own)) for own in logs]
    for pid, own in zip(children, logs, strict=True):
        code = waited_for(pid, HANG_SECONDS)
        if code != 0:
            raise StuckError(
                f"one of two commands at once ended with {code}: {own.read_text() if own.exists() else ''}"
            )
    wrong = problems(places) + differences(places, expected)
    if wrong:
        raise StuckError("after two commands at once: " + "; ".join(wrong))


def differences(places: Places, expected: dict[str, bytes]) -> list[str]:
    """Files that are not those of a home that nobody disturbed."""
    found = contents(places)
    return [f"{name} differs" for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]


def chaos(folder: Path, kills: int, seed: int, **entry: Any) -> dict[str, Any]:
    """Kill so many commands; what was done.

    Args:
        entry: of the data set in the catalog.

    Raises:
        StuckError: something was left; what, and after how many kills.
    """
    chance, started = random.Random(seed), time.process_time()
    source = places_in(folder / "source")
    write_catalog(
        source["catalog"], make_dataset(source["root"], N_IMAGES), token_kinds=["patch"], chunk_size=CHUNK, **entry
    )
    log = folder / "log"
    expected, moments = undisturbed({**source, "home": folder / "undisturbed"}, log)
    two_at_once({**source, "home": folder / "together"}, log, expected)
    done, homes = 0, 0
    while done < kills:
        places = {**source, "home": folder / f"home_{homes}"}
        done += until_done(places, log, chance, moments, kills - done)
        homes += 1
        wrong = problems(places) + differences(places, expected)
        if wrong:
            raise StuckError(f"home {homes} after {done} kills in all: " + "; ".join(wrong))
        shutil.rmtree(places["home"])
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    return {"kills": done, "homes": homes, "files": len(expected), "cpu_seconds": round(cpu - started)}


def import_all(modules: Iterable[str]) -> None:
    """Import what a command imports, so that children need not; to run one here would start threads.

    Raises:
        StuckError: it started threads, which a child would wait for for ever.
    """
    for name in modules:
        with suppress(Exception):  # some exist only once another one has made them
            importlib.import_module(name)
    atexit.register(gc.unfreeze)  # nanobind prints a page about what is still frozen at the end
    gc.freeze()  # children look for garbage as commands do, and not among imports, which they would copy for it
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len([name for name in threads if name != "jemalloc_bg_thd"]) > 1:  # Arrow's allocator knows of forks
        raise StuckError(f"the process that others are forked from has other threads: {threads}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--swift", action="store_true", help="homes of tests, which cost less, and no controls")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="sae_chaos_") as folder, swift_homes() if given.swift else nullcontext():
        tempfile.tempdir = folder  # also what killed commands leave goes with it
        print(json.dumps(chaos(Path(folder), given.kills, given.seed, **({} if given.swift else WITH_CONTROLS))))


if __name__ == "__main__":
    main()
