"""A data set that grows: a held-back part of the packaged images lands, chunk by chunk, while Dagster runs.

It stands in for whatever writes images in the real world; registering and computing is the platform's business.
"""

import csv
import io
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from upath import UPath

from sae_assets.catalog import Dataset
from sae_assets.storage.atomic import write_atomically

NAME = "clevr_arrivals"
CHUNK = 40


@dataclass(frozen=True)
class GrowingFolder:
    """The growing folder, and a catalog that names it."""

    root: Path
    catalog: Path
    source: Path

    @property
    def _rows(self) -> list[dict[str, str]]:
        with (self.source / "metadata.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def landed(self) -> int:
        """Return examples that are there."""
        table = self.root / "metadata.csv"
        if not table.exists():
            return 0
        with table.open(newline="", encoding="utf-8") as file:
            return sum(1 for _ in csv.DictReader(file))

    def land(self, count: int) -> int:
        """Copy the next examples, then name them in ``metadata.csv`` in one step; how many there are now."""
        rows = self._rows
        landed = rows[: self.landed() + count]
        for row in landed:
            image = Path(row["image_path"])
            for part in (image, Path("masks") / f"{image.stem}.png"):
                if not (self.root / part).exists():
                    (self.root / part).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(self.source / part, self.root / part)
        self._write_table(landed)
        return len(landed)

    def _write_table(self, rows: Sequence[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(UPath(self.root / "metadata.csv"), text.getvalue().encode())


def prepare(home: Path, packaged: Dataset, *, first: int = 4 * CHUNK) -> GrowingFolder:
    """Make the folder with its first examples, and a catalog beside it; what is there already stays."""
    folder = home / "arrivals"
    arrivals = GrowingFolder(folder / NAME, folder / "catalog.yaml", Path(packaged.root))
    entry = {
        "description": "Packaged images that land while Dagster runs.",
        "root": str(arrivals.root),
        "layout": packaged.layout,
        "modality": packaged.modality,
        "concepts": list(packaged.concepts),
        "token_kinds": ["patch"],
        "models": list(packaged.models),
        "chunk_size": CHUNK,
        "arrivals": {"settle_seconds": 2, "close_after_seconds": 120, "check_every_seconds": 10},
        "backfills": {"cron": "* * * * *", "repair_cron": "*/5 * * * *"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(UPath(arrivals.catalog), yaml.safe_dump({"datasets": {NAME: entry}}).encode())
    if arrivals.landed() < first:
        arrivals.land(first - arrivals.landed())
    return arrivals


def arrive(arrivals: GrowingFolder, every: float, *, wait: Callable[[float], None] = time.sleep) -> Iterator[int]:
    """Land a chunk's worth of examples every so many seconds; after each, how many there are."""
    before = arrivals.landed()
    while True:
        wait(every)
        now = arrivals.land(CHUNK)
        if now == before:
            return
        yield now
        before = now
