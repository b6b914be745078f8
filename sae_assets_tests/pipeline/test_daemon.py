"""Dagster's real daemon on a data set that grows: everything once, nothing lost by a kill, schedules do the same.

What is asserted is read from the instance's history, as the UI shows it. Runs are child processes of the daemon's code
server; each costs seconds, so there are few of them.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration.history import ACTIVE
from sae_assets.orchestration.partitions import keys_of, multi_key
from sae_assets_tests.pipeline.daemon import (
    Daemon,
    daemon,
    history,
    made,
    states_of_runs,
    switch_on,
    ticks_of,
    write_quick_settings,
)
from sae_assets_tests.pipeline.fresh_runs import run
from sae_assets_tests.pipeline.living import land
from sae_assets_tests.pipeline.planned import all_states, states_of
from sae_assets_tests.pipeline.small import SMALL_STAGES, make_dataset, write_catalog

pytestmark = pytest.mark.living
MODEL, MOST_CHUNKS = "clip-mini", 8
CHUNK_STAGES = [name for name, stage in SMALL_STAGES.items() if stage.level == "chunk"]
MODEL_STAGES = [name for name, stage in SMALL_STAGES.items() if stage.level == "model"]
ONCE = ("examples", "labels", "ground_truth", "sparse_activations")  # what no other chunk can change


@dataclass(frozen=True)
class World:
    """A growing data set, a session on its home, and a daemon that works there."""

    root: Path
    session: Session
    daemon: Daemon

    @property
    def made(self) -> Counter[tuple[str, str]]:
        return made(self.session.instance, [key for key, _ in keys_of(self.session.catalog.datasets["small"])])

    @property
    def states(self) -> set[str]:
        return all_states(self.session)

    def wait(self, done: Callable[[], bool], what: str, *, seconds_between: float = 4.0) -> None:
        """Poll for it, seldom: a look takes CPU, which whoever works there lacks."""

        def tell() -> str:
            stages = states_of(self.session)
            return "\n".join([*(f"{stage}: {part}" for stage, part in stages.items()), history(self.session.instance)])

        self.daemon.wait(self.session.instance, done, what, tell, seconds_between)

    def runs(self, *statuses: dg.DagsterRunStatus) -> list[dg.DagsterRun]:
        return list(self.session.instance.get_runs(dg.RunsFilter(statuses=list(statuses)) if statuses else None))

    def done(self, chunks: int) -> Callable[[], bool]:
        """Whether so many chunks are registered, everything over them is current and no run is left.

        States are looked at when runs have come or ended: nothing else changes them while the daemon works.
        """
        seen: dict[str, dg.DagsterRunStatus] = {}

        def is_done() -> bool:
            nonlocal seen
            runs = states_of_runs(self.session.instance)
            if len(self.session.chunks_of("small")) != chunks or runs == seen or {*ACTIVE} & {*runs.values()}:
                return False
            seen = runs
            return self.states == {"current"}

        return is_done


@contextmanager
def world(tmp_path: Path, n: int, **entry: object) -> Iterator[World]:
    root = make_dataset(tmp_path / "data", n)
    entry = {
        "token_kinds": ["patch"], "chunk_size": 6,
        "arrivals": {"settle_seconds": 1, "check_every_seconds": 10}, **entry,
    }  # fmt: skip
    catalog = write_catalog(tmp_path / "catalog.yaml", root, **entry)
    write_quick_settings(tmp_path / "home")
    with open_session(tmp_path / "home", catalog) as session:
        assert session.instance is not None  # its tables are made before daemon and code server race for them
        with daemon(tmp_path / "home", catalog) as running:
            yield World(root, session, running)


def expected(chunks: list[str]) -> set[tuple[str, str]]:
    found = {(f"small/{stage}", chunk) for stage in ("examples", "labels") for chunk in chunks}
    found |= {(f"small/patch/{stage}", multi_key(MODEL, chunk)) for stage in CHUNK_STAGES for chunk in chunks}
    return found | {(f"small/patch/{stage}", MODEL) for stage in MODEL_STAGES}


def encoding(world: World) -> bool:
    """Whether one run is left, it is to encode, and its steps have begun: nobody is about to start another."""
    left = world.runs(*ACTIVE)
    if len(left) != 1 or not any(key.path[-1] == "sparse_activations" for key in left[0].asset_selection or ()):
        return False
    return bool(world.session.instance.all_logs(left[0].run_id, of_type=dg.DagsterEventType.STEP_START))


def land_until_one_is_being_encoded(world: World) -> int:
    """Let a chunk land after the first, and another where its step was over before it was seen; how many there are.

    On an idle machine the step takes a second or two, on a busy one whoever looks may not be given them.
    """
    key = dg.AssetKey(["small", "patch", "sparse_activations"])

    def encoded() -> int:
        return made(world.session.instance, [key]).total()

    for chunks in range(2, MOST_CHUNKS):
        land(world.root, 6 * chunks)
        world.wait(
            lambda chunks=chunks: encoding(world) or encoded() == chunks,
            f"chunk {chunks} is being encoded", seconds_between=0.2,
        )  # fmt: skip
        if encoded() < chunks:
            return chunks
        world.wait(world.done(chunks), f"{chunks} chunks, and everything over them, are current")
    raise AssertionError(f"No step of {MOST_CHUNKS - 2} chunks was seen")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.xdist_group("daemon")
def test_automation_makes_everything_once_though_all_is_killed_half_way(tmp_path):
    with world(tmp_path, 6) as living:
        instance = living.session.instance
        switch_on(instance, living.daemon, "small__register_chunks", "small__follow")
        living.wait(living.done(1), "the first chunk, and everything over it, is current")
        assert living.runs(dg.DagsterRunStatus.FAILURE) == []
        first = living.made
        assert first == dict.fromkeys(expected(["0000"]), 1)

        # A script lands a second chunk; while it is encoded the power fails, and a third one lands.
        chunks = land_until_one_is_being_encoded(living)
        living.daemon.kill()
        (killed,) = living.runs(*ACTIVE)  # nobody is left to end it
        before = living.made
        half_way = multi_key(MODEL, f"{chunks - 1:04}")
        assert ("small/patch/sparse_activations", half_way) not in before
        land(living.root, 6 * (chunks + 1))
        living.daemon.start()
        living.wait(living.done(chunks + 1), "all chunks, and everything over them, are current")
        after = living.made
        assert set(after) == expected([f"{chunk:04}" for chunk in range(chunks + 1)])
        once = {key: times for key, times in after.items() if key[0].endswith(ONCE)}
        # What the killed run had recorded of a step when the power failed the second attempt makes again, but not what
        # a step had ended with.
        twice = [key for key in before if key[1] == half_way]
        assert {key: times for key, times in once.items() if times not in ((1, 2) if key in twice else (1,))} == {}
        # Aggregates followed, and nothing that was made is gone.
        assert [stage for stage in MODEL_STAGES if after[f"small/patch/{stage}", MODEL] <= 1] == []
        assert before - after == Counter()
        # What was killed is marked as failed, and a second attempt made it; its slot of the pool is free again.
        attempts = [found for found in living.runs() if killed.run_id in (found.run_id, found.parent_run_id)]
        assert sorted(found.status.value for found in attempts) == ["FAILURE", "SUCCESS"]
        pools = instance.event_log_storage.get_concurrency_info("gpu")
        assert (pools.slot_count, pools.active_slot_count) == (1, 0)

        catalog = living.daemon.catalog

    # And what lies there is, byte by byte, what one command makes of it all.
    at_once = files(run(tmp_path / "at once", catalog))
    grown = files(tmp_path / "home" / "store" / "small")
    assert set(grown) == set(at_once)
    assert [name for name in grown if grown[name] != at_once[name]] == []


@pytest.mark.xdist_group("scheduler")
def test_schedules_backfill_what_can_be_made_repair_what_failed_and_take_what_arrives_meanwhile(tmp_path):
    minutely = {"cron": "* * * * *", "repair_cron": "* * * * *"}
    with world(tmp_path, 12, backfills=minutely) as living:
        instance = living.session.instance
        living.session.materialize(["small"], last="labels")
        victim = sorted((living.root / "images").iterdir())[0]
        content = victim.read_bytes()
        victim.write_bytes(b"nonsense")
        switch_on(instance, living.daemon, "small__backfill")

        def ended() -> bool:
            found = [backfill for backfill in instance.get_backfills() if backfill.backfill_id.startswith("backfill-")]
            return bool(found) and found[-1].status.value.startswith(("COMPLETED", "FAILED"))

        living.wait(ended, "the first backfill has ended")
        first = living.made
        encoded = {partition for key, partition in first if key.endswith("sparse_activations")}
        assert len(encoded) == 1  # the other chunk failed and stopped nobody else
        assert {partition for key, partition in first if key.endswith("ground_truth")} >= encoded
        assert ("small/patch/unit_stats", MODEL) not in first
        failed = next(run for run in living.runs(dg.DagsterRunStatus.FAILURE))
        assert failed.tags["sae_assets/backfill"] == "backfill"
        messages = "".join(str(entry.dagster_event) for entry in instance.all_logs(failed.run_id))
        assert victim.name in messages and "not what was registered" in messages

        victim.write_bytes(content)
        switch_on(instance, living.daemon, "small__repair")
        living.wait(living.done(2), "everything is current")
        assert living.made == dict.fromkeys(expected(["0000", "0001"]), 1)
        assert any(
            tick.tick_data.run_ids for tick in ticks_of(instance, "small__repair")
        )  # and no tick that was skipped
        by = {run.tags["sae_assets/backfill"] for run in living.runs() if "sae_assets/backfill" in run.tags}
        assert {"backfill", "repair"} == by
        assert len({backfill.backfill_id for backfill in instance.get_backfills()}) == len(instance.get_backfills())

        # A chunk lands and is made; another one in the middle of that. Aggregates that run go on without it, and are
        # made again when it is there.
        failed_before = living.runs(dg.DagsterRunStatus.FAILURE)
        known = {run.run_id for run in living.runs()}

        def filtering() -> bool:
            """Whether the new chunk is filtered or was a moment ago, too short a time to be met; old ones come next."""
            begun = [
                run
                for run in living.runs(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS)
                if run.run_id not in known
            ]
            return any(key.path[-1] == "filtered_activations" for run in begun for key in run.asset_selection or ())

        switch_on(instance, living.daemon, "small__register_chunks")
        land(living.root, 18)
        living.wait(filtering, "the second wave has begun", seconds_between=0.2)
        land(living.root, 24)
        living.wait(living.done(4), "four chunks, and everything over them, are current")
        assert living.runs(dg.DagsterRunStatus.FAILURE) == failed_before
        assert set(living.made) == expected(["0000", "0001", "0002", "0003"])
        assert {key: times for key, times in living.made.items() if key[0].endswith(ONCE) and times != 1} == {}
