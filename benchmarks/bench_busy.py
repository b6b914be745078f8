"""A CPU is busy with the transformer and with products while images become sparse activations: their shares are
measured.

Images of 500×375 pixels, as COCO's, go in one chunk through the packaged model and SAE, and through a model of the
width of ViT-B/16 with random weights (11 blocks, 768 to 24,576, k = 32). CPU seconds of all threads, torch with one:
products of several are computed by threads that cannot be asked. What a process does once is done before, by four
images, and said apart: shapes are tried, and compiled loops loaded.

With ``--writing``: chunks of 200 images of the packaged model, each written (hash, file, reading back) before the next
is encoded, against by a thread beside it; CPU and wall seconds, least of three.

    python benchmarks/bench_busy.py [--images 2000] [--large 200] [--writing 4]
"""

import argparse
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from bench_pipeline import write_images
from safetensors.torch import save_file

from sae_assets.artifacts import Examples
from sae_assets.catalog import Dataset, Model, Pruning, Sae, Transformer, load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.datasets import open_dataset
from sae_assets.ops import compiled, reconstruction, screens, sieve, sparse_activations
from sae_assets.rows import images
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.open_clip import vision
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored

BASE = {"width": 768, "layers": 12, "patch_size": 16, "image_size": 224, "head_width": 64}
UNITS, K, LAYER = 24_576, 32, 10
PARTS: tuple[tuple[Any, str, str], ...] = (
    (vision.VisionTransformer, "embed", "transformer"),
    (screens.Screen, "product", "products of the SAE"),
    (sieve, "byte_product", "products of the SAE"),
    (sparse_activations.Encoder, "encode", "encoding, beside products"),
    (reconstruction.Fit, "add", "fit of the SAE"),
    (images.ImageRows, "_input", "decoding and resizing"),
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


def settings_of(folder: Path, model: Model) -> dict[str, Any]:
    entry = Dataset(root=folder / "table.csv", layout="table", modality="image", concepts=("thing", "other"),
                    models=(model.name,)).named("made")  # fmt: skip
    reader = open_dataset(entry)
    return {
        "dataset": entry, "model": model, "reader": reader, "k_stored": K, "precision": "float32", "batch_size": 32,
        "device": "cpu", "memory_budget": 256 * 2**20, "forward_batch": None,
    }  # fmt: skip


def chunk_of(settings: dict[str, Any], number: int, n_images: int) -> Examples:
    ids = tuple(record.example_id for record in settings["reader"].records)
    first = number * n_images
    manifest = Manifest(f"{number:04d}", first, ids[first : first + n_images])
    return describe_examples(manifest, settings["reader"])


def measure(name: str, folder: Path, model: Model, n_images: int) -> None:
    settings = settings_of(folder, model)
    chunk = chunk_of(settings, 0, n_images)
    spent = Spent()
    before = [(owner, attribute, owner.__dict__[attribute]) for owner, attribute, _ in PARTS]
    for owner, attribute, part in PARTS:
        setattr(owner, attribute, spent.counted(owner.__dict__[attribute], part))
    try:
        start = time.process_time()
        encode_chunk(chunk_of(settings, 0, 4), ("patch",), **settings)
        once = time.process_time() - start
        spent.seconds.clear()
        start = time.process_time()
        encode_chunk(chunk, ("patch",), **settings)
        total = time.process_time() - start
    finally:
        for owner, attribute, function in before:
            setattr(owner, attribute, function)
    spent.seconds["all else"] = total - spent.seconds.total()
    useful = sum(spent.seconds[part] for part in USEFUL)
    print(f"{name}: {n_images:,} images, {1000 * total / n_images:.1f} ms each, of these {useful / total:.1%} useful; "
          f"{once:.1f} s once")  # fmt: skip
    for part, seconds in spent.seconds.most_common():
        print(f"  {part:28}{1000 * seconds / n_images:9.2f} ms{seconds / total:8.1%}", flush=True)


def write_beside(folder: Path, n_chunks: int, n_images: int = 200) -> None:
    """Chunks that are written one after the other, or each while the next is encoded."""
    settings = settings_of(folder, load_catalog().models["clip-mini"])
    chunks = [chunk_of(settings, number, n_images) for number in range(n_chunks)]
    store = ArtifactStore(str(folder / "store"))

    def write(number: int, artifact: Any) -> None:
        address = Address("made", "sparse_activations", "patch", "clip-mini", f"{number:04d}")
        provenance = Provenance("sparse_activations", "made", "patch", "clip-mini", f"{number:04d}", "1")
        store.write(address, stored(artifact, provenance))
        store.read(address)

    def run(beside: bool) -> tuple[float, float, float]:
        start, cpu, writing, waiting = time.perf_counter(), time.process_time(), 0.0, list[Future[None]]()
        with ThreadPoolExecutor(1) as thread:
            for number, chunk in enumerate(chunks):
                artifact = encode_chunk(chunk, ("patch",), **settings).artifacts["patch"]
                if beside:
                    for each in waiting:
                        each.result()
                    waiting = [thread.submit(write, number, artifact)]
                else:
                    began = time.process_time()
                    write(number, artifact)
                    writing += time.process_time() - began
        return time.process_time() - cpu, time.perf_counter() - start, writing

    run(False)
    results: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    for _ in range(3):
        for beside in results:
            results[beside].append(run(beside))
    print(f"{n_chunks} chunks of {n_images} images{'CPU s':>15}{'by the clock':>14}{'of it writing':>15}")
    for beside, times in results.items():
        cpu, wall, writing = (min(each) for each in zip(*times, strict=True))
        share = "" if beside else f"{writing / cpu:15.1%}"
        print(f"{'beside the next' if beside else 'one after the other':28}{cpu:11.2f}{wall:14.2f}{share}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="for the packaged model")
    parser.add_argument("--large", type=int, default=200, help="for the model of ViT-B/16's width")
    parser.add_argument("--writing", type=int, default=0, help="chunks that are written one by one, and beside")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compiled.FIRST = compiled.FURTHER  # loops are compiled from the first images on, as after a chunk or two
    with TemporaryDirectory(prefix="sae_assets_busy_") as name:
        folder = Path(name)
        write_images(folder, max(arguments.images, arguments.large, 200 * arguments.writing, 4))
        if arguments.writing:
            write_beside(folder, arguments.writing)
            return
        measure("clip-mini", folder, load_catalog().models["clip-mini"], arguments.images)
        if arguments.large:
            measure("width of ViT-B/16", folder, large_model(folder), arguments.large)


if __name__ == "__main__":
    main()
