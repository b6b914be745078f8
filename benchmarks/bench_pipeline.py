"""CPU seconds of the whole pipeline by one command, beside a plain script that only encodes and saves.

Images of 500×375 pixels, as COCO's, go through the packaged transformer and SAE. The plain script loads both once,
takes 32 images at a time through the blocks up to the hook, multiplies, takes the k largest and saves them.
The command adds everything else: chunks, hashes, exact codes, truth, statistics, figures, checks, Dagster's history.
Each is a process of its own, whose CPU seconds the system counts.

    python benchmarks/bench_pipeline.py [--images 2000] [--chunk 200]
"""

import argparse
import io
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from sae_assets.catalog import load_catalog
from sae_assets.commands.session import open_session
from sae_assets.orchestration.partitions import asset_key
from sae_assets.pipeline.stages import STAGES

NAME, MODEL = "made", "clip-mini"
PLAIN = """
import sys, torch, open_clip
from pathlib import Path
from PIL import Image
folder, model_folder, sae_path, layer, chunk = *map(Path, sys.argv[1:4]), *map(int, sys.argv[4:6])
model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{model_folder}")
visual, sae = model.visual.eval(), torch.load(sae_path, weights_only=True)
encoder, bias, k = sae["model_state_dict"]["enc"], sae["model_state_dict"]["pre_b"], sae["k"]
rows = []
class Stop(Exception): pass
def hook(_module, _inputs, output):
    rows.append(output)
    raise Stop
visual.transformer.resblocks[layer].register_forward_hook(hook)
paths = sorted((folder / "images").glob("*.jpg"))
with torch.inference_mode():
    for number, first in enumerate(range(0, len(paths), chunk)):
        codes = []
        for start in range(first, min(len(paths), first + chunk), 32):
            batch = [transform(Image.open(path)) for path in paths[start : min(start + 32, first + chunk)]]
            try:
                visual(torch.stack(batch))
            except Stop:
                pass
            x = rows.pop()[:, 1:].reshape(-1, encoder.shape[0])
            codes.append(((x - bias) @ encoder).topk(k))
        torch.save([torch.cat(part) for part in zip(*codes)], folder / f"{number}.pt")
"""


def seconds(line: list[str]) -> float:
    """CPU seconds of a process and of those it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(line, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_images(folder: Path, count: int, seed: int = 0) -> None:
    noise = np.random.default_rng(seed)
    lines = ["image_path,split,thing,other"]
    (folder / "images").mkdir()
    for number in range(count):
        buffer = io.BytesIO()
        small = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(small).resize((500, 375)).save(buffer, "JPEG", quality=90)
        (folder / "images" / f"{number:06d}.jpg").write_bytes(buffer.getvalue())
        split = ("train", "cal", "test")[number % 3]
        lines.append(f"images/{number:06d}.jpg,{split},{noise.integers(2)},{noise.integers(2)}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")


def per_stage(folder: Path) -> list[tuple[str, float]]:
    """CPU seconds of each stage's passes, as the runs recorded them."""
    seconds = []
    with open_session(folder / "home", folder / "catalog.yaml") as session:
        for stage in STAGES.values():
            key = asset_key(stage.address(NAME, "patch", MODEL, "0000"))
            records = session.instance.fetch_materializations(key, limit=1000).records
            metadata = [record.asset_materialization.metadata for record in records if record.asset_materialization]
            values: list[Any] = [one["cpu_seconds"].value for one in metadata if "cpu_seconds" in one]
            seconds.append((stage.name, sum(values)))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--chunk", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of what is measured")
    parser.add_argument(
        "--twice", action="store_true", help="also from an empty home once more: the first compiles what nobody did yet"
    )
    arguments = parser.parse_args()
    model = load_catalog().models[MODEL]
    assert model.transformer.path is not None
    with tempfile.TemporaryDirectory(prefix="sae_assets_pipeline_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_images(folder, arguments.images, arguments.seed)
        entry = {
            "root": str(folder / "table.csv"), "layout": "table", "modality": "image", "concepts": ["thing", "other"],
            "token_kinds": ["patch"], "models": [MODEL], "chunk_size": arguments.chunk,
        }  # fmt: skip
        (folder / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {NAME: entry}}))
        options = [str(model.transformer.path), str(model.sae.path), str(model.layer), str(arguments.chunk)]
        plain = seconds([sys.executable, "-c", PLAIN, str(folder), *options])
        print(f"{arguments.images:,} images, {-(-arguments.images // arguments.chunk)} chunks", flush=True)
        print(f"plain script             {plain:8.1f} s", flush=True)
        places = ["--home", str(folder / "home"), "--catalog", str(folder / "catalog.yaml")]
        command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "materialize", "-d", NAME, *places]
        for number in range(2 if arguments.twice else 1):
            if number:
                shutil.rmtree(folder / "home")
            ours = seconds(command)
            print(f"sae-assets materialize   {ours:8.1f} s   ratio {ours / plain:.2f}", flush=True)
        stages = per_stage(folder)
        for stage, took in sorted(stages, key=lambda each: -each[1]):
            print(f"  {stage:22} {took:8.1f} s")
        print(f"  {'all else':22} {ours - sum(took for _, took in stages):8.1f} s")


if __name__ == "__main__":
    main()
