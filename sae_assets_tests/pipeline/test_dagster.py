"""What Dagster knows of a run: partitions, metadata, checks, history; and that chunks are read one at a time."""

import json
from typing import Any

import dagster as dg
import pytest
import torch
from typer.testing import CliRunner

from sae_assets.catalog import load_catalog
from sae_assets.cli import app
from sae_assets.commands.session import open_session
from sae_assets.orchestration.assets.factory import build_assets
from sae_assets.orchestration.build import build_definitions
from sae_assets.orchestration.instance.home import open_instance
from sae_assets.orchestration.metadata import SIZES
from sae_assets.orchestration.partitions import asset_key, keys_of, multi_key
from sae_assets.pipeline.stages import ORDER, STAGES, sparse_activations
from sae_assets.settings import load_settings
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.helpers.homes import places_in
from sae_assets_tests.pipeline.small import damaged_payload, make_dataset, write_catalog


def demo_group(test: Any) -> Any:
    """A test of the demo's home, which takes minutes to make."""
    return pytest.mark.long(pytest.mark.xdist_group("demo")(test))


def address(stage: str, chunk: str = "0001") -> Address:
    level = STAGES[stage].level
    if level == "dataset-chunk":
        return Address("clevr_mini", stage, chunk=chunk)
    return Address("clevr_mini", stage, "patch", "clip-mini", chunk if level == "chunk" else None)


def partition(stage: str, chunk: str = "0001") -> str:
    level = STAGES[stage].level
    return {"dataset-chunk": chunk, "chunk": multi_key("clip-mini", chunk), "model": "clip-mini"}[level]


def latest(instance: dg.DagsterInstance, stage: str) -> dg.AssetMaterialization:
    records = dg.AssetRecordsFilter(asset_key=asset_key(address(stage)), asset_partitions=[partition(stage)])
    found = instance.fetch_materializations(records, limit=1).records[0].asset_materialization
    assert found is not None
    return found


@pytest.fixture(scope="module")
def instance(demo):
    with open_instance(load_settings(demo["home"])) as opened:
        yield opened


@demo_group
@pytest.mark.parametrize("stage", ORDER)
def test_every_materialization_says_what_it_is(instance, stage):
    """Size, place, time, identity, schema and first rows; numbers are numbers, so that the UI plots them."""
    metadata = latest(instance, stage).metadata
    for name in ("stored_bytes", "seconds", "rows_per_second"):
        assert isinstance(metadata[name].value, (int, float)), name
    sizes = metadata[SIZES].value
    assert {name: metadata[name].value for name in ("table_rows", "examples_read")} == {
        "table_rows": f"{sizes['rows']:,}", "examples_read": f"{sizes['examples']:,}"
    }  # fmt: skip
    if STAGES[stage].glance is not None:
        assert next(iter(metadata)) == "glance", "the picture is not first"
    assert metadata["dagster/uri"].value.endswith((".parquet", ".pt", ".html"))
    places = {name for name, entry in metadata.items() if str(entry.value).startswith("/")}
    assert places <= {"report"}, "a path of this machine"  # that one is an address of the UI
    assert metadata["device"].value in ("cpu", "cuda") and len(metadata["fingerprint"].value) == 64
    if stage == "report":  # a page has no table
        assert "head" not in metadata
        return
    columns = {column.name for column in metadata["head"].schema.columns}
    assert columns and set(metadata["head"].records[0].data) == columns
    assert "dagster/column_schema" not in metadata, "it would stand above the figures"


@demo_group
@pytest.mark.parametrize("stage", ["sparse_activations", "filtered_activations"])
def test_activations_say_how_sparse_they_are(instance, stage):
    metadata = {name: entry.value for name, entry in latest(instance, stage).metadata.items()}
    dense_bytes = int(metadata["dense_bytes"].replace(",", ""))
    assert metadata["compression_ratio"] == pytest.approx(dense_bytes / metadata["stored_bytes"], rel=1e-5)
    assert metadata["compression_ratio"] > 1 and metadata["bytes_per_row"] > 0
    assert 0 < metadata["coverage"] <= 1 and metadata["rows"] == "20,480"
    if stage == "sparse_activations":
        assert metadata["k_stored"] == "16" and 0 < metadata["l0"] <= 16 and metadata["truncated_rows_share"] == 0


@demo_group
@pytest.mark.parametrize("stage", ["sparse_activations", "unit_stats", "unit_mapping", "detection_stats", "best_pairs"])
def test_pictures_are_inline(instance, stage):
    plot = latest(instance, stage).metadata["plot"]
    assert isinstance(plot, dg.MarkdownMetadataValue) and "data:image/png;base64,iVBOR" in (plot.md_str or "")


@demo_group
@pytest.mark.parametrize("stage", ORDER)
def test_checks_ran_and_passed(instance, stage):
    """Every check of the stage was evaluated on what was written."""
    for name in ("file_reads_back", *(check.name for check in STAGES[stage].checks)):
        key = dg.AssetCheckKey(asset_key(address(stage)), name)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        assert records and records[0].event is not None, name
        passed = records[0].event.dagster_event.asset_check_evaluation_data.passed
        assert passed == (name != "better_than_controls"), name  # some control is, and the check says so


@demo_group
def test_only_real_partitions_exist_and_the_history_has_every_run(instance):
    assert instance.get_dynamic_partitions("clevr_mini_chunks") == ["0000", "0001", "0002", "0003"]
    made = instance.get_materialized_partitions(asset_key(address("sparse_activations")))
    assert made == {multi_key("clip-mini", f"{number:04d}") for number in range(4)}
    runs = instance.get_runs()
    assert len(runs) == 28 and all(run.is_success for run in runs)


def test_graph_has_groups_kinds_descriptions_and_code_versions():
    specs = {spec.key.to_user_string(): spec for assets in build_assets(load_catalog()) for spec in assets.specs}
    assert len(specs) == 2 * (2 + 2 * (len(ORDER) - 2))
    for name, spec in specs.items():
        dataset, *kind, stage = name.split("/")
        assert spec.group_name == "__".join([dataset, *kind])  # so that two of one stage are told apart in the lineage
        assert spec.tags["dataset"] == dataset and spec.code_version.startswith(STAGES[stage].code_version), name
        assert spec.kinds == ({"html"} if stage == "report" else {"parquet"} | ({"pytorch"} if kind else set())), name
        assert load_catalog().datasets[dataset].description in spec.description, name
    op = next(a for a in build_assets(load_catalog()) if a.node_def.name == "clevr_mini__sparse_activations").op
    assert op.pool == "gpu"


def test_a_person_can_materialize_one_part(small):
    """One chunk of one token kind, as the UI launches it: nothing else is made."""
    with open_session(small["home"], small["catalog"]) as session:
        session.register("small")
        assets = list(build_assets(session.catalog))
        for selection, key in (
            ([dg.AssetKey(["small", "examples"])], "0001"),
            ([dg.AssetKey(["small", "patch", "sparse_activations"])], multi_key("clip-mini", "0001")),
        ):
            result = dg.materialize(
                assets, selection=selection, partition_key=key, instance=session.instance, resources=session.resources
            )
            assert result.success
        files = sorted(str(path.relative_to(session.store.root)) for path in session.store.files())
        assert files == ["small/examples/0001.parquet", "small/patch/clip-mini/sparse_activations/0001.parquet"]


def test_what_is_up_to_date_is_encoded_again_only_where_it_is_damaged_or_asked_for(tmp_path, monkeypatch):
    encoded: list[list[str]] = []
    encode = sparse_activations.encode_chunk

    def counting(chunk, token_kinds, **more):
        encoded.append(list(token_kinds))
        return encode(chunk, token_kinds, **more)

    monkeypatch.setattr(sparse_activations, "encode_chunk", counting)
    small = places_in(tmp_path)
    write_catalog(small["catalog"], make_dataset(small["root"], 4), chunk_size=2)
    with open_session(small["home"], small["catalog"]) as session:
        session.materialize(["small"], token_kinds=["patch"], chunks=["1"], last="sparse_activations")
        job = build_definitions(session.catalog, session.resources).resolve_implicit_global_asset_job_def()
        place = session.store.find(Address("small", "sparse_activations", "patch", "clip-mini", "0001"))
        content = place.read_bytes()

        def run(**config: object) -> dict[str, dg.AssetMaterialization]:
            encoded.clear()
            result = job.execute_in_process(
                instance=session.instance, partition_key=multi_key("clip-mini", "0001"),
                asset_selection=[dg.AssetKey(["small", kind, "sparse_activations"]) for kind in ("patch", "cls")],
                run_config={"ops": {"small__sparse_activations": {"config": config}},
                            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip
            blocking = [check for check in result.get_asset_check_evaluations() if check.blocking]
            assert len(blocking) == 2 * 2 and all(check.passed for check in blocking)
            assert len(result.get_asset_check_evaluations()) == 2 * (1 + len(STAGES["sparse_activations"].checks))
            made = [event.materialization for event in result.get_asset_materialization_events()]
            return {event.asset_key.path[1]: event for event in made}

        made = run()
        assert encoded == [["cls"]] and "kept" in made["patch"].metadata and "kept" not in made["cls"].metadata
        assert made["patch"].metadata["compression_ratio"].value > 1 and "seconds" not in made["patch"].metadata
        assert "seconds_of_pass" not in made["cls"].metadata
        run()
        assert encoded == []
        made = run(force=True)
        assert encoded == [["patch", "cls"]]
        shares = [event.metadata["seconds"].value for event in made.values()]
        (taken,) = {event.metadata["seconds_of_pass"].value for event in made.values()}
        assert sum(shares) == pytest.approx(taken, rel=1e-4)  # nothing is counted twice
        run(k_stored=3)
        assert encoded == [["patch", "cls"]]
        run()
        assert encoded == [["patch", "cls"]] and place.read_bytes() == content
        # A damaged payload under a whole header, and a damaged header.
        for damaged in (damaged_payload(content), content[: len(content) // 2]):
            place.write_bytes(damaged)
            run()
            assert encoded == [["patch"]] and place.read_bytes() == content


def test_sensor_registers_and_computes_nothing(small):
    settled = {"settle_seconds": 0, "close_after_seconds": 0}
    write_catalog(small["catalog"], small["root"], arrivals=settled)
    with open_session(small["home"], small["catalog"]) as session:
        from sae_assets.orchestration.automation.sensors import build_sensors

        sensor = next(s for s in build_sensors(session.catalog) if s.name == "small__register_chunks")
        assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
        with dg.build_sensor_context(instance=session.instance, resources=session.resources) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult) and not result.run_requests
        assert list(result.dynamic_partitions_requests[0].partition_keys) == ["0000", "0001", "0002"]
        session.instance.add_dynamic_partitions("small_chunks", ["0000", "0001", "0002"])
        with dg.build_sensor_context(instance=session.instance, resources=session.resources) as context:
            again = sensor(context)
        assert isinstance(again, dg.SkipReason)


def test_a_blocking_check_stops_what_follows(tmp_path, made_home, monkeypatch):
    """A damaged file fails its step: the stages after it do not run on it."""
    small = made_home(tmp_path, "sparse_activations")
    write = ArtifactStore.write

    def damaging(self, place, item):
        written = write(self, place, item)
        if place.stage == "unit_stats":
            content = written.path.read_bytes()
            written.path.write_bytes(content[:-40] + bytes(40))
        return written

    monkeypatch.setattr(ArtifactStore, "write", damaging)
    arguments = ["materialize", "-d", "small", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "file_reads_back" in result.stderr and "Traceback" not in result.stderr
    assert not (small["home"] / "store" / "small" / "patch" / "clip-mini" / "unit_mapping").exists()


def test_aggregates_hold_one_chunk_at_a_time(tmp_path, made_home, monkeypatch):
    """An aggregate asks for each chunk by itself, and drops it before the next; the store keeps none here."""
    import gc
    import weakref

    from sae_assets.orchestration import build
    from sae_assets.storage.chunk_reader import ChunkReader

    monkeypatch.setattr(build, "KEPT_MB", 0)

    small = made_home(tmp_path, "sparse_activations", n=4, chunk_size=1)  # four chunks
    arguments = ["-d", "small", "--home", str(small["home"]), "--catalog", str(small["catalog"])]
    alive: list[weakref.ref] = []
    most = 0
    read = ChunkReader.__getitem__

    def counting(self, key):
        nonlocal most
        if self.stage == "sparse_activations":
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive) + 1)
            item = read(self, key)
            alive.append(weakref.ref(item.artifact.values))
            return item
        return read(self, key)

    monkeypatch.setattr(ChunkReader, "__getitem__", counting)
    assert CliRunner().invoke(app, ["materialize", *arguments, "--to", "unit_stats"]).exit_code == 0
    # The one in hand, the one that is read ahead, and for a moment the one before, which is about to be dropped.
    assert len(alive) >= 4 and most <= 3


def test_json_of_materialize_and_config_reach_the_run(small):
    arguments = ["materialize", "-d", "SMALL", "-m", "CLIP-MINI", "--sample-type", "patch", "--chunks", "0,2"]
    arguments += ["--home", str(small["home"]), "--catalog", str(small["catalog"]), "--k-stored", "4", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--to", "sparse_activations"])
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["runs"] == 4
    with open_session(small["home"], small["catalog"]) as session:
        chunk = session.store.read(Address("small", "sparse_activations", "patch", "clip-mini", "0002"))
        assert chunk.artifact.k_stored == 4 and int(chunk.artifact.entries_per_row().max()) == 4
        assert chunk.artifact.n_truncated_rows > 0
        assert session.store.find(Address("small", "sparse_activations", "patch", "clip-mini", "0001")) is None


@pytest.mark.slow
def test_control_inputs_are_made_in_the_pass_that_encodes_where_they_are_switched_on(tmp_path, monkeypatch):
    """Off they are no assets; on, one pass makes both, and what is due alone is made alone."""
    calls: list[tuple[list[str], list[str]]] = []
    encode = sparse_activations.encode_chunk

    def counting(chunk, token_kinds, **more):
        calls.append((list(token_kinds), list(more["control_kinds"])))
        return encode(chunk, token_kinds, **more)

    monkeypatch.setattr(sparse_activations, "encode_chunk", counting)
    root, home = make_dataset(tmp_path / "data", 2), tmp_path / "home"
    where = [Address("small", "control_inputs", kind, "clip-mini", "0000") for kind in ("patch", "cls")]

    def materialize(controls: dict[str, int] | None) -> None:
        calls.clear()
        with open_session(home, write_catalog(tmp_path / "catalog.yaml", root, controls=controls)) as session:
            session.materialize(["small"], token_kinds=["patch", "cls"], last="control_inputs")
            assets = {key.path[-1] for key, _ in keys_of(session.catalog.datasets["small"])}
            planned = {each.stage for each in session.outlook("small").scope.addresses()}
            assert assets == planned == set(STAGES) - (set() if controls else {"control_inputs", "controls"})
            assert all((session.store.find(each) is not None) == bool(controls) for each in where)

    materialize(None)
    assert calls == [(["patch", "cls"], [])]
    materialize({"n_seeds": 1})
    assert calls == [(["patch", "cls"], ["patch", "cls"])]
    materialize({"n_seeds": 1})
    assert calls == []
    materialize({"n_seeds": 1, "rows_per_chunk": 9})
    with open_session(home, tmp_path / "catalog.yaml") as session:
        patch, cls = (session.store.read(each).artifact for each in where)
        sparse = session.store.read(Address("small", "sparse_activations", "patch", "clip-mini", "0000"))
        identity = session.store.header(where[0]).provenance.identity
    assert len(patch.row_ids) == 9 and len(cls.row_ids) == 2 and patch.n_seeds == 1
    assert torch.equal(patch.example_offsets, sparse.artifact.example_offsets)
    assert identity["encoder"] == sparse.provenance.identity["encoder"]
