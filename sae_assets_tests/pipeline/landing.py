"""Let examples arrive in a folder: ``python landing.py SOURCE TARGET N``, as whatever writes images would do it.

A script of its own that knows nothing of this package: images first, then the table that names them, in one step.
Splits are interleaved as ``small.make_dataset`` has them.
"""

import csv
import os
import shutil
import sys
from pathlib import Path


def main(source: Path, target: Path, n: int) -> None:
    with (source / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[:n]
    for place, row in enumerate(rows):
        row["split"] = ("cal", "test", "train")[place % 3]
        for part in (Path(row["image_path"]), Path("masks") / f"{Path(row['image_path']).stem}.png"):
            if not (target / part).exists():
                (target / part).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / part, target / part)
    unfinished = target / "metadata.csv.unfinished"
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, target / "metadata.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
