"""A plan's forecast stands beside what its runs then record: predicted, actual and their ratio.

Examples arrive in steps, chunk by chunk: the packaged images or texts, the same images as somebody's own table, or
embeddings of them that were made elsewhere (a direction for each concept, and noise). Before each step, of which the
first goes by examples that are encoded then and there, the plan is asked (`materialize --dry-run --json`), then
carried out by the command, each in a process of its own. Figures of the same stage are added up; "of all" are sums
over the stages, of memory the largest. Seconds are of CPU. A ratio outside of .8 to 1.25 is marked, but for bytes
and seconds of a stage that was expected to take less than the plan gives in figures, and did.

    python benchmarks/bench_preflight.py [--data images texts table embeddings] [--chunks 2 4 8] [--examples 40]
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from bench_scale import CONCEPTS, NAME, land
from PIL import Image, ImageOps

from sae_assets.catalog import load_catalog
from sae_assets.cli.forecasts import LEAST_MB, LEAST_SECONDS
from sae_assets.commands.session import open_session
from sae_assets.orchestration.metadata import SIZES
from sae_assets.orchestration.partitions import asset_key
from sae_assets.pipeline.stages import STAGES

FIGURES = {"bytes": "stored_bytes", "cpu_seconds": "cpu_seconds", "peak_bytes": "peak_bytes"}
SHOWN = {"rows": 1.0, "bytes": 1e6, "cpu_seconds": 1.0, "peak_bytes": 2.0**20}
KINDS = ["images", "texts", "table", "embeddings"]
LEAST = {"bytes": LEAST_MB, "cpu_seconds": LEAST_SECONDS}
CLOSE = (0.8, 1.25)
PATCHES, WIDTH = 256, 128  # of clip-mini
IMAGES = {"modality": "image", "models": ["clip-mini"], "token_kinds": ["patch"], "concepts": CONCEPTS}
TEXTS = {"modality": "text", "models": ["gemma-mini"], "token_kinds": ["token"]}


def command(folder: Path, *options: str) -> dict[str, Any]:
    """Return what ``sae-assets materialize`` prints as JSON."""
    line = [sys.executable, "-c", "from sae_assets.cli import run; run()", "materialize", "-d", NAME, "--json"]
    places = ["--home", str(folder / "home"), "--catalog", str(folder / "catalog.yaml")]
    done = subprocess.run([*line, *options, *places], check=True, capture_output=True, text=True)
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def recorded(folder: Path, stage: dict[str, Any]) -> dict[str, float]:
    """Return what the last runs of a stage recorded, as many as were planned."""
    with open_session(folder / "home", folder / "catalog.yaml") as session:
        address = STAGES[stage["stage"]].address(NAME, stage["token_kind"], stage["model"], "0000")
        page = session.instance.fetch_materializations(asset_key(address), limit=stage["runs"])
        metadata = [record.asset_materialization.metadata for record in page.records if record.asset_materialization]
    values = {name: [one[label].value for one in metadata] for name, label in FIGURES.items()}
    values["rows"] = [one[SIZES].value["rows"] for one in metadata]
    return {name: max(each) if name == "peak_bytes" else sum(each) for name, each in values.items()}


def land_texts(root: Path, count: int) -> dict[str, Any]:
    """The first texts of the packaged ones, again and again, with the labels of their words."""
    entry = load_catalog().datasets["moods_mini"]
    source = Path(entry.root)
    header, *rows = (source / "metadata.csv").read_text().splitlines()
    columns, *words = (source / "words.csv").read_text().splitlines()
    of_text: dict[int, list[str]] = {}
    for line in words:
        number, _, rest = line.partition(",")
        of_text.setdefault(int(number), []).append(rest)
    (root / "texts").mkdir(parents=True, exist_ok=True)
    examples, labels = [header], [columns]
    for number in range(count):
        name, _, rest = rows[number % len(rows)].partition(",")
        text, concepts = f"texts/{number:06d}.txt", rest.rpartition(",")[0]
        (root / text).write_bytes((source / name).read_bytes())
        examples.append(f"{text},{concepts},{('cal', 'test', 'train')[number % 3]}")
        labels += [f"{number + 1},{word}" for word in of_text.get(number % len(rows) + 1, [])]
    (root / "metadata.csv").write_text("\n".join(examples) + "\n")
    (root / "words.csv").write_text("\n".join(labels) + "\n")
    return {"layout": "words", **TEXTS, "concepts": list(entry.concepts)}


def turn(root: Path, before: int, count: int) -> None:
    """Have each of the packaged images and its mask lie there once in each of eight ways, not as copies of one file:
    repeated rows take less room than rows do.
    """
    packaged = len((Path(load_catalog().datasets["clevr_mini"].root) / "metadata.csv").read_text().splitlines()) - 1
    for number in range(max(before, packaged), count):
        for path in (*(root / "images").glob(f"{number:06d}.*"), root / "masks" / f"{number:06d}.png"):
            with Image.open(path) as image:
                turned = image.rotate(90 * (number // packaged % 4))
            path.unlink()  # a link to the packaged one
            (turned if number // packaged < 4 else ImageOps.mirror(turned)).save(path)


def land_data(kind: str, folder: Path, before: int, count: int) -> dict[str, Any]:
    """Have so many examples there, of which some were there before; what the catalog says of them."""
    root = folder / "data"
    if kind == "texts":
        return land_texts(root, count)
    land(root, count)
    turn(root, before, count)
    if kind == "images":
        return {"layout": "clevr", **IMAGES}
    entry = {"layout": "table", "columns": {"image": "image_path"}, **IMAGES}
    if kind == "table":
        return entry
    (folder / "rows_chunks_info.json").write_text("{}")
    number = len(list(folder.glob("rows_chunk_*.pt")))
    with (root / "metadata.csv").open() as file:
        true = [[float(row[concept]) for concept in CONCEPTS] for row in csv.DictReader(file)][before:]
    directions = torch.randn(len(CONCEPTS), WIDTH, generator=torch.Generator().manual_seed(-1))
    noise = torch.randn(len(true), PATCHES, WIDTH, generator=torch.Generator().manual_seed(number))
    torch.save((torch.tensor(true) @ directions)[:, None].add(noise).flatten(0, 1), folder / f"rows_chunk_{number}.pt")
    return {**entry, "embeddings": {"clip-mini": {"patch": {"path": str(folder / "rows_chunks_info.json")}}}}


def report(step: str, expected: dict[str, Any], actual: dict[str, dict[str, float]]) -> None:
    print(f"{step:22}" + "".join(f"{name:>29}" for name in ("MB on disk", "CPU seconds", "peak MiB")))
    print(f"{'':22}" + f"{'predicted':>11}{'actual':>9}{'ratio':>8} " * 3)
    lines = {each["stage"]: each for each in expected["stages"]}
    sums = {name: sum(each[name] for each in actual.values()) for name in ("bytes", "cpu_seconds")}
    lines["of all"] = expected["total"]
    for name, each in lines.items():
        figures = actual.get(name) or {**sums, "peak_bytes": max(one["peak_bytes"] for one in actual.values())}
        cells = ""
        for figure in ("bytes", "cpu_seconds", "peak_bytes"):
            if each[figure] is None:
                cells += f"{'–':>11}{figures[figure] / SHOWN[figure]:9,.2f}{'':9}"
                continue
            predicted, took = each[figure] / SHOWN[figure], figures[figure] / SHOWN[figure]
            digits = 0 if figure == "peak_bytes" else 2
            small = max(predicted, took) < LEAST.get(figure, 0.0)
            mark = " " if small or CLOSE[0] <= predicted / took <= CLOSE[1] else "!"
            cells += f"{predicted:11,.{digits}f}{took:9,.{digits}f}{predicted / took:8.2f}{mark}"
        print(f"{name:22}{cells}", flush=True)


def steps(kind: str, chunks: list[int], examples: int) -> None:
    """Let examples arrive, and report what each step was expected to take, and took."""
    with tempfile.TemporaryDirectory(prefix="sae_assets_preflight_", ignore_cleanup_errors=True) as name:
        folder, before = Path(name), 0
        print(kind, flush=True)
        for count in chunks:
            entry = land_data(kind, folder, before * examples, count * examples)
            entry |= {"root": str(folder / "data"), "chunk_size": examples, "controls": {}, "unit_rows": True}
            (folder / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {NAME: entry}}))
            expected = command(folder, "--dry-run")["datasets"][NAME]["expected"]
            command(folder)
            if expected["stages"]:
                actual = {each["stage"]: recorded(folder, each) for each in expected["stages"]}
                report(f"{before} to {count} chunks", expected, actual)
            before = count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", nargs="+", choices=KINDS, default=KINDS[:1])
    parser.add_argument("--chunks", type=int, nargs="+", default=[2, 4, 8], help="that are there at each step")
    parser.add_argument("--examples", type=int, default=40, help="of a chunk")
    arguments = parser.parse_args()
    for kind in arguments.data:
        steps(kind, arguments.chunks, arguments.examples)


if __name__ == "__main__":
    main()
