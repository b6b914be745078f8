"""Seconds, memory and size of the report of data as large as COCO's: 80 concepts, located, images of 500×375.

Every image shows three rectangles, each in its concept's own colour, and is annotated as COCO's are. The packaged
transformer and SAE make the rows; figures are those that the stage's run recorded.

    python benchmarks/bench_report.py [--images 5000]      COCO's val2017 has 5,000
"""

import argparse
import colorsys
import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageDraw

from sae_assets.commands.session import open_session
from sae_assets.orchestration.partitions import asset_key
from sae_assets.pipeline.stages import STAGES

NAME, MODEL, N_CONCEPTS, SIZE = "made", "clip-mini", 80, (500, 375)
CONCEPTS = [f"thing {number:02}" for number in range(N_CONCEPTS)]


def write_dataset(folder: Path, count: int) -> None:
    """Images, ``metadata.csv`` and annotations as COCO has them."""
    random = np.random.default_rng(0)
    colours = [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(n / N_CONCEPTS, 0.9, 0.9))
               for n in range(N_CONCEPTS)]  # fmt: skip
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    annotations: list[dict[str, object]] = []
    images: list[dict[str, object]] = []
    with (folder / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image_path", "split", *CONCEPTS])
        for number in range(count):
            picture = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).resize(SIZE)
            draw = ImageDraw.Draw(picture)
            shown = random.choice(N_CONCEPTS, 3, replace=False).tolist()
            for column, concept in enumerate(shown):  # side by side: none hides another
                left, top = 165 * column + int(random.integers(40)), int(random.integers(200))
                right, bottom = left + 110, top + int(random.integers(60, 170))
                draw.rectangle((left, top, right, bottom), fill=colours[concept])
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number + 1, "category_id": concept + 1, "iscrowd": 0,
                    "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
                    "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                })  # fmt: skip
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=90)
            name = f"{number:06}.jpg"
            (folder / "images" / name).write_bytes(buffer.getvalue())
            images.append({"id": number + 1, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
            split = ("train", "cal", "test")[number % 3]
            table.writerow([f"images/{name}", split, *(int(concept in shown) for concept in range(N_CONCEPTS))])
    categories = [{"id": number + 1, "name": name, "supercategory": "all"} for number, name in enumerate(CONCEPTS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_made.json").write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sae_assets_report_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_dataset(folder, arguments.images)
        entry = {
            "root": str(folder), "layout": "coco", "modality": "image", "concepts": CONCEPTS, "token_kinds": ["patch"],
            "models": [MODEL],
        }  # fmt: skip
        (folder / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {NAME: entry}}))
        places = ["--home", str(folder / "home"), "--catalog", str(folder / "catalog.yaml")]
        command = [sys.executable, "-c", "from sae_assets.cli import run; run()", "materialize", "-d", NAME, *places]
        subprocess.run(command, check=True, capture_output=True)
        address = STAGES["report"].address(NAME, "patch", MODEL)
        with open_session(folder / "home", folder / "catalog.yaml") as session:
            (record,) = session.instance.fetch_materializations(asset_key(address), limit=1).records
            page = session.store.find(address)
            assert record.asset_materialization is not None and page is not None
            taken = record.asset_materialization.metadata
            size = Path(str(page)).stat().st_size
        print(f"{arguments.images:,} images, {N_CONCEPTS} concepts, {256 * arguments.images:,} rows")
        for key, unit, share in (
            ("seconds", "s", 1),
            ("cpu_seconds", "s of CPU", 1),
            ("peak_bytes", "MB at most", 1e6),
        ):
            if key in taken:
                print(f"report   {taken[key].value / share:8.1f} {unit}")
        print(f"page     {size / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
