"""CPU time for the rows of one unit, by unit and by going through all activations; memory while they are sorted.
Chunks of 51,200 rows × 32 entries are written, sorted by unit through files, and read by the package's own reader. The
rows found both ways must be equal. Like is compared with like: the first read of a process with a scan that is the
first of one, later reads with a later scan.

    python benchmarks/bench_unit_rows.py [--chunks 28] [--units 16384] [--threads 1]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import first_unit
import numpy as np
import torch
from first_unit import opened

from sae_assets.artifacts import SparseActivations, offsets_of
from sae_assets.ops.unit_rows import rows_digest, sort_by_unit
from sae_assets.pipeline.stage import Rereadable
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import stored

K, ROWS, EXAMPLES = 32, 256, 200  # entries of a row, rows of an example, examples of a chunk
ASKED, OPENED, PROCESSES, SCANS = 40, 9, 9, 3  # units; runs that are opened; processes that open one; that scan


def chunk_of(number: int, n_units: int) -> SparseActivations:
    """Rows of K units, one from each of K ranges, the first of a range most often."""
    generator, n_rows, width = torch.Generator().manual_seed(number), EXAMPLES * ROWS, n_units // K
    drawn = (width * torch.rand(n_rows, K, generator=generator) ** 2).long().clamp(max=width - 1)
    units = (drawn + width * torch.arange(K)).int()
    values = torch.empty(n_rows, K).log_normal_(0.5, 0.7, generator=generator).sort(1, descending=True).values
    return SparseActivations(
        first_example=number * EXAMPLES,
        example_offsets=torch.arange(EXAMPLES + 1) * ROWS,
        row_offsets=offsets_of(torch.full((n_rows,), K)),
        unit_ids=units.flatten(),
        values=values.flatten(),
        n_units=n_units,
        l0=torch.full((n_rows,), K, dtype=torch.int32),
        k_stored=K,
        total_mass=float(values.double().sum()),
        dropped_mass=0.0,
    )


def memory(name: str = "RssAnon") -> float:
    """MiB of this process that no file can take back (or all that was at hand at most: VmHWM)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) / 1024


class Peak:
    """The most of :func:`memory` within, looked at every 5 ms."""

    def __enter__(self) -> "Peak":
        self.most, self._done = memory(), threading.Event()
        self._before = self.most
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.most = max(self.most, memory())

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def grown(self) -> float:
        return self.most - self._before


def seconds(call: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds, and what is returned."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def in_new_process(folder: str, n_chunks: int, *how: str) -> float:
    """CPU seconds that the first unit takes there (``first_unit``), without threads of NumPy's that wait in circles."""
    command = [sys.executable, first_unit.__file__, folder, str(n_chunks), *how]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return float(subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chunks", type=int, default=28)
    parser.add_argument("--units", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        run = opened(folder, options.chunks)
        store, keys, inputs = run.store, run.chunks, {}
        for number, key in enumerate(keys):
            chunk = chunk_of(number, options.units)
            provenance = Provenance("sparse_activations", run.entry.name, "patch", run.model, key, "1")
            item = stored(chunk, provenance)
            store.write(run.address("sparse_activations", key), item)
            inputs[f"sparse_activations/{key}"] = item.content_hash

        def chunks() -> Iterator[SparseActivations]:
            return (store.read(run.address("sparse_activations", key)).artifact for key in keys)

        with Peak() as peak:
            sorting, (artifact, digest) = seconds(lambda: sort_by_unit(Rereadable(chunks), options.units))
            address = run.address("unit_rows")
            provenance = Provenance("unit_rows", run.entry.name, "patch", run.model, None, "1", inputs=inputs)
            writing, _ = seconds(lambda: store.write(address, stored(artifact, provenance)))  # noqa: F821 - deleted after
            del artifact
            checking, same = seconds(lambda: rows_digest(store.read(address).artifact) == digest)
        n_rows = options.chunks * EXAMPLES * ROWS
        print(f"{n_rows:,} rows × {K} entries, {options.units:,} units, {options.chunks} chunks")
        print(f"by row {sum(store.size(run.address('sparse_activations', key)) for key in keys) / 1e6:,.0f} MB, "
              f"by unit {store.size(address) / 1e6:,.0f} MB")  # fmt: skip
        print(f"sorted in {sorting:.1f} s, written in {writing:.1f} s, read back and checked in {checking:.1f} s")
        print(
            f"memory beyond what was held before: {peak.grown:,.0f} MiB; entries alone {n_rows * K * 12 / 2**20:,.0f}"
        )
        print(f"the same entries: {same}")
        of_process, first_scan = (
            statistics.median(in_new_process(folder, options.chunks, *how) for _ in range(times))
            for how, times in (((), PROCESSES), (("scan",), SCANS))
        )
        scanned = opened(folder, options.chunks)
        scanned.__dict__["by_unit"] = None
        expected = scanned.unit(5)._entries
        scan, _ = seconds(lambda: scanned.unit(6)._entries)
        asked = np.linspace(0, options.units - 1, ASKED).astype(int).tolist()
        fresh = opened(folder, options.chunks)
        got = fresh.unit(5)._entries
        runs = [opened(folder, options.chunks) for _ in range(OPENED)]
        first = statistics.median(seconds(lambda run=run: run.unit(5)._entries)[0] for run in runs)
        each = [seconds(lambda unit=unit: fresh.unit(unit)._entries)[0] for unit in asked]
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
        print(f"first of a process: scan {first_scan * 1e3:,.0f} ms, by unit {of_process * 1e3:.1f} ms (1/"
              f"{first_scan / of_process:.0f})")  # fmt: skip
        print(f"later: scan {scan * 1e3:,.0f} ms; by unit, first of a run {first * 1e3:.1f} ms (1/{scan / first:.0f}), "
              f"others {statistics.median(each) * 1e3:.1f} ms, at most {max(each) * 1e3:.1f} "
              f"(1/{scan / statistics.median(each):.0f}, 1/{scan / max(each):.0f})")  # fmt: skip


if __name__ == "__main__":
    main()
