"""How often a stage reads each chunk's file: at most twice, however little memory it may take; and a run, once."""

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sae_assets.commands.session import Session, open_session
from sae_assets.pipeline.recipes import chunks_read
from sae_assets.pipeline.stage import Pass, Sources, Stage, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets.storage.chunk_reader import ChunkReader
from sae_assets.storage.kept_reads import COARSEST, KeptReads
from sae_assets.storage.store import ArtifactStore, Stored
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.small import WITH_CONTROLS

pytestmark = pytest.mark.long
OF_ALL_CHUNKS = [name for name, stage in STAGES.items() if stage.level == "model"]
LEAST = 4096  # bytes: values of a few units, rows of one concept are looked at together


def made_anew(session: Session, stage: Stage, memory_budget: int) -> object:
    """What a stage makes of what is stored, without Dagster."""
    store = session.store
    target = Target(session.catalog, stage.address("small", "patch", "clip-mini"))
    keys = sorted(path.stem for path in (store.root / "small" / "labels").iterdir())
    readers = {
        name: ChunkReader(store, {key: STAGES[name].address("small", "patch", "clip-mini", key) for key in keys})
        for name in stage.chunk_inputs
    }
    of_model = (*stage.model_inputs, *stage.optional_inputs)
    inputs = {name: store.read(STAGES[name].address("small", "patch", "clip-mini")) for name in of_model}
    inputs |= chunks_read(stage, "small", readers, allow_missing=False)
    due = frozenset({(stage.name, "patch")})
    made = stage.make(
        Pass(
            target, inputs, stage.options(), Sources(store.root), ("patch",), due, "cpu", memory_budget,
            lambda _: None, store,
        )
    )  # fmt: skip
    return made[stage.name, "patch"].artifact


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Address]:
    """Addresses of chunks that are read from now on."""
    counts: Counter[Address] = Counter()
    read = ArtifactStore.read

    def counted(self: ArtifactStore, address: Address, **how: bool) -> object:
        if address.chunk is not None:
            counts[address] += 1
        return read(self, address, **how)

    monkeypatch.setattr(ArtifactStore, "read", counted)
    return counts


@pytest.fixture(scope="module")
def made(made_home: Homes, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A home with every stage, in chunks of six examples."""
    return made_home(tmp_path_factory.mktemp("reads"), **WITH_CONTROLS, detection={"min_support": 1})


@pytest.mark.parametrize("name", OF_ALL_CHUNKS)
def test_a_stage_reads_each_file_at_most_twice(name: str, made: Places, reads: Counter[Address]) -> None:
    """With room for hardly anything, and what it makes is what was made with room for everything."""
    with open_session(made["home"], made["catalog"]) as session:
        stored = session.store.read(STAGES[name].address("small", "patch", "clip-mini")).artifact
        artifact = made_anew(session, STAGES[name], LEAST)
    assert artifact == stored
    assert max(reads.values()) <= 2, reads


@pytest.mark.slow
def test_passes_of_a_run_share_what_they_read_and_leave_it_as_it_was(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = made_home(tmp_path, **WITH_CONTROLS, detection={"min_support": 1})
    for name in OF_ALL_CHUNKS:
        shutil.rmtree(places["home"] / "store" / "small" / "patch" / "clip-mini" / name)
    for path in filter(Path.is_file, (places["home"] / "store").rglob("*")):
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 2 * COARSEST))
    kept, asked = dict[tuple[Any, str], Stored](), Counter[tuple[Any, str]]()
    keep, get = KeptReads.keep, KeptReads.get

    def noted(self: Any, path: Any, version: Any, item: Stored) -> None:
        if version is not None:
            assert (self, str(path)) not in kept  # of each store once
            kept[self, str(path)] = item
        keep(self, path, version, item)

    def counted(self: Any, path: Any) -> Any:
        asked[self, str(path)] += 1
        return get(self, path)

    monkeypatch.setattr(KeptReads, "keep", noted)
    monkeypatch.setattr(KeptReads, "get", counted)
    assert invoke(places, "materialize", "-d", "small").exit_code == 0
    of_activations = [asked[place] for place in kept if "/sparse_activations/" in place[1]]
    assert max(of_activations) > 4
    assert all(item.artifact.content_hash() == item.content_hash for item in kept.values())
