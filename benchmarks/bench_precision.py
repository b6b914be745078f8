"""Encoding in low precision is held against the exact encoder: rows with another set of units, and values.

float32 is a matrix product as it is. tf32-like: inputs rounded to 10 bits of mantissa, summed in float32 (an emulation
on the CPU; tensor cores also sum otherwise). fp16 and bf16: inputs rounded, summed in float32, the result rounded, as a
GPU returns it. In each the k largest are taken as they come. A value's error is relative to the exact one, over units
that both store.

    python benchmarks/bench_precision.py [--rows 512] [--images 20]
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from sae_assets.ops.rounding import to_significant
from sae_assets.ops.sparse_activations import TopKEncoder


def rounded(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: (x.to(dtype).float() @ w.to(dtype).float()).to(dtype).float()


PRECISIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "float32": lambda x, w: x @ w,
    "tf32-like": lambda x, w: to_significant(x) @ to_significant(w),
    "fp16": rounded(torch.float16),
    "bf16": rounded(torch.bfloat16),
}


def compare(name: str, x: Tensor, weight: Tensor, shift: Tensor | None, k: int) -> None:
    code = TopKEncoder(weight, k, shift=shift).encode(x)
    row = torch.repeat_interleave(torch.arange(len(x)), code.row_offsets.diff())
    centred = x if shift is None else x - shift
    print(f"{name}: {len(x):,} rows, d = {weight.shape[0]:,}, {weight.shape[1]:,} units, k = {k}")
    for precision, product in PRECISIONS.items():
        top = product(centred, weight).topk(k, dim=1)
        values = torch.zeros(len(x), weight.shape[1])
        values.scatter_(1, top.indices, top.values.clamp(min=0))
        both = values[row, code.unit_ids.long()]
        missed = torch.bincount(row[both == 0], minlength=len(x))
        other = (missed > 0) | ((values > 0).sum(1) != code.row_offsets.diff())
        stored = both > 0
        error = ((both - code.values).abs() / code.values)[stored].double()
        lost = code.values[~stored].double().sum() / code.values.double().sum()
        print(
            f"  {precision:10} another set of units in {other.double().mean():8.3%} of rows   largest relative error "
            f"{error.max():8.1e}   median {error.median():8.1e}   mass of units not stored {lost:8.1e}", flush=True
        )  # fmt: skip


def demo_rows(n_images: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Patches of the packaged images after the packaged transformer, and the packaged SAE's weights."""
    from sae_assets.catalog import load_catalog
    from sae_assets.datasets import open_dataset
    from sae_assets.rows.open_clip.vision import VisionTransformer

    catalog = load_catalog()
    model = catalog.models["clip-mini"]
    reader = open_dataset(catalog.datasets["clevr_mini"])
    vision = VisionTransformer(model.transformer, model.layer)
    images = [vision.geometry.tensor(reader.image(record.example_id)) for record in reader.records[:n_images]]
    rows = torch.cat([vision.embed(image[None])[:, 1:] for image in images]).flatten(0, 1)
    content = torch.load(model.sae.path, weights_only=True)
    weights = content["model_state_dict"]
    return rows, weights["enc"].float(), weights["pre_b"].float(), content["k"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--images", type=int, default=20)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    # Columns of norm 1 and inputs of the norm of a residual stream: errors are relative, only fp16's range sees scale.
    weight = torch.nn.functional.normalize(torch.randn(1024, 65_536, generator=generator), dim=0)
    x = torch.randn(args.rows, 1024, generator=generator)
    with torch.inference_mode():
        compare("random weights in CLIP-Scope's shape", x, weight, None, 32)
        compare("the demo's embeddings and SAE", *demo_rows(args.images))


if __name__ == "__main__":
    main()
