"""Bytes per row of one CLIP-Scope-sized chunk (51,200 patches × 65,536 units, k = 32), and the ratio to dense.

Beside what older scripts save, and what Delphi (eai-delphi 0.1.3, ``LatentCache.save_splits``) writes of the same
entries: the place of each in its text and its unit within the file, five files, values rounded to 16 bits; and the same
lossless.
And what a chunk costs once it is encoded: CPU milliseconds, the least of ten and of more where those take less than a
second and a half, of what a run does to hand it on. Ratios are the median of those of each turn: where a processor is
fast at one moment and slow at the next, the least of each are of different moments.

python benchmarks/bench_storage.py [--rows 51200]
"""

import argparse
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from bench_stored_values import with_values
from safetensors.numpy import save
from synthetic import synthetic_chunk

from sae_assets.artifacts import SparseActivations
from sae_assets.orchestration.metadata import artifact_metadata, table_metadata
from sae_assets.pipeline.checks import Expected
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage import parquet, pt
from sae_assets.storage.address import Address
from sae_assets.storage.header import Header
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets.storage.tables.sparse_activations import READ


def hand_on(chunk: SparseActivations, provenance: Provenance) -> None:
    stage, address = STAGES["sparse_activations"], Address("bench", "sparse_activations", "patch", "synthetic", "0000")
    expected = Expected(chunk.example_offsets.diff(), limits={"max_dropped_mass": 0.1, "max_fvu": 1.0})

    def compare(works: dict[str, Callable[[], Any]]) -> tuple[list[Any], list[list[float]]]:
        """Return what they give and all times of each, measured in turns."""
        times: dict[str, list[float]] = {name: [] for name in works}
        results, begin = dict[str, Any](), time.process_time()
        while len(times[next(iter(works))]) < 10 or time.process_time() - begin < 1.5:
            for name, work in works.items():
                start = time.process_time()
                results[name] = work()
                times[name].append(1000 * (time.process_time() - start))
        for name, each in times.items():
            print(f"{name:30} {min(each):10.1f} ms")
        return [*results.values()], [*times.values()]

    def cost(name: str, work: Callable[[], Any]) -> tuple[Any, float]:
        (result,), (each,) = compare({name: work})
        return result, min(each)

    with tempfile.TemporaryDirectory() as root:
        store = ArtifactStore(root)
        item, first = cost("content hash and figures", lambda: stored(chunk, provenance, stage.counts(chunk)))
        _, second = cost("metadata", lambda: (artifact_metadata(item, {"seconds": 1.0}), table_metadata(chunk)))
        _, third = cost("write", lambda: store.write(address, item))
        path = next(Path(root).rglob("*.parquet"))
        (artifact, *_), (anew, read, parsed) = compare(
            {
                "read back, hashed anew": lambda: store.read(address, hashed=True).artifact,
                "read": lambda: store.read(address).artifact,
                "parse alone": lambda: parse(path),
            }
        )
        by_seal, hashed = (
            statistics.median(one / other for one, other in zip(each, parsed, strict=True)) for each in (read, anew)
        )
        print(f"{'':30} {by_seal:10.2f} of parse alone, hashed anew {hashed:.2f}")
        checks = [check for check in stage.checks if check.name not in ("like_other_chunks", "sae_fits")]
        _, fifth = cost("checks", lambda: [check.test(artifact, expected) for check in checks])
    print(f"{'all of it':30} {first + second + third + min(anew) + fifth:10.0f} ms")


def as_delphi(chunk: SparseActivations, values: type, places: type, n_files: int = 5) -> int:
    """Bytes of the files in which Delphi keeps activations, without the tokens that it repeats in each."""
    row = chunk.row_of_entry()
    example = chunk.example_of_row()[row]
    locations = torch.stack([example, row - chunk.example_offsets[example], chunk.unit_ids.long()], 1).numpy()
    size, edges = 0, np.linspace(0, chunk.n_units, n_files + 1).astype(int)
    for first, end in itertools.pairwise(edges):
        here = (locations[:, 2] >= first) & (locations[:, 2] < end)
        coordinates = (locations[here] - [0, 0, first]).astype(places)
        size += len(save({"locations": coordinates, "activations": chunk.values.numpy()[here].astype(values)}))
    return size


def parse(path: Path) -> list[Any]:
    """The columns that a read needs, as numpy has them, without any look at what they hold."""
    table = pq.ParquetFile(path.open("rb")).read([*READ], use_threads=False)
    lists = [table[name].combine_chunks() for name in READ if pa.types.is_list(table[name].type)]
    numbers = [table[name].combine_chunks() for name in READ if not pa.types.is_list(table[name].type)]
    parts = [*numbers, *(each.offsets for each in lists), *(each.values for each in lists)]
    return [part.to_numpy() for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=51_200)
    parser.add_argument("--seed", type=int, default=0, help="of what is measured")
    args = parser.parse_args()
    chunk = synthetic_chunk(args.rows // 256, 256, 65_536, 32, args.seed)
    provenance = Provenance("sparse_activations", "bench", "patch", "synthetic", "0000", "1")

    def header(scalars: dict) -> Header:
        return Header(chunk.kind, chunk.content_hash(), scalars, provenance)

    wide = io.BytesIO()
    indices = chunk.unit_ids.view(-1, 32)
    torch.save({"indices": indices.long(), "values": chunk.values.view(-1, 32)}, wide)
    sizes = {
        "dense float32": chunk.dense_bytes,
        "older .pt, int64 + float32": len(wide.getvalue()),
        "Delphi, float16": as_delphi(chunk, np.float16, np.uint16),
        "Delphi, lossless": as_delphi(chunk, np.float32, np.uint16),
        "ours, .pt (int32 + float32)": len(pt.dump(chunk, header)),
        "ours, Parquet (default)": len(parquet.dump(chunk, header)),
        "ours, Parquet, 16-bit values": len(parquet.dump(with_values(chunk, "float16"), header)),
    }
    print(f"{chunk.n_rows:,} rows, {chunk.n_units:,} units, k = 32")
    for name, size in sizes.items():
        per_row, ratio = size / chunk.n_rows, chunk.dense_bytes / size
        print(f"{name:30} {size / 1e6:10,.2f} MB {per_row:9,.1f} bytes/row   1/{ratio:,.0f} of dense")
    hand_on(chunk, provenance)


if __name__ == "__main__":
    main()
