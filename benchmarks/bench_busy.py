"""What a CPU is busy with while images become sparse activations: share of the transformer and of products.

Images of 500×375 pixels, as COCO's, go in one chunk through the packaged model and SAE, and through a model of the
width of ViT-B/16 with random weights (11 blocks, 768 to 24,576, k = 32). CPU seconds of all threads, torch with one:
products of several are computed by threads that cannot be asked. Shapes have been tried before.

    python benchmarks/bench_busy.py [--images 2000] [--large 200]
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from bench_pipeline import write_images
from safetensors.torch import save_file

from sae_assets.catalog import Dataset, Model, Pruning, Sae, Transformer, load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.datasets import open_dataset
from sae_assets.ops import reconstruction, screens, sparse_activations
from sae_assets.rows import images
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.open_clip import vision

BASE = {"width": 768, "layers": 12, "patch_size": 16, "image_size": 224, "head_width": 64}
UNITS, K, LAYER = 24_576, 32, 10
PARTS: tuple[tuple[Any, str, str], ...] = (
    (vision.VisionTransformer, "embed", "transformer"),
    (screens.Screen, "product", "products of the SAE"),
    (sparse_activations.Encoder, "encode", "encoding, beside products"),
    (reconstruction.Fit, "add", "fit of the SAE"),
    (images, "input_of", "decoding and resizing"),
    (vision.ImageGeometry, "inputs", "normalising"),
)
USEFUL = ("transformer", "products of the SAE")


class Spent:
    """CPU seconds of functions, without those of the functions counted within."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._lock, self._within = threading.Lock(), threading.local()

    def counted(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            outer, self._within.seconds = getattr(self._within, "seconds", 0.0), 0.0
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.thread_time() - start
                with self._lock:
                    self.seconds[name] += took - self._within.seconds
                self._within.seconds = outer + took

        return call


def large_model(folder: Path) -> Model:
    """A model of ViT-B/16's width and an SAE in CLIP-Scope's layout, both with random weights."""
    torch.manual_seed(0)
    text = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": 512, "vision_cfg": BASE, "text_cfg": text}
    weights = {name: tensor.contiguous() for name, tensor in open_clip.CLIP(**config).state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    encoder = torch.randn(BASE["width"], UNITS)
    state = {"pre_b": torch.zeros(BASE["width"]), "enc": encoder, "dec": encoder.T.contiguous()}
    torch.save({"k": K, "n_features": UNITS, "d_in": BASE["width"], "model_state_dict": state}, folder / "sae.pt")
    return Model(
        modality="image", transformer=Transformer(library="open_clip", path=folder), layer=LAYER,
        sae=Sae(format="clipscope", path=folder / "sae.pt"),
        pruning=Pruning(min_active=1, max_density=1, strength_percentile=0, target_units=100),
    ).named("base")  # fmt: skip


def measure(name: str, folder: Path, model: Model, n_images: int) -> None:
    entry = Dataset(root=folder / "table.csv", layout="table", modality="image", concepts=("thing", "other"),
                    models=(model.name,)).named("made")  # fmt: skip
    reader = open_dataset(entry)
    ids = tuple(record.example_id for record in reader.records)
    settings: dict[str, Any] = {
        "dataset": entry, "model": model, "reader": reader, "k_stored": K, "precision": "float32", "batch_size": 32,
        "device": "cpu", "memory_budget": 256 * 2**20, "forward_batch": None,
    }  # fmt: skip
    chunk = describe_examples(Manifest("0000", 0, ids[:n_images]), reader)
    encode_chunk(describe_examples(Manifest("0000", 0, ids[:4]), reader), ("patch",), **settings)
    spent = Spent()
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in PARTS]
    for owner, attribute, part in PARTS:
        setattr(owner, attribute, spent.counted(owner.__dict__[attribute], part))
    start = time.process_time()
    try:
        encode_chunk(chunk, ("patch",), **settings)
    finally:
        total = time.process_time() - start
        for owner, attribute, function in before:
            setattr(owner, attribute, function)
    spent.seconds["all else"] = total - spent.seconds.total()
    useful = sum(spent.seconds[part] for part in USEFUL)
    print(f"{name}: {n_images:,} images, {1000 * total / n_images:.1f} ms each, of these {useful / total:.1%} useful")
    for part, seconds in spent.seconds.most_common():
        print(f"  {part:28}{1000 * seconds / n_images:9.2f} ms{seconds / total:8.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="for the packaged model")
    parser.add_argument("--large", type=int, default=200, help="for the model of ViT-B/16's width")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="sae_assets_busy_") as name:
        folder = Path(name)
        write_images(folder, max(given.images, given.large, 4))
        measure("clip-mini", folder, load_catalog().models["clip-mini"], given.images)
        if given.large:
            measure("width of ViT-B/16", folder, large_model(folder), given.large)


if __name__ == "__main__":
    main()
