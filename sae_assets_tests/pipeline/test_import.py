"""Older sparse files become this data set's chunks, and the pipeline goes on from them as from its own."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
import torch

from sae_assets.commands.session import open_session
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.history import first_cause
from sae_assets.orchestration.partitions import multi_key
from sae_assets.pipeline.stages import ORDER
from sae_assets.storage.address import Address
from sae_assets.storage.store import stored
from sae_assets_tests.helpers.homes import Homes, Places, invoke
from sae_assets_tests.pipeline.planned import failed_artifacts, launched, plan_of
from sae_assets_tests.pipeline.small import WITH_CONTROLS, damaged_payload, make_dataset, write_catalog

pytestmark = pytest.mark.xdist_group("import")

K = 16
SPARSE = Address("small", "sparse_activations", "patch", "clip-mini", "0000")
N_PATCHES = 256
CHUNKS = ["0000", "0001"]
PATCH = ("--dataset", "small", "--model", "clip-mini", "--token-kind", "patch")


def sparse(places: Places, chunk: str):
    with open_session(places["home"], places["catalog"]) as session:
        return session.store.read(Address("small", "sparse_activations", "patch", "clip-mini", chunk))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, made_home: Homes) -> Places:
    """What the pipeline computes for twelve images, written as an older script would: int64, padded, in 3 files."""
    base = tmp_path_factory.mktemp("older")
    places = made_home(base)
    parts = [sparse(places, key).artifact for key in CHUNKS]
    indices = torch.full((12 * N_PATCHES, K), 123_456)
    values = torch.full((12 * N_PATCHES, K), -1.0)
    row = 0
    for part in parts:
        for start, stop in zip(part.row_offsets[:-1].tolist(), part.row_offsets[1:].tolist(), strict=True):
            places_of_row = torch.randperm(K)[: stop - start]  # older files do not sort
            indices[row, places_of_row] = part.unit_ids[start:stop].long()
            values[row, places_of_row] = part.values[start:stop]
            row += 1
    folder = base / "SAE_Activations_Sparse" / "CLEVR"
    folder.mkdir(parents=True)
    for number, rows in enumerate(torch.arange(12 * N_PATCHES).split(1200)):
        content = {"indices": indices[rows], "values": values[rows], "format": "sparse_topk", "topk": K}
        torch.save(content, folder / f"clipscope_patch_sparse_layer22_chunk_{number}.pt")
    (folder / "clipscope_patch_sparse_layer22_chunks_info.json").write_text("[]")
    return {**places, "older": folder}


def test_imported_chunks_equal_computed_ones_and_the_rest_follows(older, tmp_path):
    places = {**older, "home": tmp_path / "home"}
    result = invoke(
        places, "import", str(older["older"]), "--dataset", "SMALL", "--model", "clip-mini", "--token-kind", "patch",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["chunks"] == CHUNKS
    for chunk in CHUNKS:
        ours, imported = sparse(older, chunk), sparse(places, chunk)
        assert imported.provenance.config["imported"] is True
        for name in ("unit_ids", "values", "row_offsets", "example_offsets"):
            assert torch.equal(getattr(imported.artifact, name), getattr(ours.artifact, name)), name
    # The history has them, and the rest of the pipeline does not encode again.
    done = invoke(places, "materialize", "-d", "small", "--to", "best_pairs", "--json")
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout)
    assert sparse(places, "0000").provenance.config["imported"] is True
    shown = json.loads(invoke(places, "status", "--json").stdout)["small"]["stages"]
    up_to = {f"patch/clip-mini/{stage}" for stage in ORDER[: ORDER.index("best_pairs") + 1]}
    assert {state for name in shown.keys() & up_to for state in shown[name].values()} == {"current"}
    with open_session(places["home"], places["catalog"]) as session:
        best = session.store.read(Address("small", "best_pairs", "patch", "clip-mini")).artifact
    with open_session(older["home"], older["catalog"]) as session:
        assert session.store.read(Address("small", "best_pairs", "patch", "clip-mini")).artifact == best
    assert figures


def imported_home(older: Places, tmp_path: Path) -> Places:
    """A new home with the same catalog, into which the older files were imported."""
    places = {**older, "home": tmp_path / "home"}
    assert invoke(places, "import", str(older["older"]), *PATCH).exit_code == 0
    return places


@pytest.mark.long
def test_imported_rows_are_never_replaced_unless_asked(older, tmp_path):
    """Whoever asks: nothing here can make them again."""
    places = imported_home(older, tmp_path)
    with open_session(places["home"], places["catalog"]) as session:
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
        kept = session.store.read(SPARSE)

        def run(**config: object) -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                instance=session.instance, asset_selection=[dg.AssetKey(["small", "patch", "sparse_activations"])],
                partition_key=multi_key("clip-mini", "0000"), raise_on_error=False,
                run_config={"ops": {"small__sparse_activations": {"config": config}},
                            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip

        place = session.store.find(SPARSE)
        content = place.read_bytes()
        assert run().success and place.read_bytes() == content
        # Neither over other examples nor over a damaged file.
        examples = Address("small", "examples", chunk="0000")
        there = session.store.find(examples)
        before = there.read_bytes()
        item = session.store.read(examples)
        hashes = ("0" * 64, *item.artifact.file_hashes[1:])
        session.store.write(examples, stored(replace(item.artifact, file_hashes=hashes), item.provenance))
        result = run()
        assert not result.success and "was imported and its examples have changed" in (first_cause(result.all_events))
        assert place.read_bytes() == content
        there.write_bytes(before)
        place.write_bytes(damaged_payload(content))
        result = run()
        assert not result.success and "Import it again" in first_cause(result.all_events)
        place.write_bytes(content[: len(content) // 2])  # nor where its header is gone: the history knows
        result = run()
        assert not result.success and "Import it again" in first_cause(result.all_events)
        # The advice holds: imported again, it is whole, its checks pass, and everything goes on from it.
        assert invoke(places, "import", str(older["older"]), *PATCH).exit_code == 0
        assert place.read_bytes() == content
        assert failed_artifacts(session) == set()
        assert invoke(places, "materialize", "-d", "small").exit_code == 0
        assert place.read_bytes() == content
        assert run(force=True).success
        assert "imported" not in session.store.read(SPARSE).provenance.config != kept.provenance.config


@pytest.mark.long
def test_new_history_over_imported_files_records_them(older, tmp_path):
    places = imported_home(older, tmp_path)
    with open_session(
        places["home"], places["catalog"]
    ) as session:  # a failed check of a whole file: a repair may record it again
        key = dg.AssetKey(["small", "patch", "sparse_activations"])
        partition = multi_key("clip-mini", "0000")
        again = launched(plan_of(session, unchecked={key: [partition]}))
        assert (key.to_user_string(), partition) in again
    shutil.rmtree(places["home"] / "dagster")
    done = invoke(places, "materialize", "-d", "small", "--to", "sparse_activations")
    assert done.exit_code == 0, done.stderr
    assert sparse(places, "0000").provenance.config["imported"] is True


def test_rows_of_another_data_set_are_refused(older, tmp_path):
    root = make_dataset(tmp_path / "data", 11)
    catalog = write_catalog(tmp_path / "catalog.yaml", root, token_kinds=["patch", "cls"], chunk_size=5)
    places = {"home": tmp_path / "home", "catalog": catalog}
    for kind, said in (("patch", "2,816: 11 examples of 256 row(s)"), ("cls", "11: 11 examples of 1 row(s) each")):
        arguments = ["--dataset", "small", "--model", "clip-mini", "--token-kind", kind]
        result = invoke(places, "import", str(older["older"]), *arguments)
        assert result.exit_code == 1 and f"hold 3,072 rows, expected {said}" in result.stderr
        assert "Nothing was imported" in result.stderr and f"--token-kind {kind}" in result.stderr
    assert not list((tmp_path / "home").rglob("sparse_activations"))


def test_names_that_are_not_there(older, tmp_path):
    places = {**older, "home": tmp_path / "home"}
    for name, value in (("--dataset", "smal"), ("--model", "clip-mimi"), ("--token-kind", "token")):
        given = {"--dataset": "small", "--model": "clip-mini", "--token-kind": "patch", name: value}
        arguments = [part for pair in given.items() for part in pair]
        result = invoke(places, "import", str(older["older"]), *arguments)
        assert result.exit_code == 2 and repr(value) in result.stderr, result.stderr


@pytest.mark.long
def test_controls_do_not_apply_to_what_was_imported(older, tmp_path):
    """With `controls` in the catalog everything else is made and is current, and who asks for them is told why not."""
    catalog = write_catalog(tmp_path / "with.yaml", older["root"], token_kinds=["patch"], **WITH_CONTROLS)
    places = {**older, "catalog": catalog, "home": tmp_path / "home"}
    assert invoke(places, "import", str(older["older"]), *PATCH).exit_code == 0
    done = invoke(places, "materialize", "-d", "small")
    assert done.exit_code == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "Activations were imported" in said and "there is no control_inputs, controls" in said
    assert "0 runs made" in invoke(places, "materialize", "-d", "small").stdout
    shown = json.loads(invoke(places, "status", "--json").stdout)["small"]["stages"]
    states = {name: set(chunks.values()) for name, chunks in shown.items() if name.startswith("patch/")}
    for name, found in states.items():
        of_rows = name.split("/")[-1] in ("control_inputs", "controls")
        assert found == ({"inapplicable"} if of_rows else {"current"}), name
    with open_session(places["home"], places["catalog"]) as session:
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(
            instance=session.instance, asset_selection=[dg.AssetKey(["small", "patch", "control_inputs"])],
            partition_key=multi_key("clip-mini", "0000"), raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
        assert not result.success and "controls do not apply to it" in first_cause(result.all_events)
        assert not launched(plan_of(session))
