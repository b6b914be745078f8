"""Every artifact refuses every kind of broken content, and its hash is of its content alone."""

import dataclasses
import math

import pytest
import torch

from sae_assets.artifacts import (
    REASONS,
    Artifact,
    BestPairs,
    DetectionStats,
    Examples,
    FilteredActivations,
    GroundTruth,
    Labels,
    SparseActivations,
    Thresholds,
    UnitMapping,
    UnitStats,
    offsets_of,
)
from sae_assets.artifacts.chosen_pairs import ChosenPairs
from sae_assets.artifacts.coalitions import CoalitionChoice
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.artifacts.controls import Controls
from sae_assets.artifacts.fit import FitSums
from sae_assets.artifacts.localization import Localization
from sae_assets.artifacts.pruning_audit import PruningAudit
from sae_assets.artifacts.report import Report
from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.artifacts.unit_rows import UnitRows
from sae_assets.errors import ArtifactError

NAN = math.nan


def ints(*values: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def int32(*values: int) -> torch.Tensor:
    return ints(*values, dtype=torch.int32)


def doubles(*values) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def floats(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


# One valid artifact of each class; each is made anew, so that no test shares tensors with another. ----------------


def examples() -> Examples:
    return Examples(
        first_index=4,
        example_ids=("a", "b", "c"),
        paths=("a.png", "b.png", "c.png"),
        file_hashes=("1", "2", "3"),
    )


def labels() -> Labels:
    return Labels(
        concepts=("red", "blue"),
        first_index=4,
        example_ids=("a", "b", "c"),
        splits=("train", "cal", "test"),
        labels=torch.tensor([[True, False], [False, False], [True, True]]),
        region_hashes=("{}", '{"red": "4"}', "{}"),
    )


def sparse_activations() -> SparseActivations:
    return SparseActivations(
        first_example=0,
        example_offsets=ints(0, 2, 2, 3),
        row_offsets=ints(0, 3, 3, 5),
        unit_ids=int32(4, 0, 2, 1, 3),
        values=floats(3, 1, 1, 2, 0.5),
        n_units=5,
        l0=int32(4, 0, 2),
        k_stored=3,
        total_mass=8.0,
        dropped_mass=0.5,
    )


def filtered_activations() -> FilteredActivations:
    return FilteredActivations(
        first_example=0,
        example_offsets=ints(0, 2, 2, 3),
        row_offsets=ints(0, 3, 3, 5),
        unit_ids=int32(4, 0, 2, 1, 3),
        values=floats(3, 1, 1, 2, 0.5),
        n_units=5,
        n_original=50,
    )


def ground_truth() -> GroundTruth:
    return GroundTruth(
        concepts=("red", "blue"),
        first_example=0,
        example_offsets=ints(0, 2, 3),
        row_offsets=ints(0, 2, 2, 3),
        concept_ids=int32(0, 1, 1),
        patch_pixels=16,
        cover_offsets=ints(0, 2, 3, 4),
        cover_ids=int32(0, 1, 0, 1),
        cover_pixels=int32(9, 4, 1, 16),
    )


def unit_stats() -> UnitStats:
    return UnitStats(
        n_rows=10,
        n_active=ints(0, 2, 10),
        total=doubles(0, 3, 20),
        total_sq=doubles(0, 5, 40),
        max=doubles(NAN, 2, 2),
        p95=doubles(NAN, 1.95, 2),
        p99=doubles(NAN, 1.99, 2),
    )


def unit_mapping() -> UnitMapping:
    return UnitMapping(
        reasons=ints(1, 0, 4, 0, 5, dtype=torch.uint8),
        mode="fixed",
        min_active=2,
        max_active=math.inf,
        strength_percentile=50.0,
        strength_cutoff=NAN,
        target_units=2,
    )


def thresholds() -> Thresholds:
    return Thresholds(
        concepts=("red",),
        kept_units=ints(1, 3),
        tail_fractions=(0.1, 0.5),
        n_positive=torch.tensor([[0, 3], [2, 5]]),
        values=doubles([[NAN, NAN], [2, 1]], [[4, 4], [3, 1]]),
    )


def detection_stats() -> DetectionStats:
    return DetectionStats(
        concepts=("red",),
        kept_units=ints(1, 3),
        tail_fractions=(0.1, 0.5),
        n_positive=torch.tensor([[3], [2]]),
        n_negative=torch.tensor([[4], [5]]),
        true_positives=torch.tensor([[[[0, 0], [1, 3]]], [[[0, 0], [0, 2]]]], dtype=torch.int32),
        false_positives=torch.tensor([[[[0, 0], [1, 4]]], [[[0, 0], [0, 0]]]], dtype=torch.int32),
        valid=torch.tensor([[False, True]]),
    )


def best_pairs() -> BestPairs:
    return BestPairs(
        concepts=("red", "blue"),
        unit_ids=ints(7, -1),
        tail_fractions=doubles(0.1, NAN),
        thresholds=doubles(1.5, NAN),
        by_rows=torch.tensor([True, False]),
        counts=torch.tensor([[[1, 2, 3, 4], [0, 0, 0, 10]], [[2, 2, 2, 2], [0, 0, 1, 7]]]),
        null_f1=torch.full((2, 2, 2), 0.25, dtype=torch.float64),
        p=doubles([NAN, NAN], [0.5, 1]),
        family_p=doubles([NAN, NAN], [1, 1]),
        q=doubles([NAN, NAN], [1, 1]),
        test_interval=doubles([0.1, 0.9], [NAN, NAN]),
        scores=torch.full((2, 6), 0.5, dtype=torch.float64),
        auroc_interval=doubles([0.4, 0.6], [0.4, 0.6]),
        length_auroc=doubles(0.5, 0.5),
        row_counts=torch.tensor([[6, 2, 1], [0, 0, 0]]),
        row_interval=doubles([0.5, 0.95], [NAN, NAN]),
        row_null_f1=doubles([0.2, 0.4], [NAN, NAN]),
        row_p=doubles(0.01, NAN),
        row_family_p=doubles(0.01, NAN),
        row_q=doubles(0.01, NAN),
        weighted_interval=doubles(0.1, 0.9),
        weighted_null=doubles(0.2, 0.4, 0.5),
        n_permutations=10,
        seed=0,
    )


def chosen_pairs() -> ChosenPairs:
    return ChosenPairs(
        concepts=("red", "blue"),
        selection="exact",
        choose_by="rows",
        min_support=3,
        unit_ids=ints(7, -1),
        thresholds=doubles(1.5, NAN),
        tail_fractions=doubles(0.1, NAN),
        support=ints(3, 0),
        by_rows=torch.tensor([True, False]),
        row_thresholds=doubles(1, NAN),
        example_unit_ids=ints(8, -1),
        seed=0,
    )


def pruning_audit() -> PruningAudit:
    return PruningAudit(
        concepts=("red", "blue"),
        min_support=3,
        units_by_reason=ints(2, 1, 1, 0, 0, 1),
        unit_ids=torch.tensor([[2, 3], [3, 3]]),
        thresholds=doubles([0.5, 2], [1.25, 2]),
        counts=torch.tensor(
            [
                [[[4, 0, 0, 6], [2, 0, 0, 8]], [[3, 1, 0, 6], [1, 0, 0, 9]]],
                [[[3, 1, 1, 5], [2, 0, 0, 8]], [[3, 2, 0, 5], [1, 0, 0, 9]]],
            ]
        ),
        reasons=ints(2, 0),
    )


def row_alignment() -> RowAlignment:
    return RowAlignment(
        concepts=("red", "blue"),
        n_units=9,
        n_rows=ints(20, 30),
        n_positive=torch.tensor([[4, 6], [5, 7]]),
        n_unlocated=torch.tensor([[0, 1], [0, 0]]),
        concept_ids=int32(0, 0),
        unit_ids=int32(8, 3),
        thresholds=doubles(0.5, 1.25),
        true_positives=torch.tensor([[3, 2], [4, 0]], dtype=torch.int32),
        predicted=torch.tensor([[4, 12], [5, 0]], dtype=torch.int32),
        average_precision=torch.tensor([[0.75, 0.5], [0.7, NAN]], dtype=torch.float64),
        auroc=doubles(0.9, NAN),
        purity=doubles(0.25, 0),
        pixel_iou=doubles(0.5, NAN),
        intervals=doubles([0.1, 0.9], [NAN, NAN]),
    )


def row_locations() -> RowLocations:
    """Of a text of two tokens and one of none."""
    return RowLocations(4, ints(0, 2, 2), int32([0, 3], [3, 7]), None)


def unit_rows() -> UnitRows:
    """Of three units: one that fires on rows of two examples, none, and one of one row; four rows there are."""
    return UnitRows(ints(0, 3, 3, 4), int32(0, 0, 2, 1), int32(1, 2, 0, 0), floats(2, 1, 3, 0.5), 4)


def controls() -> Controls:
    """Of one concept, with two random SAEs and no row figures; no k-sparse probe stands."""
    counts = [
        [4, 1, 0, 5],
        [1, 0, 3, 6],
        [2, 2, 2, 4],
        [3, 0, 1, 6],
        [4, 0, 0, 6],
        [4, 2, 0, 4],
        [0, 0, 4, 6],
        [1, 1, 3, 5],
    ]
    shares = doubles(0.9, 0.5, 0.6, 0.8, 1, 0.9, NAN, 0.4)[:, None]
    return Controls(
        concepts=("red",),
        n_seeds=2,
        n_units=9,
        d_model=3,
        fitted_on_cal=False,
        row_figures=False,
        n_items=torch.tensor([[30, 12, 10], [0, 0, 0]]),
        choices=torch.tensor([[8], [2], [3], [0], [1], [6], [-1], [4]]),
        counts=torch.tensor(counts)[:, None],
        intervals=torch.stack([shares / 2, shares], -1),
        auroc=shares,
        average_precision=shares,
        differences=torch.stack([shares[2:] - 0.5, shares[2:] - 1, shares[2:]], -1),
        weighted=torch.cat([shares[2:]] * 4, 1),
    )


def control_inputs() -> ControlInputs:
    return ControlInputs(
        first_example=4,
        example_offsets=ints(0, 2, 3),
        mean_embeddings=floats(1, 2, 3, 4).view(2, 2),
        max_embeddings=floats(1, 2, 3, 4).view(2, 2),
        row_ids=ints(0, 2),
        row_embeddings=floats(1, 2, 3, 4).view(2, 2),
        n_seeds=1,
        random_offsets=ints(0, 2, 3),
        random_units=int32(1, 4, 0),
        random_values=floats(2, 1, 3),
        n_units=5,
        d_model=2,
        row_random_offsets=ints(0, 1, 2),
        row_random_units=int32(4, 0),
        row_random_values=floats(1, 3),
    )


def localization() -> Localization:
    return Localization(
        concepts=("red", "blue"),
        n_units=9,
        located=torch.tensor([True, False]),
        unit_ids=ints(3, 8),
        cutoffs=doubles([2.5, 1], [1.5, NAN], [0.75, NAN]),
        tail_fractions=doubles([0.25, NAN], [0.5, NAN], [0.9, NAN]),
        counts=torch.tensor(
            [
                [[[1, 0, 3, 16], [0] * 4], [[1, 0, 4, 25], [0] * 4]],
                [[[2, 1, 2, 15], [0] * 4], [[3, 1, 2, 24], [0] * 4]],
                [[[4, 1, 0, 15], [0] * 4], [[4, 2, 1, 23], [0] * 4]],
            ]
        ),
        whole=torch.tensor([[[4, 4, 0, 12], [0] * 4], [[4, 6, 1, 19], [0] * 4]]),
        intervals=torch.full((3, 2, 2), NAN, dtype=torch.float64),
        n_superactivators=ints(2, 1),
        direction_offsets=ints(0, 2, 3),
        direction_units=int32(1, 3, 0),
        direction_weights=doubles(0.6, 0.8, 1),
    )


def coalitions() -> CoalitionChoice:
    return CoalitionChoice(
        concepts=("red", "blue"),
        n_units=9,
        halved=True,
        anded=torch.tensor([True, False]),
        member_offsets=ints(0, 2, 2),
        unit_ids=ints(3, 1),
        thresholds=doubles(0.5, 1.25),
        counts=torch.tensor(
            [[[6, 0, 1, 8], [0, 0, 3, 12]], [[4, 1, 0, 6], [0, 0, 2, 9]], [[3, 1, 0, 6], [0, 0, 1, 9]]]
        ),
        intervals=doubles([0.4, 0.95], [NAN, NAN]),
        differences=doubles([0.125, -0.25, 0.5], [NAN] * 3),
    )


def report() -> Report:
    return Report("<!doctype html>\n<p>1</p>")


MAKERS = (
    examples, labels, sparse_activations, filtered_activations, ground_truth, unit_stats, unit_mapping, thresholds,
    detection_stats, best_pairs, chosen_pairs, pruning_audit, row_alignment, row_locations, unit_rows, control_inputs,
    localization, coalitions, controls, report,
)  # fmt: skip
EACH = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


# Broken content -------------------------------------------------------------------------------------------------

ROWS = [
    ("a row is not sorted by value", {"values": floats(1, 3, 1, 2, 0.5)}, "row 0 is not sorted"),
    ("a later row is not sorted", {"values": floats(3, 1, 1, 0.5, 2)}, "row 2 is not sorted"),
    ("a tie is out of order", {"unit_ids": int32(4, 2, 0, 1, 3)}, "row 0 is not sorted.*unit ascending"),
    ("a unit twice in a row, tied", {"unit_ids": int32(4, 0, 0, 1, 3)}, "same unit twice"),
    ("a unit twice in a row, apart", {"unit_ids": int32(2, 0, 2, 1, 3)}, "same unit twice"),
    ("a value of 0", {"values": floats(3, 1, 1, 2, 0)}, "values must be finite and > 0"),
    ("a negative value", {"values": floats(3, 1, 1, 2, -1)}, "values must be finite and > 0"),
    ("an infinite value", {"values": floats(math.inf, 1, 1, 2, 0.5)}, "values must be finite and > 0"),
    ("a value that is no number", {"values": floats(NAN, 1, 1, 2, 0.5)}, "values must be finite and > 0"),
    ("a unit beyond the width", {"unit_ids": int32(5, 0, 2, 1, 3)}, r"unit ids span 0\.\.5, expected 0\.\.4"),
    ("a negative unit", {"unit_ids": int32(4, 0, 2, -1, 3)}, r"unit ids span -1\.\.4, expected 0\.\.4"),
    ("row offsets that start late", {"row_offsets": ints(1, 3, 3, 5)}, "row_offsets must start with 0"),
    ("row offsets that end early", {"row_offsets": ints(0, 3, 3, 4)}, "row_offsets ends at 4, expected 5"),
    ("row offsets that decrease", {"row_offsets": ints(0, 4, 3, 5)}, "row_offsets must not decrease"),
    ("no row offsets", {"row_offsets": ints()}, "row_offsets must start with 0"),
    ("example offsets that end late", {"example_offsets": ints(0, 2, 4)}, "example_offsets ends at 4, expected 3"),
    ("example offsets that decrease", {"example_offsets": ints(0, 3, 2, 3)}, "example_offsets must not decrease"),
    ("offsets of another type", {"row_offsets": int32(0, 3, 3, 5)}, "row_offsets has dtype torch.int32"),
    ("ids of another type", {"unit_ids": ints(4, 0, 2, 1, 3)}, "unit_ids has dtype torch.int64"),
    ("values of another type", {"values": doubles(3, 1, 1, 2, 0.5)}, "values has dtype torch.float64"),
    ("fewer ids than values", {"unit_ids": int32(4, 0, 2, 1)}, r"unit_ids has shape \(4,\), expected \(5,\)"),
]

BROKEN = [
    *((sparse_activations, *case) for case in ROWS),
    *((filtered_activations, *case) for case in ROWS),
    (sparse_activations, "fewer entries than l0", {"l0": int32(4, 1, 2)}, r"store min\(l0, k_stored\) entries"),
    (sparse_activations, "more entries than l0", {"l0": int32(2, 0, 2)}, r"store min\(l0, k_stored\) entries"),
    (sparse_activations, "l0 truncated by nothing", {"k_stored": None}, r"store min\(l0, k_stored\) entries"),
    (sparse_activations, "more entries than k_stored", {"k_stored": 2}, r"store min\(l0, k_stored\) entries"),
    (sparse_activations, "l0 of other rows", {"l0": int32(4, 0)}, r"l0 has shape \(2,\), expected \(3,\)"),
    (sparse_activations, "l0 of another type", {"l0": ints(4, 0, 2)}, "l0 has dtype torch.int64"),
    (sparse_activations, "more dropped than there was", {"dropped_mass": 9.0}, "dropped mass 9.0 is not within"),
    (sparse_activations, "a negative dropped mass", {"dropped_mass": -1.0}, "dropped mass -1.0 is not within"),
    (sparse_activations, "a mass that is no number", {"total_mass": NAN}, "dropped mass"),
    (sparse_activations, "a fit of more rows", {"fit": FitSums(4, (1.0,), 1.0, 1.0)}, "is of 4 rows, more than"),
    (sparse_activations, "a fit of no number of rows", {"fit": FitSums(-1, (1.0,), 1.0, 1.0)}, "is of -1 rows"),
    (sparse_activations, "a negative residual", {"fit": FitSums(3, (1.0,), 1.0, -1.0)}, r"are 1\.0 and -1\.0"),
    (sparse_activations, "a fit that is no number", {"fit": FitSums(3, (NAN,), 1.0, 1.0)}, "row_sum of the fit"),
    (examples, "no examples", {"example_ids": (), "paths": (), "file_hashes": ()}, "at least one example"),
    (examples, "an id twice", {"example_ids": ("a", "b", "a")}, "example ids are not unique"),
    (labels, "no examples", {
        "example_ids": (), "splits": (), "region_hashes": (), "labels": torch.zeros(0, 2, dtype=torch.bool),
    }, "at least one example"),
    (labels, "an id twice", {"example_ids": ("a", "b", "a")}, "example ids are not unique"),
    (labels, "no regions", {"region_hashes": ()}, "region_hashes has 0 entries, expected 3"),
    (labels, "an unknown split", {"splits": ("train", "cal", "val")}, r"unknown splits \['val'\], expected"),
    (examples, "fewer paths", {"paths": ("a.png",)}, "paths has 1 entries, expected 3"),
    (examples, "more hashes", {"file_hashes": ("1", "2", "3", "4")}, "file_hashes has 4 entries, expected 3"),
    (labels, "fewer splits", {"splits": ("cal",)}, "splits has 1 entries, expected 3"),
    (labels, "labels of other concepts", {"labels": torch.ones(3, 1, dtype=torch.bool)}, "labels has shape"),
    (labels, "labels of another type", {"labels": torch.ones(3, 2)}, "labels has dtype torch.float32"),
    (ground_truth, "a concept beyond the list", {"concept_ids": int32(0, 2, 1)}, r"concept ids must lie in 0\.\.1"),
    (ground_truth, "a negative concept", {"concept_ids": int32(-1, 1, 1)}, r"concept ids must lie in 0\.\.1"),
    (ground_truth, "concepts out of order", {"concept_ids": int32(1, 0, 1)}, "must ascend without repeats"),
    (ground_truth, "a concept twice in a row", {"concept_ids": int32(1, 1, 1)}, "must ascend without repeats"),
    (ground_truth, "row offsets that end early", {"row_offsets": ints(0, 2, 2, 2)}, "row_offsets ends at 2"),
    (ground_truth, "rows of other examples", {"example_offsets": ints(0, 2)}, "example_offsets ends at 2"),
    (ground_truth, "ids of another type", {"concept_ids": ints(0, 1, 1)}, "concept_ids has dtype torch.int64"),
    (ground_truth, "pixels without a size", {"patch_pixels": None}, "given together or not at all"),
    (ground_truth, "more pixels than a patch has", {"cover_pixels": int32(9, 4, 1, 17)}, r"must lie in 1\.\.16"),
    (ground_truth, "a concept shown by no pixel", {"cover_pixels": int32(9, 0, 1, 16)}, r"must lie in 1\.\.16"),
    (ground_truth, "fewer pixels than covers", {"cover_pixels": int32(9, 4, 1)}, r"cover_pixels has shape \(3,\)"),
    (ground_truth, "covers of other rows", {"cover_offsets": ints(0, 2, 4)}, "cover_offsets are of 2 rows, expected 3"),
    (ground_truth, "covers that end early", {"cover_offsets": ints(0, 2, 3, 3)}, "cover_offsets ends at 3"),
    (ground_truth, "a cover beyond the list", {"cover_ids": int32(0, 2, 0, 1)}, r"concept ids must lie in 0\.\.1"),
    (ground_truth, "positive without a pixel", {"cover_ids": int32(0, 1, 0, 0)}, "shows pixels of it"),
    (unit_stats, "more active rows than rows", {"n_active": ints(0, 2, 11)}, r"n_active must lie in 0\.\.10"),
    (unit_stats, "a negative count", {"n_active": ints(-1, 2, 10)}, r"n_active must lie in 0\.\.10"),
    (unit_stats, "0 for null", {"max": doubles(0, 2, 2)}, "max must be null exactly where n_active is 0"),
    (unit_stats, "null for a value", {"p95": doubles(NAN, NAN, 2)}, "p95 must be null exactly where n_active is 0"),
    (unit_stats, "p95 above p99", {"p95": doubles(NAN, 2, 2)}, "p95 ≤ p99 ≤ max must hold"),
    (unit_stats, "p99 above max", {"p99": doubles(NAN, 3, 2)}, "p95 ≤ p99 ≤ max must hold"),
    (unit_stats, "counts of another type", {"n_active": int32(0, 2, 10)}, "n_active has dtype torch.int32"),
    (unit_stats, "sums of another type", {"total": floats(0, 3, 20)}, "total has dtype torch.float32"),
    (unit_stats, "sums of fewer units", {"total_sq": doubles(0, 5)}, r"total_sq has shape \(2,\), expected \(3,\)"),
    (unit_stats, "quantiles of fewer units", {"p99": doubles(NAN, 1.99)}, r"p99 has shape \(2,\), expected \(3,\)"),
    (unit_mapping, "an unknown reason", {"reasons": ints(0, 6, dtype=torch.uint8)}, r"reasons must lie in 0\.\.5"),
    (unit_mapping, "nothing kept", {"reasons": ints(1, 2, dtype=torch.uint8)}, "keep at least one unit"),
    (unit_mapping, "no units", {"reasons": ints(dtype=torch.uint8)}, "keep at least one unit"),
    (unit_mapping, "more kept than the target", {"target_units": 1}, "2 units are kept, more than the target of 1"),
    (unit_mapping, "reasons of another type", {"reasons": ints(0, 1)}, "reasons has dtype torch.int64"),
    (thresholds, "thresholds that rise", {
        "values": doubles([[NAN, NAN], [1, 2]], [[4, 4], [3, 1]])}, "must not rise with the tail fraction"),
    (thresholds, "a threshold without values", {
        "values": doubles([[1, 1], [2, 1]], [[4, 4], [3, 1]])}, "null exactly where n_positive is 0"),
    (thresholds, "null with values", {
        "values": doubles([[NAN, NAN], [2, 1]], [[NAN, NAN], [3, 1]])}, "null exactly where n_positive is 0"),
    (thresholds, "half a null", {
        "values": doubles([[NAN, NAN], [2, NAN]], [[4, 4], [3, 1]])}, "null exactly where n_positive is 0"),
    (thresholds, "a threshold of 0", {
        "values": doubles([[NAN, NAN], [2, 0]], [[4, 4], [3, 1]])}, "thresholds must be > 0"),
    (thresholds, "fractions that descend", {"tail_fractions": (0.5, 0.1)}, "must ascend without repeats"),
    (thresholds, "a fraction twice", {"tail_fractions": (0.1, 0.1)}, "must ascend without repeats"),
    (thresholds, "values of other fractions", {"tail_fractions": (0.1, 0.2, 0.5)}, "values has shape"),
    (thresholds, "values of other concepts", {"concepts": ("red", "blue")}, "n_positive has shape"),
    (thresholds, "values of another type", {"values": torch.ones(2, 2, 2)}, "values has dtype torch.float32"),
    (detection_stats, "more found than there are", {"n_positive": torch.tensor([[2], [2]])},
     "true positives must lie between 0 and the number of examples"),
    (detection_stats, "more false than there are", {"n_negative": torch.tensor([[3], [5]])},
     "false positives must lie between 0 and the number of examples"),
    (detection_stats, "a negative count", {
        "true_positives": torch.tensor([[[[0, 0], [-1, 3]]], [[[0, 0], [0, 2]]]], dtype=torch.int32)},
     "true positives must lie between 0"),
    (detection_stats, "an invalid pair that detects", {"valid": torch.tensor([[False, False]])},
     "an invalid pair never detects"),
    (detection_stats, "fewer found with a larger fraction", {
        "true_positives": torch.tensor([[[[0, 0], [3, 1]]], [[[0, 0], [0, 2]]]], dtype=torch.int32)},
     "true positives must not fall as the tail fraction grows"),
    (detection_stats, "counts of another type", {"true_positives": torch.zeros(2, 1, 2, 2, dtype=torch.int64)},
     "true_positives has dtype torch.int64"),
    (detection_stats, "counts of other units", {"kept_units": ints(1, 3, 5)}, "true_positives has shape"),
    (best_pairs, "a threshold without a pair", {"thresholds": doubles(1.5, 2)}, "null exactly where no pair"),
    (best_pairs, "a pair without a threshold", {"unit_ids": ints(7, 8)}, "null exactly where no pair"),
    (best_pairs, "counts of other concepts", {"concepts": ("red",)}, "counts has shape"),
    (best_pairs, "counts of another type", {"counts": torch.ones(2, 2, 4)}, "counts has dtype torch.float32"),
    (best_pairs, "intervals of another type", {"test_interval": torch.ones(2, 2)}, "test_interval has dtype"),
    (best_pairs, "half an interval of AUROC", {"auroc_interval": doubles(0.1, 0.9)}, "auroc_interval has shape"),
    (best_pairs, "a negative count", {
        "counts": torch.tensor([[[-1, 2, 5, 4], [0, 0, 0, 10]], [[2, 2, 2, 2], [0, 0, 1, 7]]])}, "counts must"),
    (best_pairs, "half a weighted interval", {"weighted_interval": doubles(0.1)}, "weighted_interval has shape"),
    (best_pairs, "a p of 0", {"p": doubles([0, NAN], [0.5, 1])}, "p must lie above 0"),
    (best_pairs, "a q above 1", {"q": doubles([0.5, NAN], [0.5, 1.5])}, "q must lie above 0 and not above 1"),
    (best_pairs, "scores of other concepts", {"scores": torch.ones(1, 6).double()}, "scores has shape"),
    (chosen_pairs, "a threshold without a pair", {"thresholds": doubles(1.5, 2)}, "null exactly where no pair"),
    (chosen_pairs, "support without a pair", {"support": ints(3, 1)}, "support must be 0 or more"),
    (chosen_pairs, "a rule that does not exist", {"selection": "best"}, "no such rule"),
    (chosen_pairs, "rows that were not asked", {"choose_by": "examples"}, "rows choose units only where"),
    (chosen_pairs, "folds without a figure", {"n_folds": 5}, "n_folds is 5: 0 without fold_f1"),
    (chosen_pairs, "a figure without folds", {"fold_f1": doubles(0.5, NAN)}, "n_folds is 0: 0 without fold_f1"),
    (chosen_pairs, "a single fold", {"n_folds": 1, "fold_f1": doubles(0.5, NAN)}, "at least 2 with it"),
    (chosen_pairs, "folds of other concepts", {"n_folds": 5, "fold_f1": doubles(0.5)}, "fold_f1 has shape"),
    (best_pairs, "half a weighted chance", {"weighted_null": doubles(0.1)}, "weighted_null has shape"),
    (coalitions, "a count below 0", {"counts": torch.full((3, 2, 4), -1)}, "counts must not be negative"),
    (coalitions, "a unit that does not exist", {"unit_ids": ints(3, 9)}, "unit ids must lie in 0..8"),
    (coalitions, "a threshold of 0", {"thresholds": doubles(0, 1)}, "thresholds must be > 0"),
    (coalitions, "a member twice", {"unit_ids": ints(3, 3)}, "names the same unit twice"),
    (coalitions, "a rule for nobody", {"anded": torch.tensor([True, True])}, "a rule is for members"),
    (coalitions, "detections of nobody", {"counts": torch.ones(3, 2, 4).long()}, "nothing is detected without members"),
    (coalitions, "members left over", {"member_offsets": ints(0, 1, 1)}, "member_offsets ends at 1"),
    (coalitions, "an F1 above 1", {"intervals": doubles([0, 2], [NAN, NAN])}, "intervals must lie between 0 and 1"),
    (coalitions, "a difference above 1", {"differences": doubles([2, 0, 0], [NAN] * 3)}, "between -1 and 1"),
    (report, "no page", {"html": "<p>1</p>"}, "begins with"),
    (localization, "a unit without a threshold", {"unit_ids": ints(-1, 8)}, "null exactly where"),
    (localization, "a unit that does not exist", {"unit_ids": ints(3, 9)}, "unit ids must lie in 0..8"),
    (localization, "a choice without location", {"located": torch.tensor([False, False])}, "of located concepts alone"),
    (localization, "a cut-off of 0", {"cutoffs": doubles([2.5, 1], [0, NAN], [1, NAN])}, "must be > 0"),
    (localization, "a stricter cut-off", {"cutoffs": doubles([2.5, 1], [3, NAN], [1, NAN])}, "must not be above the"),
    (localization, "a share above 1", {"tail_fractions": doubles([2, 1], [1, 1], [1, 1])}, "between 0 and 1"),
    (localization, "a count below 0", {"whole": torch.full((2, 2, 4), -1)}, "counts must not be negative"),
    (localization, "a count of nobody", {"counts": torch.ones(3, 2, 2, 4).long()}, "nothing is counted where"),
    (localization, "rows of other examples", {"whole": torch.tensor([[[0, 0, 4, 16], [0] * 4]] * 2)}, "only rows of"),
    (localization, "other rows", {"whole": torch.tensor([[[4, 4, 1, 12], [0] * 4]] * 2)}, "must count the rows"),
    (localization, "rows without a direction", {"direction_offsets": ints(0, 3, 3)}, "exactly where superactivators"),
    (localization, "a direction of other units", {"direction_units": int32(1, 9, 0)}, "direction units must lie"),
    (localization, "a weight of 0", {"direction_weights": doubles(0, 0.8, 1)}, "weights of a direction must be > 0"),
    (localization, "units in disorder", {"direction_units": int32(3, 1, 0)}, "must ascend without repeats"),
    (pruning_audit, "no support asked for", {"min_support": 0}, "min_support is 0"),
    (pruning_audit, "a negative count", {"units_by_reason": ints(-1, 1, 1, 0, 0, 1)}, "counts must not be negative"),
    (pruning_audit, "a unit without a threshold", {"thresholds": doubles([0.5, 2], [1.25, NAN])}, "null exactly where"),
    (pruning_audit, "a threshold of 0", {"thresholds": doubles([0, 2], [1.25, 2])}, "thresholds must be > 0"),
    (pruning_audit, "a rule that does not exist", {"reasons": ints(6, 0)}, "a reason must be known"),
    (pruning_audit, "no reason of a best unit", {"reasons": ints(-1, 0)}, "a reason must be known"),
    (pruning_audit, "another best unit that is kept", {"reasons": ints(0, 0)}, "is the best kept one"),
    (pruning_audit, "a better unit among the kept", {
        "counts": pruning_audit().counts.flip(0)}, "no kept unit has a higher cal F1"),
    (pruning_audit, "detections without a unit", {
        "unit_ids": torch.tensor([[2, -1], [3, 3]]), "thresholds": doubles([0.5, NAN], [1.25, 2]),
        "reasons": ints(2, -1)}, "nothing is detected where no unit"),
    (pruning_audit, "rules of another number", {"units_by_reason": ints(1, 2)}, "units_by_reason has shape"),
    (unit_rows, "an inactive pair", {"values": floats(2, 0, 3, 0.5)}, "inactive pair is not stored"),
    (unit_rows, "a value that is not finite", {"values": floats(2, 1, torch.inf, 0.5)}, "finite and > 0"),
    (unit_rows, "an example before the first", {"examples": int32(-1, 0, 2, 1)}, "must not be negative"),
    (unit_rows, "a row twice", {"positions": int32(2, 2, 0, 0)}, "each once"),
    (unit_rows, "examples that do not ascend", {"examples": int32(2, 0, 2, 1)}, "ascend by example"),
    (unit_rows, "more entries than rows", {"n_rows": 2}, "a unit has more entries than the 2 rows there are"),
    (unit_rows, "offsets of other entries", {"unit_offsets": ints(0, 3, 3, 5)}, "unit_offsets"),
    (unit_rows, "positions of other entries", {"positions": int32(1, 2, 0)}, "positions has shape"),
    (row_locations, "a span that ends before it starts", {"spans": int32([0, 3], [3, 2])}, "not end before it starts"),
    (row_locations, "spans of other rows", {"spans": int32([0, 3])}, "spans has shape"),
    (row_locations, "rows of a text and of a picture", {"transforms": int32([1] * 6, [1] * 6)}, "not in both"),
    (row_locations, "a picture of another grid", {
        "spans": None, "transforms": int32([1] * 6, [1] * 6), "grid": (3, 1), "patch": (8, 8)}, "3x1 rows of its grid"),
    (row_locations, "a picture without pixels", {
        "spans": None, "transforms": int32([0] * 6, [0] * 6), "grid": (1, 1), "patch": (8, 8)}, "at least one pixel"),
    (row_alignment, "the worse pair first", {"predicted": int32([9, 2], [5, 0])}, "ordered by cal F1"),
    (row_alignment, "a unit twice", {"unit_ids": int32(8, 8)}, "names the same unit twice"),
    (row_alignment, "a unit beyond the SAE", {"unit_ids": int32(9, 3)}, r"unit ids span 3\.\.9, expected 0\.\.8"),
    (row_alignment, "a concept beyond the last", {"concept_ids": int32(0, 2)}, r"concept ids span 0\.\.2"),
    (row_alignment, "concepts out of order", {"concept_ids": int32(1, 0)}, "concept ids must ascend"),
    (row_alignment, "pairs of a concept that is nowhere located", {"n_unlocated": torch.tensor([[1, 0], [0, 0]])},
     "not located everywhere has no pairs"),
    (row_alignment, "more found than there are", {"true_positives": int32([5, 2], [4, 0])}, "true positives must lie"),
    (row_alignment, "fewer predicted than found", {"predicted": int32([2, 12], [5, 0])}, "predicted rows must lie"),
    (row_alignment, "a pair that never meets", {"true_positives": int32([3, 0], [4, 0])}, "has a threshold > 0"),
    (row_alignment, "no threshold", {"thresholds": doubles(0.5, NAN)}, "has a threshold > 0"),
    (row_alignment, "more positive rows than rows", {"n_positive": torch.tensor([[4, 21], [5, 7]])},
     "positive rows must lie"),
    (row_alignment, "a negative number of examples", {"n_unlocated": torch.tensor([[0, -1], [0, 0]])},
     "n_unlocated must not"),
    (row_alignment, "more pixels than there are", {"pixel_iou": doubles(1.5, NAN)}, "pixel_iou must lie between"),
    (row_alignment, "an area above 1", {"auroc": doubles(1.5, NAN)}, "auroc must lie between 0 and 1"),
    (control_inputs, "a row that is not there", {"row_ids": ints(0, 3)}, r"row_ids must lie in 0\.\.2"),
    (control_inputs, "a row twice", {"row_ids": ints(2, 2)}, "row_ids must ascend"),
    (control_inputs, "embeddings of another width", {"d_model": 3}, "mean_embeddings has shape"),
    (control_inputs, "a row without an embedding", {"row_ids": ints(0, 1, 2)}, "row_embeddings has shape"),
    (control_inputs, "an embedding that is no number", {"max_embeddings": floats(1, 2, NAN, 4).view(2, 2)},
     "max_embeddings holds values that are not finite"),
    (control_inputs, "scores of another number of SAEs", {"n_seeds": 2}, "random_offsets has shape"),
    (control_inputs, "scores that end early", {"random_offsets": ints(0, 1, 2)}, "random_offsets ends at 2"),
    (control_inputs, "a score of 0", {"random_values": floats(2, 0, 3)}, "random_values must be finite and > 0"),
    (control_inputs, "an infinite score", {"random_values": floats(2, math.inf, 3)}, "random_values must be finite"),
    (control_inputs, "a unit that there is not", {"n_units": 4}, r"random_units must lie in 0\.\.3"),
    (control_inputs, "values of rows without units", {"row_random_units": None}, "are given together or not"),
    (control_inputs, "rows whose values end early", {"row_random_offsets": ints(0, 1, 1)}, "row_random_offsets ends"),
    (control_inputs, "a value of 0 on a row", {"row_random_values": floats(1, 0)}, "row_random_values must be finite"),
    (control_inputs, "units out of order", {"random_units": int32(4, 1, 0)}, "random_units of an example or row"),
    (row_alignment, "intervals of other concepts", {"intervals": doubles([0.1, 0.9])}, "intervals has shape"),
    (controls, "figures of fewer random SAEs", {"n_seeds": 1}, "choices has shape"),
    (controls, "figures of rows that are not there", {"row_figures": True}, "choices has shape"),
    (controls, "detections without a detector", {"choices": torch.full((8, 1), -1)}, "nothing is detected"),
    (controls, "a negative count", {"counts": controls().counts - 1}, "counts must not be negative"),
    (controls, "an area above 1", {"auroc": controls().auroc + 1}, "auroc must lie between 0 and 1"),
    (controls, "a figure without a detector", {"auroc": controls().auroc.nan_to_num(0.5)}, "auroc must be null"),
    (controls, "rows without figures", {"n_items": torch.ones(2, 3, dtype=torch.int64)}, "there are no row figures"),
    (controls, "random SAEs on rows that are not there", {"n_row_seeds": 2}, "2 random SAEs classified rows"),
    (controls, "controls of rows that are not there", {"row_controls": ("k_sparse",)}, "None without row figures"),
    (controls, "an interval elsewhere", {"differences": controls().differences.flip(-1)}, "within its interval"),
]  # fmt: skip


@EACH
def test_valid_content_is_taken(make):
    """Each starting point of the tests below is without problems."""
    assert list(make().problems()) == []


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [pytest.param(make, changes, text, id=f"{make.__name__}: {name}") for make, name, changes, text in BROKEN],
)
def test_broken_content_is_refused(make, changes, message):
    """One change to a valid artifact, and the error names the artifact and the broken rule."""
    valid = make()
    with pytest.raises(ArtifactError, match=rf"(?s){type(valid).__name__} breaks its invariants:.*{message}"):
        dataclasses.replace(valid, **changes)


def test_what_its_maker_examined_is_taken_as_it_is():
    """And found by whoever looks; its hash is that of its content, whether or not it was examined."""
    assert dataclasses.replace(labels(), examined=True) == labels()
    taken = dataclasses.replace(sparse_activations(), dropped_mass=9.0, examined=True)
    assert len(list(taken.problems())) == 1


def test_all_problems_are_raised_at_once():
    """Two broken rules are two lines of one error."""
    with pytest.raises(ArtifactError) as caught:
        dataclasses.replace(sparse_activations(), values=floats(3, 1, 1, 2, -1), dropped_mass=9.0)
    assert len(caught.value.problems) == 2 and isinstance(caught.value, ValueError)


@EACH
def test_artifacts_are_frozen(make):
    """No field can be replaced afterwards, so what was checked stays true."""
    artifact = make()
    name = dataclasses.fields(artifact)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(artifact, name, None)


# Content hashes -------------------------------------------------------------------------------------------------

CHANGED = [
    (labels, {"splits": ("cal", "cal", "test")}),
    (labels, {"region_hashes": ("{}", "{}", "{}")}),
    (examples, {"file_hashes": ("1", "2", "4")}),
    (row_locations, {"spans": int32([0, 3], [3, 8])}),
    (unit_rows, {"values": floats(2, 1, 3, 0.25)}),
    (examples, {"example_ids": ("a", "c", "b")}),
    (examples, {"first_index": 5}),
    (sparse_activations, {"values": floats(3, 1, 1, 2, 0.25)}),
    (sparse_activations, {"example_offsets": ints(0, 1, 2, 3)}),
    (sparse_activations, {"total_mass": 9.0}),
    (sparse_activations, {"fit": FitSums(3, (1.0,), 2.0, 1.0)}),
    (sparse_activations, {"n_units": 6}),
    (filtered_activations, {"n_original": 51}),
    (ground_truth, {"concepts": ("blue", "red")}),
    (ground_truth, {"concept_ids": int32(0, 1, 0), "cover_ids": int32(0, 1, 0, 0)}),
    (ground_truth, {"cover_pixels": int32(8, 4, 1, 16)}),
    (unit_stats, {"n_rows": 11}),
    (unit_stats, {"total": doubles(0, 3, 21)}),
    (unit_mapping, {"reasons": ints(2, 0, 4, 0, 5, dtype=torch.uint8)}),
    (unit_mapping, {"strength_cutoff": 1.0}),
    (thresholds, {"tail_fractions": (0.1, 0.6)}),
    (thresholds, {"values": doubles([[NAN, NAN], [2, 1]], [[4, 3], [3, 1]])}),
    (detection_stats, {"n_negative": torch.tensor([[4], [6]])}),
    (best_pairs, {"seed": 1}),
    (best_pairs, {"p": doubles([NAN, NAN], [0.25, 1])}),
    (chosen_pairs, {"n_folds": 5, "fold_f1": doubles(0.5, NAN)}),
    (chosen_pairs, {"min_support": 4}),
    (best_pairs, {"test_interval": doubles([0.1, 0.9], [NAN, 0.5])}),
    (best_pairs, {"auroc_interval": doubles([0.4, 0.7], [0.4, 0.6])}),
    (pruning_audit, {"min_support": 4}),
    (pruning_audit, {"units_by_reason": ints(2, 1, 1, 0, 1, 1)}),
    (row_alignment, {"purity": doubles(0.5, 0)}),
    (row_alignment, {"pixel_iou": doubles(0.5, 0)}),
    (row_alignment, {"n_rows": ints(21, 30)}),
    (control_inputs, {"row_embeddings": floats(1, 2, 3, 5).view(2, 2)}),
    (control_inputs, {"random_units": int32(1, 3, 0)}),
    (control_inputs, {"row_random_values": floats(1, 4)}),
    (control_inputs, {"pooling": "mean"}),
    (coalitions, {"halved": False}),
    (coalitions, {"thresholds": doubles(0.5, 1.5)}),
    (localization, {"n_superactivators": ints(3, 1)}),
    (report, {"html": "<!doctype html>\n<p>2</p>"}),
    (localization, {"direction_weights": doubles(0.8, 0.6, 1)}),
    (controls, {"fitted_on_cal": True}),
    (controls, {"weighted": controls().weighted / 2}),
]


@EACH
def test_equal_content_has_an_equal_hash(make):
    """Two artifacts made alike are equal, nulls included, whether or not their tensors lie together in memory."""
    one, two = make(), make()
    for field in dataclasses.fields(two):
        value = getattr(two, field.name)
        if isinstance(value, torch.Tensor):
            spread = torch.zeros(*value.shape, 2, dtype=value.dtype)
            spread[..., 0] = value
            two = dataclasses.replace(two, **{field.name: spread[..., 0]})
    assert one.content_hash() == two.content_hash() and one == two


@pytest.mark.parametrize(("make", "changes"), CHANGED, ids=lambda value: getattr(value, "__name__", None))
def test_changed_content_has_another_hash(make, changes):
    """Every field counts."""
    one, two = make(), dataclasses.replace(make(), **changes)
    assert one.content_hash() != two.content_hash() and one != two


def test_hashes_tell_shapes_from_bytes():
    """The same bytes cut otherwise are other content."""
    one = dataclasses.replace(labels(), concepts=("red", "blue"), labels=torch.zeros(3, 2, dtype=torch.bool))
    two = dataclasses.replace(labels(), concepts=("red",), labels=torch.zeros(3, 1, dtype=torch.bool))
    assert one != two


def test_examples_are_what_earlier_versions_encoded():
    """Stored activations name this hash as what they were made from: of another one, all would be encoded again."""
    assert examples().content_hash() == "0b0dd87d301628032f0d77065c26e0bcc90236e1f9a931242df86e334e8f2172"
    elsewhere = dataclasses.replace(examples(), paths=("x/a.png", "b.png", "c.png"))
    assert elsewhere.content_hash() == examples().content_hash()


def test_artifacts_of_other_classes_are_not_equal():
    """The kind is part of the content."""
    assert len({make().content_hash() for make in MAKERS}) == len(MAKERS)
    assert sparse_activations() != filtered_activations() and examples() != "examples"


def test_every_null_is_the_same_null():
    """NaN of another sign or payload is still null: the hash is that of the content, not of who wrote it."""
    one, two = unit_stats(), unit_stats()
    payload = torch.tensor([-(2**51) + 7], dtype=torch.int64).view(torch.float64)
    assert bool(payload.isnan()) and payload.view(torch.int64) != torch.tensor([NAN]).double().view(torch.int64)
    two.p99[:1] = payload
    assert one == two


@pytest.mark.parametrize("stride", [0, 1, 3])
def test_empty_content_has_a_hash(stride):
    """A chunk without any positive row, or any entry, is content too, however its empty tensors lie in memory."""
    empty = torch.zeros(9, dtype=torch.int32).as_strided((0,), (stride,))
    nowhere = dataclasses.replace(ground_truth(), row_offsets=ints(0, 0, 0, 0), concept_ids=empty)
    plain = dataclasses.replace(nowhere, concept_ids=int32())
    assert nowhere.content_hash() == plain.content_hash()


def test_artifacts_cannot_be_keys():
    """Equality is by content, so there is no hash by identity."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(unit_mapping())


# Derived columns ------------------------------------------------------------------------------------------------


def test_rows_and_examples_of_entries():
    """Offsets expand to the row of each entry and the example of each row; an example may have no row."""
    chunk = sparse_activations()
    assert (chunk.n_rows, chunk.n_examples, chunk.n_entries) == (3, 3, 5)
    assert chunk.entries_per_row().tolist() == [3, 0, 2]
    assert chunk.row_of_entry().tolist() == [0, 0, 0, 2, 2]
    assert chunk.example_of_row().tolist() == [0, 0, 2]
    assert (chunk.n_truncated_rows, chunk.n_dropped_entries) == (1, 1)
    assert chunk.dense_bytes == 4 * 3 * 5 and filtered_activations().dense_bytes == 4 * 3 * 50
    assert ground_truth().row_of_positive().tolist() == [0, 0, 2]


def test_offsets_are_cumulative_lengths():
    """They start with 0 and end with the total, int64 whatever came in."""
    assert offsets_of(int32(2, 0, 3)).tolist() == [0, 2, 2, 5]
    assert offsets_of(int32()).tolist() == [0] and offsets_of(int32(2)).dtype == torch.int64


def test_splits_are_sets_of_examples():
    """A split is a mask over examples."""
    assert labels().in_split("cal").tolist() == [False, True, False] and len(labels()) == len(examples()) == 3


def test_undefined_figures_of_a_silent_unit_are_null():
    """mean and selectivity are NaN, density is a true 0."""
    stats = unit_stats()
    assert bool(stats.mean[0].isnan()) and bool(stats.selectivity[0].isnan()) and float(stats.density[0]) == 0
    assert stats.mean[1:].tolist() == [1.5, 2.0]


def test_the_mapping_goes_both_ways():
    """Kept units, their index and the counts derive from the reasons."""
    mapping = unit_mapping()
    assert mapping.kept_units.tolist() == [1, 3] and mapping.kept_index.tolist() == [-1, 0, -1, 1, -1]
    assert mapping.counts() == dict(zip(REASONS, [2, 1, 0, 0, 1, 1], strict=True))
    assert (mapping.n_original, mapping.n_filtered) == (5, 2)


def test_counts_complete_each_other():
    """FN and TN are what TP and FP leave of the examples; F1 of an invalid pair is null."""
    stats = detection_stats()
    assert stats.false_negatives[0, 0].tolist() == [[3, 3], [2, 0]]
    assert stats.true_negatives[1, 0].tolist() == [[5, 5], [5, 5]]
    assert bool(stats.f1[0, 0, 0].isnan().all()) and stats.f1[0, 0, 1].tolist() == [2 / 5, 6 / 10]


def test_totals_of_best_pairs():
    """Positives and examples of each split come from the counts."""
    best = best_pairs()
    assert best.n_positive.tolist() == [[4, 0], [4, 1]] and best.n_examples.tolist() == [[10, 10], [8, 8]]


def test_every_artifact_class_is_tested_here():
    """A new artifact needs its cases in this file."""

    def leaves(cls: type) -> set[type]:
        return set().union(*(leaves(child) for child in cls.__subclasses__())) if cls.__subclasses__() else {cls}

    tested = {type(make()) for make in MAKERS}
    assert {cls for cls in leaves(Artifact) if cls.__module__.startswith("sae_assets.")} == tested
    assert {type(make()) for make, *_ in BROKEN} == tested == {type(make()) for make, _ in CHANGED}
