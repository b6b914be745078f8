"""Everything a GPU is used for, in one go: tests of ops on CUDA, codes against the CPU's, encoding against its limits.

Needs only what ``sae_assets.ops`` and its tests need: torch, pytest, pytest-xdist, hypothesis, jaxtyping, beartype,
pyarrow, scipy, scikit-learn. Where there is no CUDA device it says so and measures nothing.

    python benchmarks/gpu.py [--rows 51200] [--no-tests]
"""

import argparse
import itertools
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from sae_assets.ops.device import memory_budget
from sae_assets.ops.jumprelu import JumpReluEncoder, ReluEncoder
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder

ROOT = Path(__file__).parents[1]
BLOCK = 8192  # rows of a plain script's batch
SHAPES = (  # name, d_model, units, active units per row
    ("TopK, as CLIP-Scope", 1024, 65_536, 32),
    ("TopK, as Gemma Scope's width", 3584, 16_384, 64),
    ("JumpReLU, as Gemma Scope", 3584, 16_384, 64),
)


def milliseconds(call: Callable[[], object], repeat: int = 5) -> float:
    """Median of ``repeat`` calls after one that is not counted, by the device's clock."""
    call()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeat + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    torch.cuda.synchronize()
    return sorted(a.elapsed_time(b) for a, b in itertools.pairwise(marks))[repeat // 2]


def problem(d: int, units: int, rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and directions of unit norm, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(units, d, generator=generator)
    return torch.randn(rows, d, generator=generator), (weight / weight.norm(dim=1, keepdim=True)).T


def encoder(name: str, weight: torch.Tensor, active: int, **options: object) -> Encoder:
    if name.startswith("TopK"):
        return TopKEncoder(weight, active, **options)
    if name.startswith("ReLU"):
        return ReluEncoder(weight, bias=torch.full((weight.shape[1],), -2.5), **options)
    units = weight.shape[1]
    level = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - active / units)))
    threshold = level + 0.1 * torch.linspace(-1, 1, units)
    return JumpReluEncoder(weight, threshold, bias=torch.linspace(-0.1, 0.1, units), **options)


def compare_with_cpu() -> None:
    print("\ncodes of the GPU against the CPU's", flush=True)
    cases = [(name, d, units, active) for name, d, units, active in SHAPES]
    cases += [("ReLU", 768, 24_576, 0), ("TopK, small", 128, 1024, 16), ("TopK, odd", 77, 1001, 7)]
    for name, d, units, active in cases:
        for kind in ("random", "close"):
            x, weight = problem(d, units, 96 if kind == "random" else 3, seed=7)
            if kind == "close":  # units that differ in their last bits, so that the screen can tell none from another
                shared = weight[:, :1].expand(-1, units)
                weight = (shared * (1 + 2.0**-20 * torch.arange(units) / units)).float()
            shift = 0.1 * torch.ones(d)
            codes = [encoder(name, weight, active, shift=shift, device=device).encode(x) for device in ("cpu", "cuda")]
            same = all(torch.equal(getattr(codes[0], key), getattr(codes[1], key)) for key in vars(codes[0]))
            print(f"  {name:30} {kind:7} d {d:5,} units {units:6,}  entries {len(codes[0].values):9,}  "
                  f"{'bit-equal' if same else 'DIFFERENT'}", flush=True)  # fmt: skip
            if not same:
                raise SystemExit(1)


def plain(x: torch.Tensor, columns: torch.Tensor, k: int | None, dtype: torch.dtype) -> None:
    """Do what a script does: one product in some precision, and its k largest or what lies above a threshold."""
    narrow = columns.to(dtype)
    for part in x.split(BLOCK):
        values = part.to(dtype) @ narrow.T
        if k is None:
            (values > 2.5).nonzero()
        else:
            values.topk(k, dim=1)


def product(x: torch.Tensor, columns: torch.Tensor, dtype: torch.dtype) -> None:
    narrow = columns.to(dtype)
    for part in x.split(BLOCK):
        part.to(dtype) @ narrow.T


def time_encoding(n_rows: int) -> None:
    print(f"\nencoding {n_rows:,} rows, milliseconds; plain: product and k largest, or what is above a threshold")
    for name, d, units, active in SHAPES:
        rows, weight = problem(d, units, n_rows)
        x, columns = rows.cuda(), weight.T.contiguous().cuda()
        k = active if name.startswith("TopK") else None
        budget = memory_budget(None, "cuda")
        sae = encoder(name, weight, active, device="cuda", memory_budget=budget)
        ours = milliseconds(partial(sae.encode, x))
        print(f"  {name}: {d:,} to {units:,}, {active} active; ours, exact {ours:8.1f}   "
              f"{n_rows / ours * 1e3:11,.0f} rows/s   {budget >> 20:,} MiB", flush=True)  # fmt: skip
        for label, setting, dtype in (
            ("float32", "ieee", torch.float32), ("tf32", "tf32", torch.float32), ("bfloat16", "ieee", torch.bfloat16),
        ):  # fmt: skip
            torch.backends.cuda.matmul.fp32_precision = setting
            script = milliseconds(partial(plain, x, columns, k, dtype))
            alone = milliseconds(partial(product, x, columns, dtype))
            print(f"    {label:9} plain {script:8.1f}   ratio {script / ours:6.2f}   product alone {alone:8.1f}   "
                  f"{2 * n_rows * d * units / alone / 1e9:6.0f} TFLOP/s", flush=True)  # fmt: skip
        torch.backends.cuda.matmul.fp32_precision = "ieee"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=51_200)
    parser.add_argument("--no-tests", action="store_true")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        return 2
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {platform.python_version()}, commit "
          f"{commit.strip() or 'unknown'}")  # fmt: skip
    compare_with_cpu()
    time_encoding(args.rows)
    print("\nevery stage after encoding (bench_statistics.py --device cuda)", flush=True)
    subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "bench_statistics.py"), "--device", "cuda"],
        check=True,
    )
    if args.no_tests:
        return 0
    print("\ntests of ops", flush=True)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "auto", "-q", "-p", "no:benchmark", "-p", "no:cacheprovider",
         "sae_assets_tests/ops"], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).returncode  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
