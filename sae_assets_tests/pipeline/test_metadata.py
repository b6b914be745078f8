"""What the UI is told beside figures: where to look, and no number that would be a flat line over partitions."""

import shlex
from pathlib import Path

import dagster as dg
import pytest
import typer

from sae_assets.cli import app
from sae_assets.orchestration.instance.launcher import HOST_TAG, WORKER_TAG
from sae_assets.orchestration.metadata import ROOM, artifact_metadata, label, links, storage_metadata
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.storage.small import SMALL

BESIDE = Address("birds", "best_pairs", "patch", "dino")


def opened(command: str) -> dict[str, object]:
    """The parameters of a command that is told, which parses."""
    name, *words = shlex.split(command.replace("UNIT", "6"))[1:]
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    with commands[name].make_context(name, words) as context:
        return dict(context.params)


def test_what_is_made_over_all_chunks_leads_to_its_report() -> None:
    """By an address of the UI and by commands that parse, and not by paths of somebody's folders."""
    for stage in STAGES.values():
        found = links(stage.beside(BESIDE, "0001"))
        if stage.level == "model":
            assert found.pop("report") == dg.MetadataValue.url("/sae_assets/reports/birds/patch/dino")
        assert set(found) == (
            set() if stage.level != "model" else {"in_a_browser", *(["page_of_a_unit"] * (stage.name == "report"))}
        )
        for command in found.values():
            told = opened(command)
            assert (told["dataset"], told["model"], told["token_kind"]) == ("birds", "dino", "patch")


@pytest.mark.parametrize("root", ["folder", "memory://a-store"])
def test_places_are_told_from_the_store_on(tmp_path: Path, root: str) -> None:
    """A history that travels says nothing of whose folder it was; an object store's address is one for everybody."""
    store = ArtifactStore(str(tmp_path / root) if root == "folder" else root)
    item = stored(SMALL["sparse_activations"], Provenance("sparse_activations", "birds", "patch", "dino", "0001", "1"))
    written = store.write(Address("birds", "sparse_activations", "patch", "dino", "0001"), item)
    place = storage_metadata(item.artifact, written, store.root)["dagster/uri"]
    assert place.endswith("birds/patch/dino/sparse_activations/0001.parquet")
    assert place.startswith("birds/" if root == "folder" else "memory:/")


def test_what_settings_fix_is_no_number() -> None:
    item = stored(SMALL["sparse_activations"], Provenance("sparse_activations", "birds", "patch", "dino", "0001", "1"))
    metadata = artifact_metadata(item, {"seconds": 1.0, "device": "cpu"})
    assert "dagster/row_count" not in metadata
    for name in ("units", "k_stored", "rows", "examples", "table_rows"):
        assert isinstance(metadata[name], str), name
    assert isinstance(metadata["entries"], int) and isinstance(metadata["coverage"], float)


def test_tags_that_say_the_same_of_every_run_are_not_shown() -> None:
    from dagster._core.storage.tags import TagType, get_tag_type

    assert {get_tag_type(tag) for tag in (HOST_TAG, WORKER_TAG)} == {TagType.HIDDEN}


def test_sentences_are_broken_into_lines_that_the_ui_has_room_for() -> None:
    item = stored(SMALL["controls"], Provenance("controls", "birds", "patch", "dino", None, "1"))
    metadata = artifact_metadata(item, {"seconds": 1.0, "device": "cpu"})
    for name in ("verdict", "row_verdict"):
        lines = metadata[name].value.split("  \n")
        assert max(map(len, lines)) <= 50 and " ".join(lines).startswith("On "), name


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_names_of_figures_do_not_run_into_the_next_column(kind: str) -> None:
    """The UI breaks them at spaces, and has room for 32 characters."""
    item = stored(SMALL[kind], Provenance(kind, "birds", "patch", "dino", None, "1"))
    names = artifact_metadata(item, {"seconds": 1.0, "device": "cpu"})
    assert [name for name in names if max(map(len, name.split())) > ROOM] == []
    assert label("superactivators_test_iou[shape::cylinder]") == "superactivators_test_iou [shape::cylinder]"
    assert label("test_f1[color::red]") == "test_f1[color::red]"
    assert label("test_f1[has_back_pattern::solid_and_with_a_spot]").split() == [
        "test_f1", "[has_back_pattern::solid_and_", "with_a_spot]",
    ]  # fmt: skip
    assert max(map(len, label(f"row_q[{'x' * 99}]").split())) == ROOM
    assert label("unit[long  name that has places to break at]") == "unit [long  name that has places to break at]"
