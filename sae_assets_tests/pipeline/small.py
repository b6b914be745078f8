"""A small data set cut from the packaged one, and a catalog that names it: fast enough to run the pipeline often."""

import csv
import shutil
from pathlib import Path
from typing import Any

import yaml

import sae_assets
from sae_assets.pipeline.stages import STAGES

PACKAGED = Path(sae_assets.__file__).parent / "demo" / "data" / "clevr_mini"
NO_OTHERS = {"clevr_mini": None, "moods_mini": None}
SMALL_STAGES = {name: stage for name, stage in STAGES.items() if "control" not in name}  # that ``small`` has
WITH_CONTROLS: dict[str, Any] = {"controls": {"n_seeds": 1}}
CONCEPTS = ["color::blue", "color::green", "color::red", "shape::cube", "shape::cylinder", "shape::sphere"]


def packaged_rows() -> list[dict[str, str]]:
    with (PACKAGED / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_metadata(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def make_dataset(folder: Path, n: int, *, first: int = 0) -> Path:
    """``n`` packaged examples from position ``first`` on, splits interleaved train, cal, test so that each is there."""
    rows = packaged_rows()[first : first + n]
    for place, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[place % 3]
        for part in (Path(row["image_path"]), Path("masks") / f"{Path(row['image_path']).stem}.png"):
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGED / part, folder / part)
    write_metadata(folder, rows)
    return folder


def write_catalog(path: Path, root: Path, **entry: Any) -> Path:
    """A catalog with one data set ``small``: the packaged ones, and controls, would cost time.

    With ``**WITH_CONTROLS`` it has every stage that there is.
    """
    dataset = {
        "root": str(root), "layout": "clevr", "modality": "image", "concepts": CONCEPTS, "models": ["clip-mini"],
        "token_kinds": ["patch", "cls"], "chunk_size": 6, "unit_rows": True,
        **entry,
    }  # fmt: skip
    path.write_text(yaml.safe_dump({"datasets": {**NO_OTHERS, "small": dataset}}))
    return path


def with_packaged(catalog: Path, to: Path) -> Path:
    """The same catalog, in which the packaged data sets are as well."""
    content = yaml.safe_load(catalog.read_text())
    content["datasets"] = {name: entry for name, entry in content["datasets"].items() if entry is not None}
    to.write_text(yaml.safe_dump(content))
    return to


def damaged_payload(content: bytes) -> bytes:
    """A Parquet file whose header is whole and whose content is not."""
    middle = len(content) // 2
    return content[:middle] + bytes(100) + content[middle + 100 :]
