"""A tiny folder in the CLEVR layout, made on the fly: one coloured rectangle per image, on grey."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sae_assets.catalog import Dataset

CONCEPTS = ("color::blue", "color::red")
COLOURS = {"color::blue": (20, 30, 220), "color::red": (220, 30, 20)}
BOX = (8, 4, 19, 15)  # left, top, right, bottom, all inside


@dataclass
class ClevrFolder:
    """Rows of ``metadata.csv`` and the files behind them; ``write`` puts both on disk."""

    root: Path
    size: tuple[int, int] = (32, 32)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, split: str = "cal", concept: str = "color::red", box: Sequence[int] = BOX) -> str:
        """One example with its image and its mask; its path."""
        path = f"images/{name}.png"
        self.rows.append(
            {"image_path": path, **{known: int(known == concept) for known in CONCEPTS}, "split": split},
        )
        image, mask = Image.new("RGB", self.size, (128, 128, 128)), Image.new("L", self.size, 0)
        ImageDraw.Draw(image).rectangle(box, COLOURS.get(concept, (128, 128, 128)))
        ImageDraw.Draw(mask).rectangle(box, 255)
        for file, content in ((self.root / path, image), (self.root / "masks" / f"{name}.png", mask)):
            file.parent.mkdir(parents=True, exist_ok=True)
            content.save(file)
        return path

    def write(self, rows: Sequence[Mapping[str, Any]] | None = None) -> "ClevrFolder":
        """(Re)write ``metadata.csv``."""
        self.root.mkdir(parents=True, exist_ok=True)
        chosen = self.rows if rows is None else rows
        with (self.root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(chosen[0]) if chosen else ["image_path", *CONCEPTS, "split"])
            writer.writeheader()
            writer.writerows(chosen)
        return self

    def entry(self, **changes: Any) -> Dataset:
        """The catalog's entry of this folder."""
        fields = {
            "root": self.root,
            "layout": "clevr",
            "modality": "image",
            "concepts": CONCEPTS,
            "models": ("tiny",),
            **changes,
        }
        return Dataset(**fields).named("pictures")


def three_examples(root: Path) -> ClevrFolder:
    """A written folder: red (train), blue (cal), neither (test)."""
    folder = ClevrFolder(root)
    folder.add("a", "train", "color::red")
    folder.add("b", "cal", "color::blue", box=(0, 0, 7, 7))
    folder.add("c", "test", "neither")
    return folder.write()
