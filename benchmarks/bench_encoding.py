"""Encoding exactly on the CPU against a plain script: float32 product and k largest, or what is above a threshold.

CPU seconds of one thread, the least of three runs that take turns; the screens as they are chosen here, with bytes
before float32 where the clock says so, and one in float32 alone. What an encoder does once (the sieve is made, and both
ways are timed) is over before: it takes as long as some thousand rows, and a chunk has 51,200.

python benchmarks/bench_encoding.py [--rows 1024]
"""

import argparse
import time
from functools import partial

import torch
from gpu import SHAPES, encoder, plain, problem

from sae_assets.ops import screens

SETTLED = 2048  # rows after which an encoder has chosen its way


def seconds(calls: dict[str, partial]) -> dict[str, float]:
    """CPU seconds of each call, the least of three, once it has encoded some rows."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: min(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    chosen = screens.operands
    print(f"{rows:,} rows; {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}")
    for name, d, units, active in SHAPES:
        x, weight = problem(d, units, rows)
        calls = {
            "plain": partial(plain, x, weight.T.contiguous(), active if name.startswith("TopK") else None, x.dtype)
        }
        for label, choice in (("float32", lambda *_: torch.float32), ("chosen", chosen)):
            screens.operands = choice
            sae = encoder(name, weight, active)
            sae.ways.large &= label == "chosen"
            for _ in range(-(-SETTLED // rows)):
                sae.encode(x)
            calls[f"{label} ({str(sae.screen.dtype).removeprefix('torch.')})"] = partial(sae.encode, x)
        taken = seconds(calls)
        print(f"{name}: {d:,} to {units:,}, {active} active")
        for label, each in taken.items():
            print(f"  {label:20}{each:8.3f} s   ratio{taken['plain'] / each:6.2f}", flush=True)


if __name__ == "__main__":
    main()
