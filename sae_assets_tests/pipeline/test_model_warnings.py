"""What the fit of the SAE tells of a model's configuration is said by ``materialize``, once per model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sae_assets.catalog import load_catalog
from sae_assets.commands.session import open_session
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.partitions import multi_key
from sae_assets.rows import encoding
from sae_assets.storage.address import Address
from sae_assets_tests.helpers.homes import Places, invoke
from sae_assets_tests.helpers.swift import ALTERNATIVES

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("model warnings")]


@pytest.fixture(autouse=True, scope="module")
def _alternatives() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "better_alternatives", ALTERNATIVES)
        yield


def texts_in(tmp_path: Path) -> Places:
    """Three chunks of two texts, and the packaged language model with another activation function."""
    packaged = load_catalog().models["gemma-mini"]
    assert packaged.transformer is not None and packaged.transformer.path is not None
    folder = shutil.copytree(packaged.transformer.path, tmp_path / "gemma")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "hidden_activation": "silu"}), encoding="utf-8")
    model = json.loads(packaged.model_dump_json(exclude_defaults=True))
    model["transformer"] = {"library": "transformers", "path": str(folder)}
    lines = [
        {"text": f"Adam is waiting at the station, number {n}.", "split": split, "calm": n % 2}
        for n, split in enumerate(("train", "cal", "test") * 2)
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = {
        "root": str(tmp_path / "texts.jsonl"), "layout": "spans", "modality": "text", "concepts": ["calm"],
        "models": ["mine"], "chunk_size": 2,
    }  # fmt: skip
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"models": {"mine": model}, "datasets": {"texts": dataset}}))
    return {"catalog": tmp_path / "catalog.yaml", "home": tmp_path / "home"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, str]:
    """Such a home, encoded, and what was said on stderr."""
    texts = texts_in(tmp_path_factory.mktemp("texts"))
    result = invoke(texts, "materialize", "-d", "texts", "--to", "sparse_activations")
    assert result.exit_code == 0, result.output
    return texts, result.stderr


def test_another_activation_function_is_warned_of_once(made: tuple[Places, str]) -> None:
    """On stderr, in the first chunk's check and in its run's log; the other chunks say nothing."""
    texts, stderr = made
    said = [line for line in stderr.splitlines() if "the activation function gelu" in line]
    assert len(said) == 1 and "(0000|mine)" in said[0] and "read_where_trained" in said[0]
    with open_session(texts["home"], texts["catalog"]) as session:
        events = [event for run in session.instance.get_runs() for event in session.instance.all_logs(run.run_id)]
    assert sum("Warning: the SAE leaves" in event.user_message for event in events) == 1
    found = [
        event.dagster_event.asset_check_evaluation_data
        for event in events
        if event.dagster_event and event.dagster_event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    checked = [each for each in found if each.check_name == "read_where_trained"]
    assert sorted(each.passed for each in checked) == [False, True, True]
    assert "the SAE leaves" not in invoke(texts, "materialize", "-d", "texts", "--to", "sparse_activations").stderr


def test_the_warning_stays_with_the_file(made: tuple[Places, str]) -> None:
    """In its header, in the metadata of its materialization, and again where the file is kept and looked at anew, as
    from Dagster's UI; the folder is named without where it lies.
    """
    texts, _ = made
    key = dg.AssetKey(["texts", "token", "sparse_activations"])
    with open_session(texts["home"], texts["catalog"]) as session:
        counts = session.store.header(Address("texts", "sparse_activations", "token", "mine", "0000")).counts
        assert counts is not None and "the activation function gelu" in counts["warning"]
        others = session.store.header(Address("texts", "sparse_activations", "token", "mine", "0001")).counts
        assert others is not None and "warning" not in others
        (event,) = [
            record.asset_materialization
            for record in session.instance.fetch_materializations(key, limit=9).records
            if "0000" in str(record.partition_key)
        ]
        assert event is not None and event.metadata["warning"].value == counts["warning"]
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=session.instance, partition_key=multi_key("mine", "0000"), asset_selection=[key],
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        (made,) = [event.materialization for event in result.get_asset_materialization_events()]
        assert "kept" in made.metadata and made.metadata["warning"].value == counts["warning"]
        (check,) = [each for each in result.get_asset_check_evaluations() if each.check_name == "read_where_trained"]
        assert not check.passed and check.metadata["sae"].value == counts["warning"]


def test_a_folder_is_named_without_where_it_lies(tmp_path: Path) -> None:
    """Files and histories travel."""
    texts = texts_in(tmp_path)
    catalog = yaml.safe_load(texts["catalog"].read_text())
    sae = Path(catalog["models"]["mine"]["sae"]["path"])
    place = texts["catalog"].parent / "gemma-scope-2b-pt-mlp/layer_2" / sae.name
    catalog["models"]["mine"]["sae"]["path"] = str(shutil.copytree(sae, place))
    texts["catalog"].write_text(yaml.safe_dump(catalog))
    assert invoke(texts, "materialize", "-d", "texts", "--to", "sparse_activations").exit_code == 0
    with open_session(texts["home"], texts["catalog"]) as session:
        counts = session.store.header(Address("texts", "sparse_activations", "token", "mine", "0001")).counts
    assert counts is not None and "read at block 2 of gemma" in counts["warning"]
    assert str(texts["catalog"].parent) not in counts["warning"]
