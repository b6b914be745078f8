"""What steps cost: seconds of CPU, and memory that is taken, each by the name of its step."""

import mmap
import time

import pytest
import torch

from sae_assets.pipeline import measuring
from sae_assets.pipeline.measuring import Meter


def test_steps_are_measured_apart_and_add_up() -> None:
    """Seconds of CPU: a step that waits, as one does whose machine does other work, costs next to nothing."""
    meter = Meter("cpu")
    for _ in range(2):
        with meter.step("long"):
            stop = time.process_time() + 0.05
            while time.process_time() < stop:
                pass
    with meter.step("short"):
        time.sleep(0.2)  # watching memory meanwhile takes a share of it
    assert meter.seconds["long"] >= 0.1 > meter.seconds["short"] >= 0
    assert {"seconds[long]", "peak_bytes[long]", "seconds[short]"} <= set(meter.figures)


def test_memory_is_that_of_the_step() -> None:
    """Eighty megabytes more at most, of which nothing is left afterwards."""
    meter = Meter("cpu")
    with meter.step("large"):
        held = torch.ones(20 * 2**20, dtype=torch.float32)
        time.sleep(0.05)
        del held
    with meter.step("small"):
        time.sleep(0.05)
    assert meter.peak_bytes["large"] > 60e6 > meter.peak_bytes["small"]


def test_memory_in_use_is_counted() -> None:
    """By the C library, which sees it come and go."""
    if measuring._counter() is None:
        pytest.skip("this C library does not tell")
    before = measuring._in_use()
    held = torch.ones(20 * 2**20, dtype=torch.float32)
    during = measuring._in_use()
    assert before is not None and during is not None and during - before > 60e6
    del held
    after = measuring._in_use()
    assert after is not None and during - after > 60e6


def test_memory_that_is_resident_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library does not tell: pages that nothing had before, for freed ones may be handed out again."""
    monkeypatch.setattr(measuring, "_counter", lambda: None)
    before = measuring._in_use()
    with mmap.mmap(-1, 80 * 2**20) as held:
        held.write(bytes(80 * 2**20))
        during = measuring._in_use()
    assert before is not None and during is not None and during - before > 60e6


def test_a_step_that_fails_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes through. Where the system does not tell of memory, there are seconds and no bytes."""
    monkeypatch.setattr(measuring, "_in_use", lambda: None)
    meter = Meter("cpu")
    with pytest.raises(ValueError, match="no"), meter.step("wrong"):
        raise ValueError("no")
    assert meter.figures == {}
    with meter.step("right"):
        pass
    assert set(meter.figures) == {"seconds[right]"}
