"""One truth of what is stale: after every kind of change all deciders name the same, make the same, and are content.

The kinds of change stand in one table. Two models share the data set, so that a change of one must not touch the other.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from PIL import Image

from sae_assets.catalog.names import name_of
from sae_assets.commands.removing import find_removal, remove
from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration.automation import follow
from sae_assets.orchestration.partitions import chunks_name
from sae_assets.pipeline import stages
from sae_assets.storage.address import Address
from sae_assets_tests.datasets.clevr_folder import COLOURS, CONCEPTS, ClevrFolder
from sae_assets_tests.helpers.swift import settle_in
from sae_assets_tests.pipeline.deciders import Named, Switch, made_by_command, named, stale_by_dagster, stale_by_status
from sae_assets_tests.pipeline.small import NO_OTHERS
from sae_assets_tests.processes import ended, half_written_by
from sae_assets_tests.rows.tiny_model import WIDTH, write_tiny_model
from sae_assets_tests.saes.published import published, save

NAME = "pictures"
PRUNING = {"mode": "fixed", "min_active": 1, "max_density": 1, "strength_percentile": 0, "target_units": 20}
SPLITS = ("cal", "test", "cal", "train")
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("deciders")]


@dataclass
class World:
    """A data set of two chunks, two models of it, and the home that everything was made in."""

    base: Path
    folder: ClevrFolder = field(init=False)
    models: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = ClevrFolder(self.base / "data")

    @property
    def home(self) -> Path:
        return self.base / "home"

    def land(self, count: int) -> None:
        """``count`` more examples, concepts and places by turns."""
        for number in range(len(self.folder.rows), len(self.folder.rows) + count):
            left = 3 * (number % 5)
            concept = tuple(COLOURS)[number % 2]
            self.folder.add(f"e{number}", SPLITS[number % len(SPLITS)], concept, (left, 4, left + 11, 15))
        self.folder.write()

    def row(self, number: int, **cells: Any) -> None:
        """Correct a row of the table."""
        self.folder.rows[number] |= cells
        self.folder.write()

    def model(self, name: str, **changes: Any) -> None:
        self.models[name] |= changes

    def open(self) -> Any:
        path = self.base / "catalog.yaml"
        path.write_text(yaml.safe_dump({"models": self.models, "datasets": {**NO_OTHERS, NAME: self.dataset}}))
        return open_session(self.home, path)

    def file(self, session: Session, stage: str, model: str, chunk: str | None = None) -> Path:
        path = session.store.find(Address(NAME, stage, "patch", model, chunk))
        assert path is not None
        return Path(str(path))


def new_world(base: Path) -> World:
    world = World(base)
    for name, seed in (("one", 1), ("two", 2)):
        write_tiny_model(base / name)
        save(base / f"{name}.pt", published(d=WIDTH, n=24, k=5, seed=seed))
        world.models[name] = {
            "modality": "image", "transformer": {"library": "open_clip", "path": str(base / name)}, "layer": 1,
            "sae": {"format": "clipscope", "path": str(base / f"{name}.pt")},
            "pruning": PRUNING,
        }  # fmt: skip
    world.dataset = {
        "root": str(world.folder.root), "layout": "clevr", "modality": "image", "concepts": list(CONCEPTS),
        "models": ["one", "two"], "token_kinds": ["patch"], "chunk_size": 4,
        "detection": {"n_permutations": 5},
    }  # fmt: skip
    world.land(8)
    return world


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world in which everything was made, to be copied."""
    world = new_world(tmp_path_factory.mktemp("deciders"))
    with world.open() as session:
        session.materialize([NAME])
    return world


def copy_of(world: World, base: Path) -> World:
    """The same world elsewhere: paths of the catalog follow, files and history are the same."""
    shutil.copytree(world.base, base, dirs_exist_ok=True)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(each) for key, each in value.items()}
        return value.replace(str(world.base), str(base)) if isinstance(value, str) else value

    settle_in(base / "home" / "dagster")
    copied = World(base, moved(world.models), moved(world.dataset))
    copied.folder.rows = [dict(row) for row in world.folder.rows]
    return copied


# --- the kinds of change ----------------------------------------------------------------------------------------------

ALL_CHUNKS = ("0000", "0001")
SWITCHED = ("controls", "unit_rows")  # which this data set's entry does not switch on
AGGREGATES = [name for name, stage in stages.STAGES.items() if stage.level == "model" and name not in SWITCHED]


def chunk_level(stage: str, chunks: tuple[str, ...] = ALL_CHUNKS, models: tuple[str, ...] = ("one", "two")) -> Named:
    if stage in ("examples", "labels"):
        return {(f"{NAME}/{stage}", chunk) for chunk in chunks}
    return {(f"{NAME}/patch/{stage}", f"{chunk}|{model}") for chunk in chunks for model in models}


def model_level(*names: str, models: tuple[str, ...] = ("one", "two")) -> Named:
    return {(f"{NAME}/patch/{stage}", model) for stage in names for model in models}


def setting(**keys: Any) -> Callable[[World], None]:
    return lambda world: world.dataset.update(keys)


def detection(**keys: Any) -> Callable[[World], None]:
    return lambda world: world.dataset["detection"].update(keys)


def corrected_label(world: World) -> None:
    world.row(0, **{CONCEPTS[0]: 0, CONCEPTS[1]: 1})


def concept_added(world: World) -> None:
    for number, row in enumerate(world.folder.rows):
        row["color::any"] = number % 2
    world.folder.write()
    world.dataset["concepts"] = [*CONCEPTS, "color::any"]


def image_overwritten(world: World) -> None:
    Image.new("RGB", (32, 32), (1, 2, 3)).save(world.folder.root / "images" / "e0.png")


def mask_overwritten(world: World) -> None:
    Image.new("L", (32, 32), 255).save(world.folder.root / "masks" / "e0.png")


def another_sae(world: World) -> None:
    save(world.base / "two.pt", published(d=WIDTH, n=24, k=5, seed=7))


def another_transformer(world: World) -> None:
    write_tiny_model(world.base / "two", vision={"mlp_ratio": 3.0})


def aggregate_deleted(world: World) -> None:
    (world.home / "store" / NAME / "patch" / "two" / "thresholds" / "all.parquet").unlink()


def chunk_deleted(world: World) -> None:
    (world.home / "store" / NAME / "patch" / "one" / "filtered_activations" / "0001.parquet").unlink()


def chunk_added(world: World) -> None:
    world.land(4)
    register(world)


def register(world: World) -> None:
    with world.open() as session:
        session.register(NAME)


def chunk_removed(world: World) -> None:
    """Its rows go too: what is still in the table would come back as a new chunk."""
    with world.open() as session:
        remove(session, find_removal(session, NAME, ["1"]))
    del world.folder.rows[4:]
    world.folder.write()


def manifest_deleted(world: World) -> None:
    """By hand: Dagster still knows the chunk, and its files are there."""
    (world.home / "store" / NAME / "chunks" / "0001.json").unlink()
    del world.folder.rows[4:]
    world.folder.write()


def wiped(stage: str) -> Callable[[World], None]:
    """By a click in the UI: nothing of the asset is in Dagster's history any more."""

    def apply(world: World) -> None:
        with world.open() as session:
            session.instance.wipe_assets([dg.AssetKey([NAME, stage])])

    return apply


def frozen(change: Callable[[World], None]) -> Callable[[World], None]:
    def apply(world: World) -> None:
        world.dataset["calibration"] = "freeze"
        change(world)

    return apply


def both(*changes: Callable[[World], None]) -> Callable[[World], None]:
    """Changes at once, of which no two concern the same artifacts: each is still seen for itself."""

    def apply(world: World) -> None:
        for change in changes:
            change(world)

    return apply


def code_raised(name: str) -> Callable[[World], None]:
    return lambda world: setattr(world, "raised", name)


NEW = ("0002",)
NEW_CHUNK = set().union(
    *(
        chunk_level(s, NEW)
        for s in ("examples", "labels", "ground_truth", "row_locations", "sparse_activations", "filtered_activations")
    )
)
CHANGES: dict[str, tuple[Callable[[World], None], Named]] = {
    # Contents are pinned when their chunk was registered: a check says so. Freezing concerns chunks that come later,
    # but the recipes of two artifacts say whether what they chose is kept.
    "an image's and a mask's contents, calibration frozen": (
        both(image_overwritten, mask_overwritten, setting(calibration="freeze")),
        model_level("coalitions", "localization"),
    ),
    "detection seed; code of a chunk stage; tail fractions; mask overlap": (
        both(
            detection(seed=7, tail_fractions=[0.25, 0.5]), code_raised("filtered_activations"), setting(min_overlap=5),
        ),
        model_level("thresholds", "chosen_pairs", "best_pairs", "localization")
        | chunk_level("filtered_activations") | chunk_level("ground_truth"),
    ),
    # What Dagster's history has lost is made again, and nothing that reads it if it comes out as it was.
    "fewer units of one model; an SAE's file of the other; code of an aggregate; labels wiped": (
        both(
            lambda world: world.model("one", pruning={**PRUNING, "target_units": 9}), another_sae,
            code_raised("thresholds"), wiped("labels"),
        ),
        model_level("unit_mapping", models=("one",)) | chunk_level("sparse_activations", models=("two",))
        | model_level("thresholds") | chunk_level("labels"),
    ),
    "a chunk's file of one model deleted; fewer entries of the other": (
        both(chunk_deleted, lambda world: world.model("two", k_stored=3)),
        chunk_level("filtered_activations", ("0001",), ("one",))
        | model_level("thresholds", "detection_stats", models=("one",))
        | chunk_level("sparse_activations", models=("two",)),
    ),
    "another block of one model; a transformer's file of the other and an aggregate's of it deleted": (
        both(lambda world: world.model("one", layer=0), aggregate_deleted, another_transformer),
        chunk_level("sparse_activations")
        | chunk_level("ground_truth", models=("two",)) | chunk_level("row_locations", models=("two",))
        | model_level("thresholds", "detection_stats", "chosen_pairs", models=("two",))
        | model_level("report", models=("one",)),  # it names the block
    ),
    "a label of one chunk; a split of the other": (
        both(corrected_label, lambda world: world.row(7, split="cal")), chunk_level("labels"),
    ),
    "a concept more": (concept_added, chunk_level("labels") | model_level("thresholds", "chosen_pairs")),
    "a chunk more": (chunk_added, NEW_CHUNK | model_level(*AGGREGATES)),
    "a chunk less": (chunk_removed, model_level(*AGGREGATES)),
    "a manifest deleted": (manifest_deleted, model_level(*AGGREGATES)),
    "concepts in another order; fewer units of one model; calibration frozen": (
        frozen(both(
            setting(concepts=CONCEPTS[::-1]), lambda world: world.model("one", pruning={**PRUNING, "target_units": 9}),
        )),
        chunk_level("labels") | model_level("thresholds", "chosen_pairs", "coalitions", "localization")
        | model_level("unit_mapping", models=("one",)),
    ),
    "a chunk more, calibration frozen": (
        frozen(chunk_added),
        NEW_CHUNK | model_level(*(set(AGGREGATES) - {"unit_stats", "unit_mapping", "thresholds", "chosen_pairs"})),
    ),
}  # fmt: skip


# All are asked before every change is made, and after; these are made by the others too, as they ask for it.
MADE_BY_TICKS = {
    "a chunk's file of one model deleted; fewer entries of the other": ("follow",),
    "another block of one model; a transformer's file of the other and an aggregate's of it deleted": ("follow",),
    "a label of one chunk; a split of the other": ("backfill",),
    "a chunk more": ("follow", "backfill"),
}


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def raise_code_version(name: str) -> None:
        stage = stages.STAGES[name]
        monkeypatch.setitem(stages.STAGES, name, replace(stage, code_version=stage.code_version + "+"))

    yield raise_code_version


@pytest.mark.parametrize("change", list(CHANGES))
def test_all_deciders_agree(made: World, tmp_path: Path, raised: Callable[[str], None], change: str) -> None:
    """They name what is to be made now, make the same until they are content, and are content together."""
    apply, expected = CHANGES[change]
    ticks = MADE_BY_TICKS.get(change, ())
    worlds = {who: copy_of(made, tmp_path / who) for who in ("command", *ticks)}
    for world in worlds.values():
        apply(world)
    if hasattr(world, "raised"):
        raised(world.raised)

    with worlds["command"].open() as session:
        switch = Switch(session, NAME)
        for first in (switch.follow(), switch.backfill()):
            assert first <= expected and bool(first) == bool(expected)
        _all_name(session, switch, expected)
        by_command, _ = made_by_command(session, NAME)
        assert bool(by_command) == bool(expected)
        _all_name(session, switch, set())
        assert switch.follow() == switch.backfill() == set()
        assert made_by_command(session, NAME)[1] == 0

    for tick in ticks:
        with worlds[tick].open() as session:
            switch = Switch(session, NAME)
            switch.settle(tick)
            made_anew = set(switch.made)
            # A backfill is one sequence, planned at once: it also makes what was due and proves to be what it was.
            assert made_anew == by_command if tick == "follow" else by_command <= made_anew <= by_command | expected
            _all_name(session, switch, set())


def _all_name(session: Session, switch: Switch, expected: Named) -> None:
    assert stale_by_status(session, NAME) == expected
    assert named(session.outlook(NAME).plan().addresses) == expected
    assert stale_by_dagster(session, NAME, switch.definitions) == expected


def test_the_marker_follows_a_change_that_is_taken_back(made: World, tmp_path: Path) -> None:
    """What was told as stale and is current again, without having been made, is told as that."""
    world = copy_of(made, tmp_path)
    before = (tmp_path / "two.pt").read_bytes()
    with world.open() as session:
        switch = Switch(session, NAME)
        for change, expected in ((lambda: another_sae(world), chunk_level("sparse_activations", models=("two",))),
                                 (lambda: (tmp_path / "two.pt").write_bytes(before), set())):  # fmt: skip
            change()
            switch.follow()
            assert stale_by_dagster(session, NAME, switch.definitions) == stale_by_status(session, NAME) == expected


def test_a_partition_deleted_by_hand_takes_no_history_along(made: World, tmp_path: Path) -> None:
    """A click in the UI: Dagster is told of the chunk again by whoever looks first, and nothing is to be made."""
    world = copy_of(made, tmp_path)
    with world.open() as session:
        session.instance.delete_dynamic_partition(chunks_name(NAME), "0001")
        assert stale_by_status(session, NAME) == stale_by_dagster(session, NAME) == set()
        session.instance.delete_dynamic_partition(chunks_name(NAME), "0001")
        assert made_by_command(session, NAME) == (set(), 0)


def test_a_look_that_found_nothing_holds_until_something_changes(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tick of ``follow`` asks for the history if a file or Dagster's newest event changed, or after minutes."""
    world, asked, cursor = copy_of(made, tmp_path), [], None
    history_of = follow.history_of
    monkeypatch.setattr(follow, "history_of", lambda *args: asked.append(1) or history_of(*args))
    now = time.time()
    monkeypatch.setattr(follow.time, "time", lambda: now)

    def tick() -> tuple[int, str | None, list[Any]]:
        nonlocal cursor
        asked.clear()
        with dg.build_sensor_context(
            instance=session.instance, repository_def=switch.repository, resources=session.resources, cursor=cursor
        ) as context:
            told = switch.repository.get_sensor_def(name_of(NAME, "follow")).evaluate_tick(context)
        cursor = told.cursor
        return len(asked), told.skip_message, told.run_requests or []

    with world.open() as session:
        switch = Switch(session, NAME)
        nothing = f"Nothing of {NAME} can be made now"
        assert tick() == (1, nothing, [])
        assert tick() == tick() == (0, nothing, [])
        key = dg.AssetKey([NAME, "patch", "best_pairs"])
        session.instance.report_runless_asset_event(dg.AssetObservation(key, partition="one"))
        assert [tick()[0], tick()[0]] == [1, 0]
        now += 1000
        assert [tick()[0], tick()[0]] == [1, 0]
        half_written = world.file(session, "best_pairs", "one").with_name(half_written_by(ended()))
        half_written.touch()
        world.file(session, "best_pairs", "one").unlink()
        for _ in range(2):  # what is requested is asked for again, until it is under way
            looked, _, requests = tick()
            assert looked == 1 and [request.partition_key for request in requests] == ["one"]
        assert not half_written.exists()  # its writer was killed; no command comes by that would remove it
