"""Removing chunks and data sets: shown first, then done; what is left is whole."""

import json
from pathlib import Path

import pytest

from sae_assets.commands.session import open_session
from sae_assets.orchestration.history import with_history
from sae_assets.orchestration.partitions import keys_of
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.planned import states_of
from sae_assets_tests.pipeline.small import SMALL_STAGES


@pytest.fixture
def made(tmp_path: Path, made_home: Homes) -> Places:
    return made_home(tmp_path)


def files(places: Places) -> list[str]:
    return sorted(str(path.relative_to(places["home"])) for path in (places["home"] / "store").rglob("*.*"))


def test_chunk_is_shown_then_removed_and_aggregates_become_stale(made):
    before = files(made)
    shown = json.loads(invoke(made, "remove", "small", "--chunks", "1", "--json").stdout)
    assert files(made) == before and shown["removed"] is False and len(shown["files"]) == 6
    assert len(shown["stale_aggregates"]) == sum(stage.level == "model" for stage in SMALL_STAGES.values())
    assert shown["manifests"] == [str(made["home"] / "store" / "small" / "chunks" / "0001.json")]
    assert shown["manifests"][0] in invoke(made, "remove", "small", "--chunks", "1").output
    done = invoke(made, "remove", "small", "--chunks", "1,01", "--yes")  # said twice, removed once
    assert done.exit_code == 0 and "Removed 1 chunk, 6 files" in done.output and "become stale" in done.output
    assert [name for name in files(made) if "0001" in name] == ["store/small/chunks/0001.removed"]
    with open_session(made["home"], made["catalog"]) as session:
        assert session.chunks_of("small") == ["0000"]
        assert session.instance.get_dynamic_partitions("small_chunks") == ["0000"]
        stages = states_of(session)
    assert stages["patch/clip-mini/unit_stats"]["all"] == "stale"
    assert set(stages["patch/clip-mini/sparse_activations"].values()) == {"current"}
    # Its examples are still in the data set: they come back as a chunk of a new number.
    assert invoke(made, "materialize", "-d", "small", "--to", "unit_stats").exit_code == 0
    with open_session(made["home"], made["catalog"]) as session:
        assert session.chunks_of("small") == ["0000", "0002"]
        stages = states_of(session)
    for name in ("sparse_activations", "unit_stats"):
        assert set(stages[f"patch/clip-mini/{name}"].values()) == {"current"}


def test_whole_data_set(made):
    assert invoke(made, "remove", "small", "--all", "--yes").exit_code == 0
    assert files(made) == []
    with open_session(made["home"], made["catalog"]) as session:
        assert session.instance.get_dynamic_partitions("small_chunks") == []
        assert with_history(session.instance, [key for key, _ in keys_of(session.catalog.datasets["small"])]) == []
    # As if it were new.
    assert invoke(made, "materialize", "-d", "small", "--to", "examples").exit_code == 0
    with open_session(made["home"], made["catalog"]) as session:
        assert session.chunks_of("small") == ["0000", "0001"]


@pytest.mark.parametrize(("arguments", "said"), [((), "--chunks 3,4"), (("--chunks", "7"), "no chunk 0007")])
def test_request_that_cannot_be_understood(tmp_path, made_home, arguments, said):
    places = made_home(tmp_path, "register")
    before = files(places)
    result = invoke(places, "remove", "small", *arguments, "--yes")
    assert result.exit_code == 2 and said in result.stderr
    assert files(places) == before != []
