"""Examples go through a transformer together, in passes of a fixed shape, and one by one: the gain is measured.

CPU milliseconds per example of one thread: packaged data through their own models, the passes' tries of each shape
included and not, and one layer of the width of larger models, for several numbers of examples. With ``--threads 2``
or more: passes that threads share, as torch has it, against passes side by side, by CPU and by the clock. On a GPU
with ``--device cuda``: images per second of a ViT-L/14 with random weights, from JPEG files, decoding included, beside
what the GPU computes of images that lie there already, and the share of time between the first and the last step of a
pass.

python benchmarks/bench_passes.py [--examples 160] [--threads 2]
"""

import argparse
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sae_assets.catalog import Dataset, Model, Pruning, Sae, Transformer, load_catalog
from sae_assets.datasets import open_dataset
from sae_assets.rows import loaded
from sae_assets.rows.open_clip.vision import VisionTransformer
from sae_assets.rows.opening import open_sources
from sae_assets.rows.passes import FixedShapes, ForwardPass
from sae_assets.rows.threads import prepared

PACKAGED = (("clevr_mini", "clip-mini"), ("moods_mini", "gemma-mini"))
LAYERS = ((1024, 257, (1, 4, 8)), (1024, 32, (1, 8)), (128, 65, (1, 3, 16)), (128, 24, (1, 10, 32)))
VIT_L = {"width": 1024, "layers": 24, "patch_size": 14, "image_size": 224, "head_width": 64}


def per_example(work: Callable[[], int]) -> float:
    """CPU milliseconds of the least of three repetitions."""
    times = []
    for _ in range(3):
        start = time.process_time()
        n = work()
        times.append(1000 * (time.process_time() - start) / n)
    return min(times)


def packaged(n_examples: int) -> None:
    print(f"{'packaged data':24}{'one by one':>12}{'together':>12}{'first':>12}{'ratio':>8}   ms per example")
    catalog = load_catalog()
    for dataset, model in PACKAGED:
        entry, read = catalog.datasets[dataset], catalog.models[model]
        reader = open_dataset(entry)
        ids = [record.example_id for record in reader.records][::3][:n_examples]
        times = []
        for forward_batch in (1, None):
            loaded.KEPT.clear()
            kind = next(kind for kind in entry.token_kinds if kind != "cls")
            ((_, source),) = open_sources(reader, entry, read, (kind,), "cpu", "float32", forward_batch)
            start = time.process_time()
            n = len([*source.embed(ids)])
            first = 1000 * (time.process_time() - start) / n
            times.append(per_example(lambda: len([*source.embed(ids)])))  # noqa: B023
        print(f"{dataset:24}{times[0]:12.2f}{times[1]:12.2f}{first:12.2f}{times[1] / times[0]:8.2f}")


def layers(at_once: int) -> None:
    print(f"\n{'one layer':24}{'examples':>12}{'ms each':>12}{'ratio':>8}")
    for width, positions, sizes in LAYERS:
        layer = torch.nn.TransformerEncoderLayer(width, width // 64, 4 * width, batch_first=True).eval()
        alone = 0.0
        for size in sizes:
            x = torch.randn(size, positions, width)
            repeats = max(1, at_once // size)

            def work() -> int:
                with torch.inference_mode():
                    for _ in range(repeats):  # noqa: B023
                        layer(x)  # noqa: B023
                return repeats * size  # noqa: B023

            work()
            took = per_example(work)
            alone = alone or took
            print(f"width {width}, {positions} positions".ljust(24) + f"{size:12}{took:12.3f}{took / alone:8.2f}")


def beside(n_threads: int, n_examples: int) -> None:
    """The same passes shared by threads and side by side, bits compared; three blocks of each width."""
    torch.set_num_threads(n_threads)
    print(f"{f'{n_threads} threads':28}{'shared':>10}{'by the clock':>14}{'beside':>10}{'by the clock':>14}   ms each")
    for width, positions, size in ((128, 65, 3), (768, 197, 1), (768, 32, 8), (1024, 257, 1)):
        layer = torch.nn.TransformerEncoderLayer(width, max(1, width // 64), 4 * width, batch_first=True)
        blocks = torch.nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()

        def forward(inputs: Sequence[torch.Tensor], _length: int | None) -> list[torch.Tensor]:
            with torch.inference_mode():
                return [*blocks(torch.stack([*inputs]))]  # noqa: B023

        n = max(2 * n_threads * size, n_examples * 128 // width)
        groups = [
            ForwardPass([*x], size, positions) for x in torch.randn(n, positions, width).split(size) if len(x) == size
        ]
        cells, results = "", []
        for sharing in (True, False):
            shapes = FixedShapes(forward, torch.zeros_like)
            if sharing:
                shapes.n_beside = lambda _size, _length: 1  # type: ignore[method-assign]
            results.append(torch.cat([rows for group in shapes.rows(groups) for rows in group]))  # shapes are tried
            times = []
            for _ in range(3):
                start = time.process_time(), time.perf_counter()
                shapes.rows(groups)
                times.append((time.process_time() - start[0], time.perf_counter() - start[1]))
            cpu, wall = (1000 * min(each) / n for each in zip(*times, strict=True))
            cells += f"{cpu:10.2f}{wall:14.2f}"
        same = "" if torch.equal(*results) else "   other bits"
        print(f"width {width}, {positions} positions × {size}".ljust(28) + cells + same, flush=True)


def _alone(folder: Path, precision: str) -> float:
    """Images per second of passes of a hundred that lie on the GPU, one after the other."""
    vision = VisionTransformer(Transformer(library="open_clip", path=folder), 22, "cuda", precision)
    images = torch.randn(100, 3, 224, 224, device="cuda")
    vision.embed(images)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(4):
        vision.embed(images)
    torch.cuda.synchronize()
    return 400 / (time.perf_counter() - start)


def gpu(n_images: int) -> None:
    """Images of 500×375 pixels, as COCO's, through ViT-L/14 up to block 22; what CUDA events time of passes."""
    import numpy as np
    import open_clip
    from PIL import Image
    from safetensors.torch import save_file

    with TemporaryDirectory() as folder:
        root, noise = Path(folder), np.random.default_rng(0)
        model_folder = root / "model"
        model_folder.mkdir()
        text = {"context_length": 8, "vocab_size": 64, "width": 64, "heads": 2, "layers": 1}
        config = {"embed_dim": 768, "vision_cfg": VIT_L, "text_cfg": text}
        weights = open_clip.CLIP(**config).state_dict()
        save_file({name: tensor.contiguous() for name, tensor in weights.items()},
                  model_folder / "open_clip_model.safetensors")  # fmt: skip
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
        (model_folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
        )
        lines = ["image_path,split,thing"]
        for number in range(n_images):
            small = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(small).resize((500, 375)).save(buffer, "JPEG", quality=90)
            (root / f"{number}.jpg").write_bytes(buffer.getvalue())
            lines.append(f"{number}.jpg,train,{number % 2}")
        (root / "table.csv").write_text("\n".join(lines) + "\n")
        entry = Dataset(root=root / "table.csv", layout="table", modality="image", concepts=("thing",),
                        models=("vit",)).named("made")  # fmt: skip
        reader = open_dataset(entry)
        model = Model(
            modality="image", transformer=Transformer(library="open_clip", path=model_folder), layer=22,
            sae=Sae(format="clipscope", path=root / "none.pt"),
            pruning=Pruning(min_active=1, max_density=1, strength_percentile=0, target_units=100),
        ).named("vit")  # fmt: skip
        ids = [record.example_id for record in reader.records]
        ((_, source),) = open_sources(reader, entry, model, ("patch",), "cuda", "float32", None)
        start = time.perf_counter()
        images = (reader.deferred_image(example) for example in ids)
        n = sum(1 for _ in prepared(source._input, images, 64))
        print(f"{torch.cuda.get_device_name()}: {n / (time.perf_counter() - start):.0f} images/s are decoded")
        print(f"{'precision':12}{'forward_batch':>14}{'images/s':>10}{'of the GPU':>12}{'in passes':>11}")
        for precision in ("float32", "bfloat16"):
            most = _alone(model_folder, precision)
            for forward_batch, n in ((1, 200), (16, 800), (None, n_images)):
                ((_, source),) = open_sources(reader, entry, model, ("patch",), "cuda", precision, forward_batch)
                list(source.embed(ids[:200]))  # shapes are tried, kernels chosen
                busy: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
                forward = source._shapes._forward

                def timed(inputs: object, length: object, forward: Callable[..., object] = forward) -> object:
                    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                    begin.record()
                    rows = forward(inputs, length)
                    end.record()
                    busy.append((begin, end))  # noqa: B023
                    return rows

                source._shapes._forward = timed
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in source.embed(ids[:n]):
                    pass
                torch.cuda.synchronize()
                seconds = time.perf_counter() - start
                source._shapes._forward = forward
                share = sum(begin.elapsed_time(end) for begin, end in busy) / 1000 / seconds
                rates = f"{n / seconds:10.1f}{n / seconds / most:12.2f}{share:11.2f}"
                print(f"{precision:12}{forward_batch or 'null':>14}{rates}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--examples", type=int, default=160, help="of each packaged data set")
    parser.add_argument("--images", type=int, default=2000, help="images of the GPU's part")
    parser.add_argument(
        "--threads", type=int, default=1, help="more than one: shared passes against passes side by side"
    )
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        gpu(arguments.images)
        return
    if arguments.threads > 1:
        beside(arguments.threads, arguments.examples)
        return
    torch.set_num_threads(1)
    packaged(arguments.examples)
    layers(min(64, arguments.examples // 2))


if __name__ == "__main__":
    main()
