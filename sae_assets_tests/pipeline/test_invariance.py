"""The same results however the work is cut (chunks, batches, formats), the same bytes on any threads and memory."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets.commands.session import open_session
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets_tests.pipeline.small import WITH_CONTROLS, make_dataset, write_catalog

MODEL_STAGES = [name for name, stage in STAGES.items() if stage.level == "model"]
N = 6


def results(folder: Path, root: Path, chunk_size: int, *arguments: str) -> dict[str, object]:
    """Rows of all chunks put together, and the content of every model-level artifact, of one way to cut the work."""
    folder.mkdir()
    catalog = write_catalog(
        folder / "catalog.yaml", root, chunk_size=chunk_size, token_kinds=["patch"], **WITH_CONTROLS
    )
    command = ["materialize", "-d", "small", "--home", str(folder), "--catalog", str(catalog), *arguments]
    run = CliRunner().invoke(app, command)
    assert run.exit_code == 0, run.stderr
    found: dict[str, object] = {}
    with open_session(folder, catalog) as session:
        store = session.store
        for stage in ("sparse_activations", "filtered_activations", "ground_truth"):
            chunks = [
                store.read(Address("small", stage, "patch", "clip-mini", key)).artifact
                for key in session.chunks_of("small")
            ]
            names = ("concept_ids",) if stage == "ground_truth" else ("unit_ids", "values")
            found[f"{stage}.offsets"] = torch.cat([chunk.row_offsets.diff() for chunk in chunks])
            for name in names:
                found[f"{stage}.{name}"] = torch.cat([getattr(chunk, name) for chunk in chunks])
        for stage in MODEL_STAGES:
            found[stage] = store.read(Address("small", stage, "patch", "clip-mini")).content_hash
        kinds = {path.suffix for path in store.files() if path.parent.name == "sparse_activations"}
        found["suffixes"] = kinds
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, object]]:
    base = tmp_path_factory.mktemp("invariance")
    root = make_dataset(base / "data", N)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return base, root, results(base / "plain", root, 4)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.long
@pytest.mark.xdist_group("invariance")
@pytest.mark.parametrize(
    ("name", "chunk_size", "arguments"),
    [
        ("one example per chunk", 1, ()),
        ("all examples in one chunk and in one batch", 1000, ("--batch-size", "512")),
        ("batch of 1, pt files", 4, ("--batch-size", "1", "--format", "pt")),
    ],
)
def test_results_do_not_depend_on_how_work_is_cut(plain, name, chunk_size, arguments):
    base, root, expected = plain
    found = results(base / name.replace(" ", "-"), root, chunk_size, *arguments)
    assert found.pop("suffixes") == ({".pt"} if "pt" in arguments else {".parquet"})
    assert found.pop("report")  # it names chunks, what each is like and the fingerprints of all that it is made from
    for key, value in found.items():
        same = torch.equal(value, expected[key]) if isinstance(value, torch.Tensor) else value == expected[key]
        assert same, f"{name}: {key} differs"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.long
@pytest.mark.xdist_group("invariance")
def test_homes_hold_the_same_bytes_on_any_number_of_threads_and_in_any_memory(plain, monkeypatch):
    """Manifests, chunks and model-level files; they hold no time, no path and nothing of the machine.

    1 MiB forces many blocks in every op.
    """
    base, root, _ = plain
    expected = files(base / "plain" / "store" / "small")
    chunk_stages = [name for name in STAGES if name not in MODEL_STAGES]
    assert len(expected) == 2 * (1 + len(chunk_stages)) + len(MODEL_STAGES)  # of each chunk a manifest too
    before = torch.get_num_threads()
    try:
        for threads, budget in ((2, "1"), (4, "256")):
            torch.set_num_threads(threads)
            monkeypatch.setenv("SAE_ASSETS_MEMORY_BUDGET_MB", budget)
            results(base / f"{threads} threads", root, 4)
            found = files(base / f"{threads} threads" / "store" / "small")
            assert set(found) == set(expected)
            assert [name for name in found if found[name] != expected[name]] == []
    finally:
        torch.set_num_threads(before)
