"""Files as others read them: the published dictionaries in ``.pt``, plain columns in Parquet."""

from pathlib import Path

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings

from sae_assets.artifacts import Artifact, FilteredActivations, SparseActivations, UnitMapping
from sae_assets.storage import html
from sae_assets.storage.address import Address
from sae_assets.storage.header import KEY
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.storage.small import ADDRESS, CONCEPTS, SMALL, provenance, small
from sae_assets_tests.storage.strategies import filtered_activations, sparse_activations, unit_mapping

thorough = settings(max_examples=25, deadline=None, database=None, derandomize=True)


def published(artifact: Artifact) -> dict:
    """The dictionary that anyone gets from the artifact's ``.pt`` file."""
    store = ArtifactStore(f"memory://published-{artifact.kind}", "pt")
    path = store.write(ADDRESS, stored(artifact, provenance())).path
    with path.open("rb") as file:
        return torch.load(file, weights_only=True)


def check_rows(artifact: SparseActivations | FilteredActivations, form: str) -> dict:
    content = published(artifact)
    assert set(content) == {"indices", "values", "format", "topk", KEY}
    assert content["format"] == form
    assert type(content["topk"]) is int
    indices, values = content["indices"], content["values"]
    assert (indices.dtype, values.dtype) == (torch.int32, torch.float32)
    assert indices.shape == values.shape == (artifact.n_rows, content["topk"])
    for row in range(artifact.n_rows):
        start, end = artifact.row_offsets[row : row + 2].tolist()
        kept = values[row] > 0
        assert indices[row][kept].tolist() == artifact.unit_ids[start:end].tolist()
        assert values[row][kept].tolist() == artifact.values[start:end].tolist()
        assert bool((values[row][~kept] == 0).all()) and bool((indices[row][~kept] == 0).all())
    return content


@thorough
@given(sparse_activations())
def test_sparse_dictionary(artifact: SparseActivations) -> None:
    """Exactly the published keys and one more; ids int32, values float32, [rows, topk], zeros where there is less."""
    content = check_rows(artifact, "sparse_topk")
    if artifact.k_stored is not None:
        assert content["topk"] == artifact.k_stored


@thorough
@given(filtered_activations())
def test_filtered_dictionary(artifact: FilteredActivations) -> None:
    """The same for filtered activations, wide as the fullest row, in kept indices."""
    content = check_rows(artifact, "sparse_filtered")
    assert content["topk"] == max(artifact.entries_per_row().tolist(), default=0)


@thorough
@given(unit_mapping())
def test_mapping_dictionary(artifact: UnitMapping) -> None:
    """Kept units ascending, each with its new index, and both widths."""
    content = published(artifact)
    assert set(content) == {"kept_units", "unit_id_to_new_idx", "n_original", "n_filtered", KEY}
    kept = [unit for unit, reason in enumerate(artifact.reasons.tolist()) if reason == 0]
    assert list(content["kept_units"]) == kept
    assert content["unit_id_to_new_idx"] == {unit: place for place, unit in enumerate(kept)}
    assert (content["n_original"], content["n_filtered"]) == (len(artifact.reasons), len(kept))


COLUMNS = {
    "examples": ["example_index", "example_id", "path", "file_hash"],
    "labels": ["example_index", "example_id", "split", "region_hashes", *(f"label:{c}" for c in CONCEPTS)],
    "sparse_activations": ["example_index", "position", "unit_ids", "values", "l0"],
    "filtered_activations": ["example_index", "position", "kept_indices", "values"],
    "ground_truth": ["example_index", "position", "concepts", "shown", "pixels"],
    "row_locations": ["example_index", "position", "start", "end", "left", "top", "right", "bottom"],
    "unit_rows": ["unit_id", "n_rows", "example_indices", "positions", "values"],
    "control_inputs": [
        *("example_index", "n_rows", "mean_embedding", "max_embedding", "positions", "row_embeddings"),
        *("random_counts", "random_units", "random_values"),
        *("row_random_counts", "row_random_units", "row_random_values"),
    ],
    "unit_stats": [
        *("unit_id", "n_active", "density", "sum", "sum_sq", "mean", "max", "p95", "p99", "selectivity"),
    ],
    "unit_mapping": ["unit_id", "kept_index", "reason"],
    "thresholds": ["concept", "unit_id", "kept_index", "tail_fraction", "threshold", "n_positive"],
    "detection_stats": [
        *("concept", "unit_id", "kept_index", "tail_fraction", "valid"),
        *("cal_tp", "cal_fp", "cal_fn", "cal_tn", "cal_f1", "test_tp", "test_fp", "test_fn", "test_tn", "test_f1"),
    ],
    "best_pairs": [
        *("concept", "unit_id", "chosen_by", "tail_fraction", "threshold"),
        *(
            f"{split}_{name}"
            for split in ("cal", "test")
            for name in (
                *("tp", "fp", "fn", "tn", "precision", "recall", "f1", "accuracy"),
                *("always_positive_f1", "null_f1_mean", "null_f1_p95", "p", "family_p", "q"),
            )
        ),
        *("test_auroc", "test_average_precision", "test_mcc", "test_balanced_accuracy", "test_brier", "test_ece"),
        *("test_f1_low", "test_f1_high", "test_auroc_low", "test_auroc_high", "test_length_auroc"),
        *("test_row_tp", "test_row_fp", "test_row_fn", "test_row_f1_low", "test_row_f1_high"),
        *("test_row_null_f1_mean", "test_row_null_f1_p95", "test_row_p", "test_row_family_p", "test_row_q"),
    ],
    "chosen_pairs": [
        *("concept", "unit_id", "threshold", "tail_fraction", "n_support", "chosen_by", "row_threshold"),
        *("example_unit_id", "cal_fold_f1"),
    ],
    "pruning_audit": [
        *("concept", "removed_by", "cal_loss"),
        *(
            f"{prefix}{name}"
            for prefix in ("", "kept_")
            for name in (
                *("unit_id", "threshold", "cal_tp", "cal_fp", "cal_fn", "cal_tn", "cal_f1"),
                *("test_tp", "test_fp", "test_fn", "test_tn", "test_f1"),
            )
        ),
    ],
    "row_alignment": [
        *("concept", "unit_id", "threshold"),
        *(
            f"{split}_{name}"
            for split in ("cal", "test")
            for name in ("tp", "fp", "fn", "precision", "recall", "f1", "iou", "ap")
        ),
        *("test_auroc", "test_purity_16", "test_pixel_iou"),
    ],
    "coalitions": [
        *("concept", "rule", "unit_ids", "thresholds"),
        *(f"{part}_{name}" for part in ("fit", "cal", "test") for name in ("tp", "fp", "fn", "tn", "f1")),
        *("test_f1_low", "test_f1_high", "test_difference", "test_difference_low", "test_difference_high"),
    ],
    "localization": [
        *("concept", "method", "located", "unit_id", "cutoff", "tail_fraction"),
        *(
            f"{split}_{name}"
            for split in ("cal", "test")
            for name in ("tp", "fp", "fn", "tn", "precision", "recall", "f1", "iou")
        ),
        *("test_f1_low", "test_f1_high", "superactivators", "direction_units", "direction_weights"),
    ],
    "controls": [
        *("level", "detector", "seed", "concept", "choice", "test_tp", "test_fp", "test_fn", "test_tn"),
        *("test_f1", "test_f1_low", "test_f1_high", "test_auroc", "test_auroc_low", "test_auroc_high", "test_ap"),
        *("difference", "difference_low", "difference_high"),
    ],
}


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_plain_columns_for_plain_pyarrow(tmp_path: Path, kind: str) -> None:
    """Every kind has its documented columns, in their order; nulls are nulls and never NaN."""
    path = ArtifactStore(str(tmp_path)).write(ADDRESS, small(kind)).path
    table = pq.read_table(str(path))
    assert table.column_names == COLUMNS[kind]
    floats = [name for name in table.column_names if pa.types.is_floating(table.schema.field(name).type)]
    assert not any(value is not None and value != value for name in floats for value in table[name].to_pylist())


@pytest.mark.parametrize("kind", list(COLUMNS))
def test_figures_are_doubles(tmp_path: Path, kind: str) -> None:
    """Every figure is float64: a density of 0.3 is 0.3 and not 0.30000001. Activations alone are float32, in lists."""
    schema = pq.read_schema(str(ArtifactStore(str(tmp_path)).write(ADDRESS, small(kind)).path))
    assert [field.name for field in schema if pa.types.is_floating(field.type) and field.type != pa.float64()] == []


def test_every_kind_has_documented_columns() -> None:
    """A new kind comes with its columns here."""
    assert set(COLUMNS) == set(SMALL) - set(html.KINDS)


def test_polars_reads_all_chunks_with_a_glob(tmp_path: Path) -> None:
    """Many chunks are one table: positions in the data set, lists of ids and values, l0."""
    store = ArtifactStore(str(tmp_path))
    for chunk in ("0000", "0001"):
        store.write(Address("pictures", "sparse_activations", "patch", "tiny", chunk), small("sparse_activations"))
    frame = polars.read_parquet(tmp_path / "pictures/patch/tiny/sparse_activations/*.parquet")
    assert frame.columns == COLUMNS["sparse_activations"]
    assert frame["example_index"].to_list() == [7, 7, 9] * 2
    assert frame["position"].to_list() == [0, 1, 0] * 2
    assert frame["unit_ids"].to_list() == [[4, 1], [], [0]] * 2
    assert frame["values"].to_list() == [[3.0, 0.5], [], [2.0]] * 2
    assert frame["l0"].to_list() == [3, 0, 1] * 2
    longest = frame.explode("unit_ids", "values", empty_as_null=False).group_by("unit_ids").len().sort("unit_ids")
    assert longest.rows() == [(0, 2), (1, 2), (4, 2)]


def test_tables_say_what_the_artifacts_say(tmp_path: Path) -> None:
    """Reasons and concepts by name, silent units and invalid pairs as nulls, derived columns filled in."""
    store = ArtifactStore(str(tmp_path))
    frames = {kind: polars.read_parquet(str(store.write(ADDRESS, small(kind)).path)) for kind in COLUMNS}
    assert frames["unit_mapping"].rows() == [
        (0, 0, "kept"),
        (1, None, "dead"),
        (2, None, "rare"),
        (3, 1, "kept"),
        (4, None, "over_target"),
    ]
    assert frames["ground_truth"]["concepts"].to_list() == [list(CONCEPTS), [], [CONCEPTS[1]]]
    assert frames["ground_truth"]["shown"].to_list() == [list(CONCEPTS), [CONCEPTS[0]], [CONCEPTS[1]]]
    assert frames["ground_truth"]["pixels"].to_list() == [[9, 4], [1], [16]]
    controls = frames["control_inputs"]
    assert controls["example_index"].to_list() == [7, 8, 9] and controls["positions"].to_list() == [[1], [], [0]]
    assert controls["row_embeddings"].to_list() == [[2.0, -3.0], [], [0.5, 4.0]]
    assert controls["random_counts"].to_list() == [[2, 1], [0, 0], [1, 0]]
    assert controls["random_units"].to_list() == [[0, 5, 3], [], [2]]
    assert controls["row_random_counts"].to_list() == [[1, 2], [], [1, 0]]
    assert controls["row_random_units"].to_list() == [[0, 3, 5], [], [2]]
    assert controls["row_random_values"].to_list() == [[1.5, 3.0, 0.5], [], [8.0]]
    stats = frames["unit_stats"]
    assert stats["mean"].to_list() == [2.0, None, 2.0]
    assert stats["density"].to_list() == [0.3, 0.0, 1.0]
    assert stats["max"].to_list() == [3.0, None, float("inf")]
    cuts = frames["thresholds"]
    assert cuts["concept"].to_list() == [CONCEPTS[0]] * 4 + [CONCEPTS[1]] * 4 + [None] * 4
    assert cuts["unit_id"].to_list() == [0, 0, 3, 3] * 3
    assert cuts["threshold"].to_list()[:4] == [2.0, 1.0, None, None]
    best = frames["best_pairs"]
    assert best["unit_id"].to_list() == [3, None]
    assert best["test_recall"].to_list() == [1.0, 0.0]
    chosen = frames["chosen_pairs"]
    assert chosen["cal_fold_f1"].to_list() == [0.75, None]
    assert chosen["chosen_by"].to_list() == ["rows", "examples"]
    audit = frames["pruning_audit"]
    assert audit["removed_by"].to_list() == ["rare", None]
    assert audit["cal_loss"].to_list() == [0.25, None]
    assert audit["kept_test_f1"].to_list() == [0.75, None]
    rows = frames["row_alignment"]
    assert rows["concept"].to_list() == [CONCEPTS[0]] * 2
    assert rows["cal_f1"].to_list() == [6 / 8, 4 / 16]
    assert rows["test_f1"].to_list() == [None, None]
    together = frames["coalitions"]
    assert together["rule"].to_list() == ["and", None] and together["unit_ids"].to_list() == [[3, 1], []]
    assert together["test_f1"].to_list() == [6 / 7, None]
    places = frames["localization"]
    assert places["test_iou"].to_list() == [1 / 5, 3 / 6, 4 / 7, 4 / 11, *[None] * 4]
    assert places["direction_units"].to_list() == [[], [], [1, 3], *[[]] * 5]
    detected = frames["detection_stats"]
    assert detected["valid"].to_list() == [True, True, False, False, True, True, True, True]
    assert detected["cal_f1"].to_list()[:5] == [0.4, 8 / 14, None, None, 0.0]
    labels = frames["labels"]
    assert labels[f"label:{CONCEPTS[0]}"].to_list() == [True, False, True]
