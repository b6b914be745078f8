"""All benchmarks, one after another, and their figures in ``RESULTS.md`` with machine and commit.

python benchmarks/run.py            small sizes, minutes
python benchmarks/run.py --full     sizes of the claims, hours
"""

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
HOME = "HOME"  # stands for the home of `make demo`
# Small sizes, and those of the claims; none are the script's own.
SIZES: dict[str, tuple[str, str]] = {
    "bench_storage": ("--rows 5120", ""),
    "bench_stored_values": ("--only clevr_mini", ""),
    "bench_statistics": ("--examples 40 --units 8192 --kept 500", ""),
    "bench_tables": ("--examples 40 --units 8192 --kept 500", "--kept 5000 --concepts 100"),
    "bench_memory": ("--chunks 10 100", ""),
    "bench_exact_search": ("--units 500 --examples 500 --concepts 20", ""),
    "bench_row_alignment": ("--units 200 --rows 20480 --concepts 20", "--full"),
    "bench_unit_rows": ("--chunks 4 --units 4096", ""),
    "bench_report": ("--images 240", ""),
    "bench_find": (HOME, HOME),
    "bench_startup": (f"{HOME} --repeat 1", HOME),
    "bench_preflight": ("--chunks 2 4 --examples 20", ""),
    "bench_passes": ("--examples 32", ""),
    "bench_pipeline": ("--images 60 --chunk 30", ""),
    "bench_busy": ("--images 60 --large 4", ""),
    "bench_encoding": ("--rows 256", ""),
    "bench_precision": ("--rows 128 --images 4", ""),
    "bench_fit": ("--small", ""),
    "bench_differences": ("", ""),
    "bench_interval_choices": ("--points 4 --trials 200", ""),
    "bench_statistics_validity": ("--noise --sets 1", ""),
    "bench_controls": ("--trials 10", ""),
    "bench_diffmean": ("", ""),
    "bench_few_examples": ("", ""),
    "bench_random_saes": ("--seeds 4 --only clevr_mini", ""),
    "bench_scale": ("--chunks 300 --new 10 --datasets 5 --backfill 5", ""),
    "bench_backfill": ("--chunks 2", "--chunks 500"),
    "bench_ui": ("--chunks 300 --made 100 --datasets 5", ""),
}

# What these print are no times (or CPU seconds beside them), so they may share the cores.
SIMULATIONS = {
    "bench_differences",
    "bench_interval_choices",
    "bench_statistics_validity",
    "bench_controls",
    "bench_diffmean",
    "bench_few_examples",
    "bench_random_saes",
}


def main() -> int:
    """Run them; 1 if one fails. What it printed stands in the results then, too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="some scripts; RESULTS.md is written for all of them only")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--home", type=Path, default=Path.home() / ".sae_assets", help="of `make demo`")
    arguments = parser.parse_args()
    forgotten = {path.stem for path in HERE.glob("bench_*.py")} - {*SIZES}
    assert not forgotten, f"no size of {forgotten}"
    unknown = {*arguments.names} - {*SIZES}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SIZES)}")
    if not (arguments.home / "store").is_dir():
        parser.error(f"{arguments.home} is no home with figures to look at; run `make demo`, or name one by --home")
    changed = _git("status", "--porcelain", "--", ":!benchmarks/RESULTS.md")
    if changed and not arguments.names:
        parser.error(f"the working tree differs from its commit, so that figures would be nobody's:\n{changed}")
    names = [*(arguments.names or SIZES)]
    runs = {name: _run(name, arguments) for name in names if name not in SIMULATIONS}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        shared = [name for name in names if name in SIMULATIONS]
        runs |= zip(shared, pool.map(lambda name: _run(name, arguments), shared), strict=True)
    failed = [name for name in names if runs[name][1]]
    if not arguments.names:
        RESULTS.write_text(_head(arguments.full) + "\n" + "\n".join(runs[name][0] for name in names), encoding="utf-8")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def _run(name: str, arguments: argparse.Namespace) -> tuple[str, int]:
    """Return what one script printed, as RESULTS.md shows it, and its exit status."""
    sizes = SIZES[name][arguments.full]
    start = time.perf_counter()
    command = [sys.executable, str(HERE / f"{name}.py"), *sizes.replace(HOME, str(arguments.home)).split()]
    threads = {"OMP_NUM_THREADS": "1"} if name in SIMULATIONS else {}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **threads})
    seconds = time.perf_counter() - start
    output = run.stdout.strip() if run.returncode == 0 else f"{run.stdout}{run.stderr[-2000:]}".strip()
    end = "" if run.returncode == 0 else f", failed with {run.returncode}"
    shown = f"python benchmarks/{name}.py {sizes}".strip()
    print(f"{shown}  ({seconds:.0f} s{end})\n{output}\n", flush=True)
    return (
        f"`{shown}` ({seconds:.0f} s{end})\n\n```\n{output.replace(str(arguments.home), HOME)}\n```\n",
        run.returncode,
    )


def _head(full: bool) -> str:
    """Return where and of what the figures are."""
    option, commit = " --full" if full else "", _git("rev-parse", "--short=10", "HEAD")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "dagster", "pyarrow"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        "# Figures of the benchmarks\n\n"
        f"Written by `python benchmarks/run.py{option}` on {time.strftime('%Y-%m-%d')} at commit {commit}: "
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}, {versions}.\n"
        "Ratios are the point; seconds are of this machine. What each script claims stands in [README.md](README.md).\n"
    )


def _processor() -> str:
    """Its name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=HERE.parent, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    raise SystemExit(main())
