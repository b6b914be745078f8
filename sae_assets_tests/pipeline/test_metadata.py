"""What the UI is told beside figures: where to look, and no number that would be a flat line over partitions."""

import shlex
from pathlib import Path

import dagster as dg
import typer

from sae_assets.cli import app
from sae_assets.orchestration.instance.launcher import HOST_TAG, WORKER_TAG
from sae_assets.orchestration.metadata import artifact_metadata, links
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address, path_of
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.storage.small import SMALL

BESIDE = Address("birds", "best_pairs", "patch", "dino")


def test_what_is_made_over_all_chunks_leads_to_its_report(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    page = path_of(store.root, Address("birds", "report", "patch", "dino"), "html")
    for stage in STAGES.values():
        found = links(stage.beside(BESIDE, "0001"), store)
        if stage.level != "model":
            assert found == {}
        elif stage.name != "report":
            assert found == {"report": dg.MetadataValue.path(str(page))}


def test_a_report_says_how_it_and_its_units_are_opened(tmp_path: Path) -> None:
    """By commands that parse."""
    found = links(Address("birds", "report", "patch", "dino"), ArtifactStore(str(tmp_path)))
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for text in found.values():
        name, *words = shlex.split(text.replace("UNIT", "6"))[1:]
        with commands[name].make_context(name, words) as context:
            assert (context.params["dataset"], context.params["model"]) == ("birds", "dino")
            assert context.params["token_kind"] == "patch"


def test_on_an_object_store_the_report_is_an_address() -> None:
    found = links(BESIDE, ArtifactStore("memory://store"))
    assert str(found["report"]).startswith("memory:/") and isinstance(found["report"], str)


def test_what_settings_fix_is_no_number() -> None:
    item = stored(SMALL["sparse_activations"], Provenance("sparse_activations", "birds", "patch", "dino", "0001", "1"))
    metadata = artifact_metadata(item, {"seconds": 1.0, "device": "cpu"})
    assert isinstance(metadata["units"], str) and isinstance(metadata["k_stored"], str)
    assert isinstance(metadata["entries"], int) and isinstance(metadata["coverage"], float)


def test_tags_that_say_the_same_of_every_run_are_not_shown() -> None:
    from dagster._core.storage.tags import TagType, get_tag_type

    assert {get_tag_type(tag) for tag in (HOST_TAG, WORKER_TAG)} == {TagType.HIDDEN}
