"""How often a run opens the data set that it reads: once, whatever it makes of it."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sae_assets.catalog import registry
from sae_assets.orchestration.runs import Runner
from sae_assets_tests.pipeline.fresh_runs import make_texts, run, text_catalog
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

pytestmark = pytest.mark.long
WIDTH = 128  # of the packaged CLIP


def images(base: Path) -> Path:
    return write_catalog(base / "catalog.yaml", make_dataset(base / "data", 12), unit_rows=False)


def texts(base: Path) -> Path:
    return text_catalog(base / "catalog.yaml", make_texts(base / "data", 30), chunk_size=15)


def embeddings(base: Path) -> Path:
    """Rows come from a file, whose hash is part of what is made of them."""
    save_file({"embeddings": torch.randn(12, WIDTH)}, base / "rows.safetensors")
    files = {"clip-mini": {"cls": {"path": str(base / "rows.safetensors")}}}
    root = make_dataset(base / "data", 12)
    return write_catalog(base / "catalog.yaml", root, token_kinds=["cls"], embeddings=files, unit_rows=False)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Openings of data sets by the run that is under way; what the command looks at between runs is counted apart."""
    counts, under_way = Counter[str](), ["no run"]
    layouts, execute = registry.layouts(), Runner.execute

    def counted(layout: registry.Layout) -> registry.Layout:
        def opened(*args: Any, **settings: Any) -> Any:
            counts[under_way[-1]] += 1
            return layout.open(*args, **settings)

        return replace(layout, open=opened)

    def executed(self: Runner, batch: Any) -> None:
        under_way.append(batch.label)
        execute(self, batch)
        under_way.pop()

    table = {name: counted(layout) for name, layout in layouts.items()}
    monkeypatch.setattr(registry, "layouts", lambda: table)
    monkeypatch.setattr(Runner, "execute", executed)
    yield counts


@pytest.mark.parametrize("catalog", [images, texts, embeddings])
def test_a_run_opens_its_data_set_once(catalog: Callable[[Path], Path], tmp_path: Path, openings: Counter[str]) -> None:
    run(tmp_path / "home", catalog(tmp_path), "--to", "unit_stats")
    of_runs = {label: count for label, count in openings.items() if label != "no run"}
    assert len(of_runs) >= 2 and set(of_runs.values()) == {1}, openings
