"""The same inputs give the same bytes of every stored file: on 1, 2 and 4 threads, whatever the memory budget.

Files hold no time, no path and nothing of the machine; what a run took stands in Dagster's history.
"""

from pathlib import Path

import pytest
import torch

from sae_assets.pipeline.stages import STAGES
from sae_assets_tests.pipeline.fresh_runs import run
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

pytestmark = pytest.mark.xdist_group("same bytes")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_homes_hold_the_same_bytes(tmp_path, monkeypatch):
    """Manifests, chunks and model-level files of three runs; the second and third also cut the work otherwise."""
    root = make_dataset(tmp_path / "data", 6)
    catalog = write_catalog(tmp_path / "catalog.yaml", root, chunk_size=100, token_kinds=["patch"])
    before = torch.get_num_threads()
    found = []
    try:
        for threads, budget in ((1, "256"), (2, "1"), (4, "256")):
            torch.set_num_threads(threads)
            monkeypatch.setenv("SAE_ASSETS_MEMORY_BUDGET_MB", budget)
            found.append(files(run(tmp_path / f"home {threads}", catalog)))
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) == 1 + len(STAGES)  # the chunk's manifest, and one file of every stage
    for other in found[1:]:
        assert set(other) == set(found[0])
        assert [name for name in other if other[name] != found[0][name]] == []
