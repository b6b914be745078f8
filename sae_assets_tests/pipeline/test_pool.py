"""Which worker of a pool gets a run; what a worker does with it is shown in ``test_workers``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sae_assets.orchestration.instance import workers
from sae_assets_tests.processes import wait_until

KEY = workers.Key("definitions", "1")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[workers.Pool]:
    monkeypatch.setattr(workers, "WORKER_MODULE", "sae_assets_tests.pipeline.toy_worker")
    pool = workers.Pool(2, runs_per_worker=100, idle_seconds=100, on_lost=lambda *_: None)
    yield pool
    pool.close()


class Given:
    """Runs that were handed over: the process of each, and when they may end."""

    def __init__(self, pool: workers.Pool, folder: Path):
        self._pool, self._folder = pool, folder
        self._pids: dict[str, int] = {}

    def start(self, name: str, *pools: str) -> int:
        message = {"until": str(self._folder / name)}
        assert self._pool.hand_over(name, message, KEY, lambda pid: self._pids.update({name: pid}), pools)
        return self._pids[name]

    def end(self, name: str) -> None:
        (self._folder / name).touch()
        wait_until(lambda: self._pool.run_of(self._pids[name]) != name, f"{name} has ended", seconds=60)


@pytest.fixture
def runs(pool: workers.Pool, tmp_path: Path) -> Given:
    return Given(pool, tmp_path)


def test_runs_of_a_slot_pool_go_where_one_was_and_others_elsewhere(runs: Given) -> None:
    encodes, counts = runs.start("encoding", "gpu"), runs.start("counting")
    assert encodes != counts
    runs.end("encoding")
    runs.end("counting")
    assert runs.start("more counting") == counts  # it was busy last, too
    runs.end("more counting")
    assert runs.start("more encoding", "gpu") == encodes
    assert runs.start("meanwhile") == counts
    runs.end("meanwhile")
    runs.end("more encoding")
    assert runs.start("last") == counts


def test_a_worker_of_another_kind_is_better_than_none(pool: workers.Pool, runs: Given) -> None:
    encodes, counts = runs.start("encoding", "gpu"), runs.start("counting")
    assert not pool.hand_over("third", {}, KEY, lambda _: None)
    runs.end("counting")
    assert runs.start("more encoding", "gpu") == counts
    runs.end("encoding")
    assert runs.start("more counting") == encodes
