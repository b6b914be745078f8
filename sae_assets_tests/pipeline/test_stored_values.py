"""A home whose values are stored in 16 bits: every stage of it, and everything that reads it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import sae_assets
from sae_assets.commands.session import open_session
from sae_assets.ops.rounding import to_significant
from sae_assets.pipeline.staleness import Staleness
from sae_assets.reading import Results
from sae_assets.reading.detector import Detector
from sae_assets.reading.detector_export import export_detector
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.helpers.homes import Places, invoke, places_in
from sae_assets_tests.helpers.swift import swift_homes
from sae_assets_tests.pipeline.recomputed import Recomputed
from sae_assets_tests.pipeline.small import WITH_CONTROLS, make_dataset, write_catalog

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("stored values")]
N, CHUNKS = 12, ("0000", "0001")


def home_of(folder: Path, stored_values: str, **entry: object) -> Places:
    places = places_in(folder)
    make_dataset(places["root"], N)
    write_catalog(places["catalog"], places["root"], detection={"min_support": 1, "n_permutations": 9}, **entry)
    store_as(places, stored_values)
    return places


def store_as(places: Places, stored_values: str) -> None:
    content = yaml.safe_load(places["catalog"].read_text())
    content["models"] = {"clip-mini": {"stored_values": stored_values}}
    places["catalog"].write_text(yaml.safe_dump(content))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Places]:
    """Everything of a data set in 16 bits, and activations of the same one in 32."""
    entries: dict[str, dict[str, object]] = {"float32": {}, "float16": WITH_CONTROLS}
    homes = {name: home_of(tmp_path_factory.mktemp(name), name, **entry) for name, entry in entries.items()}
    with swift_homes():
        activations = ["--to", "sparse_activations"]
        for name, kind, last in (
            ("float16", "patch", []), ("float16", "cls", activations), ("float32", "patch,cls", activations),
        ):  # fmt: skip
            result = invoke(homes[name], "materialize", "-d", "small", "--token-kind", kind, *last)
            assert result.exit_code == 0, result.output
    return homes


@pytest.fixture
def results(made: dict[str, Places]) -> Results:
    return sae_assets.open(made["float16"]["home"], made["float16"]["catalog"])["small"]["clip-mini"]["patch"]


def activations(places: Places, chunk: str, kind: str = "patch"):
    store = ArtifactStore(str(places["home"] / "store"))
    return store.read(Address("small", "sparse_activations", kind, "clip-mini", chunk))


@pytest.mark.parametrize("kind", ["patch", "cls"])
def test_activations_are_the_exact_ones_rounded(made, kind):
    """The same units of every row, with values of 11 bits; what is counted before rounding is as it was."""
    for chunk in CHUNKS:
        exact, halves = (activations(made[name], chunk, kind) for name in ("float32", "float16"))
        assert exact.artifact.stored_values is None and halves.artifact.stored_values == "float16"
        assert "stored_values" not in exact.provenance.config
        assert halves.provenance.config["stored_values"] == halves.counts["stored_values"] == "float16"
        tables = [torch.zeros(one.artifact.n_rows, 1024) for one in (exact, halves)]
        for table, one in zip(tables, (exact, halves), strict=True):
            table[one.artifact.row_of_entry(), one.artifact.unit_ids.long()] = one.artifact.values
        assert torch.equal(to_significant(tables[0]), tables[1]) and not torch.equal(*tables)
        for name in ("l0", "total_mass", "dropped_mass", "fit"):
            before, after = (getattr(one.artifact, name) for one in (exact, halves))
            assert torch.equal(before, after) if name == "l0" else before == after


def test_files_are_smaller_and_anybody_reads_them(made):
    """A float32 column; ``verify`` reads everything again and finds it whole."""
    sizes = {
        name: sum(path.stat().st_size for path in (places["home"] / "store").rglob("sparse_activations/*.parquet"))
        for name, places in made.items()
    }
    assert sizes["float16"] < 0.85 * sizes["float32"]  # of few rows, the header is a part
    assert invoke(made["float16"], "verify").exit_code == 0


def test_later_stages_are_what_follows_from_the_stored_values(made, results):
    """Statistics, pruning, thresholds and counts by NumPy from the written files, bit for bit where those are."""
    oracle = Recomputed(made["float16"]["home"] / "store" / "small", "patch", "clip-mini", "image", None, 1024)
    stats = results.table("unit_stats").to_pandas()
    for name in ("n_active", "max", "p95", "p99"):
        np.testing.assert_array_equal(stats[name].to_numpy(np.float64), oracle.stats[name].astype(np.float64))
    np.testing.assert_array_equal(results.table("unit_mapping").to_pandas()["reason"], oracle.reasons)
    cuts = results.table("thresholds").to_pandas()["threshold"].to_numpy(np.float64)
    np.testing.assert_array_equal(cuts, oracle.thresholds.ravel())
    found = results.table("detection_stats").to_pandas()
    for split, counts in oracle.counts.items():
        for name, cell in zip(("tp", "fp", "fn", "tn"), counts, strict=True):
            np.testing.assert_array_equal(found[f"{split}_{name}"].to_numpy(), cell.ravel())


def test_units_are_the_same_by_row_and_by_unit(results, made):
    """Where rows are sorted by unit, values are those that chunks store."""
    chunks = [activations(made["float16"], chunk).artifact for chunk in CHUNKS]
    by_unit = results.by_unit
    assert by_unit is not None
    for unit in chunks[0].unit_ids.unique().tolist()[:50]:
        expected = torch.cat([chunk.values[(chunk.unit_ids == unit).nonzero()[:, 0]] for chunk in chunks])
        assert sorted(by_unit.rows(unit)[2].tolist()) == sorted(expected.tolist())


def test_new_input_is_rounded_as_what_is_stored(made, results, tmp_path):
    """A copy of an example has its stored values, and a detector its stored scores."""
    picture = made["float16"]["root"] / results.reader.record(results.example_ids[0]).path
    chunk = activations(made["float16"], CHUNKS[0]).artifact
    code = results.encode([picture])[0].code
    first = int(chunk.row_offsets[int(chunk.example_offsets[1])])
    assert code.values.tolist() == chunk.values[:first].tolist()
    assert code.units.tolist() == chunk.unit_ids[:first].tolist()
    export_detector(results, tmp_path / "detector")
    assert json.loads((tmp_path / "detector" / "detector.json").read_text())["stored_values"] == "float16"
    (detected,) = Detector(tmp_path / "detector").detect([picture])
    assert detected.detections
    for one in detected.detections:
        mine = chunk.unit_ids[:first] == one.unit
        assert one.score == (float(chunk.values[:first][mine].max()) if bool(mine.any()) else 0.0)


def test_another_way_to_store_values_makes_activations_stale(made):
    """And says why."""
    places, address = made["float16"], Address("small", "sparse_activations", "patch", "clip-mini", CHUNKS[0])

    def reason() -> str:
        with open_session(places["home"], places["catalog"]) as session:
            return Staleness(session.catalog, session.store, {"small": CHUNKS}).reason(address)

    assert reason() == ""
    store_as(places, "float32")
    try:
        assert reason() == "settings: stored_values"
    finally:
        store_as(places, "float16")
