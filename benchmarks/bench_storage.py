"""Bytes per row of one CLIP-Scope-sized chunk (51,200 patches × 65,536 units, k = 32), and the ratio to dense.

python benchmarks/bench_storage.py [--rows 51200]
"""

import argparse
import io

import torch
from synthetic import synthetic_chunk

from sae_assets.storage import parquet, pt
from sae_assets.storage.header import Header
from sae_assets.storage.provenance import Provenance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=51_200)
    args = parser.parse_args()
    chunk = synthetic_chunk(args.rows // 256, 256, 65_536, 32)
    made = Provenance("sparse_activations", "bench", "patch", "synthetic", "0000", "1")

    def header(scalars: dict) -> Header:
        return Header(chunk.kind, chunk.content_hash(), scalars, made)

    wide = io.BytesIO()
    indices = chunk.unit_ids.view(-1, 32)
    torch.save({"indices": indices.long(), "values": chunk.values.view(-1, 32)}, wide)
    sizes = {
        "dense float32": chunk.dense_bytes,
        "older .pt, int64 + float32": len(wide.getvalue()),
        "ours, .pt (int32 + float32)": len(pt.dump(chunk, header)),
        "ours, Parquet (default)": len(parquet.dump(chunk, header)),
    }
    print(f"{chunk.n_rows:,} rows, {chunk.n_units:,} units, k = 32")
    for name, size in sizes.items():
        per_row, ratio = size / chunk.n_rows, chunk.dense_bytes / size
        print(f"{name:30} {size / 1e6:10,.2f} MB {per_row:9,.1f} bytes/row   1/{ratio:,.0f} of dense")


if __name__ == "__main__":
    main()
