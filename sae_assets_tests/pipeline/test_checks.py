"""Asset checks can fail: each one is shown an artifact that breaks exactly what it tests."""

import copy

import pytest
import torch

from sae_assets.orchestration.checks import CHECKS, READABLE, Expected, evaluate
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore

pytestmark = pytest.mark.xdist_group("demo")

BREAKING = {
    ("examples", "contents_as_registered"): {},
    ("labels", "regions_as_registered"): {},
    ("ground_truth", "row_counts"): {"example_offsets": lambda t: t + (torch.arange(len(t)) == 1)},
    ("sparse_activations", "row_counts"): {"example_offsets": lambda t: t + (torch.arange(len(t)) == 1)},
    ("sparse_activations", "ids_in_range"): {"unit_ids": lambda t: t + 10**6},
    ("sparse_activations", "values_positive"): {"values": lambda t: t - 1e9},
    ("sparse_activations", "rows_sorted"): {"values": lambda t: t.flip(0)},
    ("sparse_activations", "little_mass_dropped"): {"dropped_mass": lambda v: 1e12},
    ("sparse_activations", "read_where_trained"): {},
    ("unit_stats", "some_units_active"): {"n_active": torch.zeros_like},
    ("unit_stats", "statistics_ordered"): {"p95": lambda t: t + 1e9},
    ("unit_mapping", "mapping_round_trip"): {"reasons": lambda t: t},
    ("filtered_activations", "row_counts"): {"example_offsets": lambda t: t + (torch.arange(len(t)) == 1)},
    ("filtered_activations", "ids_in_range"): {"unit_ids": lambda t: -t - 1},
    ("filtered_activations", "values_positive"): {"values": lambda t: t * torch.nan},
    ("filtered_activations", "rows_sorted"): {"values": lambda t: t.flip(0)},
    ("thresholds", "thresholds_monotone"): {"values": lambda t: t.flip(-1)},
    ("thresholds", "nulls_where_silent"): {"values": lambda t: t * torch.nan},
    ("detection_stats", "counts_add_up"): {"true_positives": lambda t: t + 10**6},
    ("best_pairs", "concepts_have_positives"): {"counts": torch.zeros_like},
}


def address(stage: str) -> Address:
    if stage in ("examples", "labels"):
        return Address("clevr_mini", stage, chunk="0000")
    chunk = "0000" if stage in ("ground_truth", "sparse_activations", "filtered_activations") else None
    return Address("clevr_mini", stage, "patch", "clip-mini", chunk)


def test_every_check_is_listed_here():
    assert set(BREAKING) == {(stage, check.name) for stage, checks in CHECKS.items() for check in checks}


@pytest.mark.parametrize(("stage", "name"), list(BREAKING))
def test_check_passes_on_the_real_and_fails_on_the_broken(demo, stage, name):
    artifact = ArtifactStore(str(demo["home"] / "store")).read(address(stage)).artifact
    check = next(check for check in CHECKS[stage] if check.name == name)
    expected = Expected(rows=256 if "row" in name else None)
    assert check.test(artifact, expected).passed
    broken = copy.copy(artifact)
    for field, change in BREAKING[stage, name].items():
        object.__setattr__(broken, field, change(getattr(artifact, field)))
    if name == "mapping_round_trip":
        index = artifact.kept_index.flip(0)
        broken = type("Broken", (), {"kept_units": artifact.kept_units, "kept_index": index})()
    if name == "read_where_trained":
        expected = Expected(elsewhere="trained at blocks.1.hook_resid_post")
    if stage in ("examples", "labels"):
        expected = Expected(changes={artifact.example_ids[0]: "changed"})
    assert not check.test(broken, expected).passed


def test_rows_of_every_single_example_are_compared(demo):
    """Texts differ in length: a tensor says how many rows each has; another number of examples is wrong altogether."""
    artifact = ArtifactStore(str(demo["home"] / "store")).read(address("sparse_activations")).artifact
    check = next(check for check in CHECKS["sparse_activations"] if check.name == "row_counts")
    lengths = artifact.example_offsets.diff()
    assert check.test(artifact, Expected(lengths)).passed
    assert check.test(artifact, Expected(lengths + 1)).metadata["examples_with_other_row_count"] == len(lengths)
    assert not check.test(artifact, Expected(lengths[1:])).passed


def test_a_file_that_cannot_be_read_fails_every_check(demo, tmp_path):
    store = ArtifactStore(str(tmp_path))
    results = list(evaluate("unit_stats", None, store, address("unit_stats")))
    assert results[0].check_name == READABLE
    assert not any(result.passed for result in results)
    assert "has not been materialized" in results[0].metadata["problem"].value
