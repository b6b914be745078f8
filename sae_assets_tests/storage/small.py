"""One small artifact of each kind, written down by hand, and where it is stored."""

import math
from typing import Any

import torch

from sae_assets.artifacts import (
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
from sae_assets.storage.address import Address
from sae_assets.storage.provenance import Provenance
from sae_assets.storage.store import Stored, stored

NAN = math.nan
CONCEPTS = ("color::red", "shape, round")
KEPT = torch.tensor([0, 3])
FRACTIONS = (0.05, 0.5)


def _doubles(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _ints(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


SMALL: dict[str, Artifact] = {
    artifact.kind: artifact
    for artifact in (
        Examples(
            first_index=7,
            example_ids=("a", "b", "ü"),
            paths=("images/a.png", "images/b.png", "images/ü.png"),
            file_hashes=("0" * 64, "1" * 64, "2" * 64),
        ),
        Labels(
            concepts=CONCEPTS,
            first_index=7,
            example_ids=("a", "b", "ü"),
            splits=("train", "cal", "test"),
            labels=torch.tensor([[True, False], [False, False], [True, True]]),
            region_hashes=("{}", '{"wing": "weak"}', '{"wing": "weak"}'),
        ),
        # The second example has no rows, the second row no entries; the first row dropped one.
        SparseActivations(
            first_example=7,
            example_offsets=torch.tensor([0, 2, 2, 3]),
            row_offsets=torch.tensor([0, 2, 2, 3]),
            unit_ids=_ints([4, 1, 0]),
            values=torch.tensor([3.0, 0.5, 2.0]),
            n_units=6,
            l0=_ints([3, 0, 1]),
            k_stored=2,
            total_mass=5.75,
            dropped_mass=0.25,
            fit=FitSums(n_rows=3, row_sum=(1.0, -2.5), square_sum=30.0, residual_sum=6.25),
        ),
        FilteredActivations(
            first_example=7,
            example_offsets=torch.tensor([0, 2, 2, 3]),
            row_offsets=torch.tensor([0, 1, 1, 3]),
            unit_ids=_ints([1, 0, 1]),
            values=torch.tensor([3.0, 2.0, 2.0]),
            n_units=2,
            n_original=6,
        ),
        GroundTruth(
            concepts=CONCEPTS,
            first_example=7,
            example_offsets=torch.tensor([0, 2, 2, 3]),
            row_offsets=torch.tensor([0, 2, 2, 3]),
            concept_ids=_ints([0, 1, 1]),
            patch_pixels=16,
            cover_offsets=torch.tensor([0, 2, 3, 4]),
            cover_ids=_ints([0, 1, 0, 1]),
            cover_pixels=_ints([9, 4, 1, 16]),
        ),
        RowLocations(
            first_example=7,
            example_offsets=torch.tensor([0, 2, 4]),
            spans=None,
            transforms=_ints([60, 40, 30, 20, 0, -5, 20, 20, 20, 20, 0, 0]).view(2, 6),
            grid=(1, 2),
            patch=(20, 15),
        ),
        UnitRows(
            unit_offsets=torch.tensor([0, 2, 2, 5]),
            examples=_ints([7, 7, 7, 8, 8]),
            positions=_ints([0, 1, 1, 0, 1]),
            values=torch.tensor([1.5, 2.5, 0.5, 1e-40, 3.0]),
            n_rows=4,
        ),
        UnitStats(
            n_rows=10,
            n_active=torch.tensor([3, 0, 10]),
            total=_doubles([6.0, 0.0, 20.0]),
            total_sq=_doubles([14.0, 0.0, 60.0]),
            max=_doubles([3.0, NAN, math.inf]),
            p95=_doubles([2.9, NAN, 4.0]),
            p99=_doubles([2.98, NAN, 4.5]),
        ),
        UnitMapping(
            reasons=torch.tensor([0, 1, 2, 0, 5], dtype=torch.uint8),
            mode="fixed",
            min_active=2,
            max_active=math.inf,
            strength_percentile=75.0,
            strength_cutoff=NAN,
            target_units=None,
        ),
        Thresholds(
            concepts=CONCEPTS,
            kept_units=KEPT,
            tail_fractions=FRACTIONS,
            n_positive=torch.tensor([[5, 0], [2, 1], [7, 9]]),
            values=_doubles([[[2.0, 1.0], [NAN, NAN]], [[3.0, 3.0], [0.5, 0.25]], [[2.5, 1.5], [8.0, 4.0]]]),
        ),
        DetectionStats(
            concepts=CONCEPTS,
            kept_units=KEPT,
            tail_fractions=FRACTIONS,
            n_positive=torch.tensor([[4, 2], [3, 1]]),
            n_negative=torch.tensor([[6, 8], [7, 9]]),
            true_positives=_ints([[[[1, 4], [0, 0]], [[0, 2], [1, 1]]], [[[0, 3], [0, 0]], [[1, 1], [0, 0]]]]),
            false_positives=_ints([[[[0, 6], [0, 0]], [[0, 0], [2, 3]]], [[[1, 2], [0, 0]], [[0, 9], [5, 5]]]]),
            valid=torch.tensor([[True, False], [True, True]]),
        ),
        BestPairs(
            concepts=CONCEPTS,
            unit_ids=torch.tensor([3, -1]),
            tail_fractions=_doubles([0.5, NAN]),
            thresholds=_doubles([1.25, NAN]),
            by_rows=torch.tensor([True, False]),
            counts=torch.tensor([[[4, 1, 0, 5], [0, 0, 2, 8]], [[3, 2, 0, 5], [0, 0, 1, 9]]]),
            null_f1=_doubles([[[0.3, 0.5], [NAN, NAN]], [[0.3, 0.6], [NAN, NAN]]]),
            p=_doubles([[NAN, NAN], [0.01, 1.0]]),
            family_p=_doubles([[NAN, NAN], [0.02, 1.0]]),
            q=_doubles([[NAN, NAN], [0.02, 1.0]]),
            test_interval=_doubles([[0.4, 0.9], [NAN, NAN]]),
            scores=_doubles([[0.9, 0.8, 0.6, 0.75, 0.1, 0.05], [NAN] * 6]),
            auroc_interval=_doubles([[0.7, 0.97], [NAN, NAN]]),
            length_auroc=_doubles([0.5, NAN]),
            row_counts=torch.tensor([[6, 2, 1], [0, 0, 0]]),
            row_interval=_doubles([[0.5, 0.95], [NAN, NAN]]),
            row_null_f1=_doubles([[0.2, 0.4], [NAN, NAN]]),
            row_p=_doubles([0.01, NAN]),
            row_family_p=_doubles([0.01, NAN]),
            row_q=_doubles([0.01, NAN]),
            weighted_interval=_doubles([0.4, 0.9]),
            weighted_null=_doubles([0.3, NAN, 0.01]),
            n_permutations=100,
            seed=0,
        ),
        ChosenPairs(
            concepts=CONCEPTS,
            selection="exact",
            choose_by="rows",
            min_support=3,
            unit_ids=torch.tensor([3, -1]),
            thresholds=_doubles([1.25, NAN]),
            tail_fractions=_doubles([0.5, NAN]),
            support=torch.tensor([4, 0]),
            by_rows=torch.tensor([True, False]),
            row_thresholds=_doubles([1.5, NAN]),
            example_unit_ids=torch.tensor([2, -1]),
            seed=0,
            n_folds=5,
            fold_f1=_doubles([0.75, NAN]),
        ),
        # Two random SAEs, of which the second is silent on the last example; the second example has no rows.
        ControlInputs(
            first_example=7,
            example_offsets=torch.tensor([0, 2, 2, 3]),
            mean_embeddings=torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.5, 4.0]]),
            max_embeddings=torch.tensor([[2.0, -1.0], [0.0, 0.0], [0.5, 4.0]]),
            row_ids=torch.tensor([1, 2]),
            row_embeddings=torch.tensor([[2.0, -3.0], [0.5, 4.0]]),
            n_seeds=2,
            random_offsets=torch.tensor([0, 2, 2, 3, 4, 4, 4]),
            random_units=_ints([0, 5, 2, 3]),
            random_values=torch.tensor([1.5, 0.25, 8.0, 3.0]),
            n_units=6,
            d_model=2,
            row_random_offsets=torch.tensor([0, 1, 2, 4, 4]),
            row_random_units=_ints([0, 2, 3, 5]),
            row_random_values=torch.tensor([1.5, 8.0, 3.0, 0.5]),
        ),
        # The best unit of the first concept was removed; no unit stands for the second.
        PruningAudit(
            concepts=CONCEPTS,
            min_support=3,
            units_by_reason=torch.tensor([2, 1, 1, 0, 0, 1]),
            unit_ids=torch.tensor([[2, -1], [3, -1]]),
            thresholds=_doubles([[0.5, NAN], [1.25, NAN]]),
            counts=torch.tensor(
                [
                    [[[4, 0, 0, 6], [0, 0, 2, 8]], [[3, 1, 0, 6], [0, 0, 1, 9]]],
                    [[[3, 1, 1, 5], [0, 0, 2, 8]], [[3, 2, 0, 5], [0, 0, 1, 9]]],
                ]
            ),
            reasons=torch.tensor([2, -1]),
        ),
        # The second concept is not located in one example, so it has no pairs.
        RowAlignment(
            concepts=CONCEPTS,
            n_units=5,
            n_rows=torch.tensor([20, 30]),
            n_positive=torch.tensor([[4, 6], [0, 7]]),
            n_unlocated=torch.tensor([[0, 1], [0, 0]]),
            concept_ids=_ints([0, 0]),
            unit_ids=_ints([4, 0]),
            thresholds=_doubles([0.5, 1.25]),
            true_positives=_ints([[3, 2], [0, 0]]),
            predicted=_ints([[4, 12], [5, 0]]),
            average_precision=_doubles([[0.75, 0.5], [NAN, NAN]]),
            auroc=_doubles([NAN, NAN]),
            purity=_doubles([0.0, 0.0]),
            pixel_iou=_doubles([0.125, NAN]),
            intervals=_doubles([[NAN, NAN], [NAN, NAN]]),
        ),
        # Two units agree on the first concept; none stands for the second.
        CoalitionChoice(
            concepts=CONCEPTS,
            n_units=5,
            halved=False,
            anded=torch.tensor([True, False]),
            member_offsets=torch.tensor([0, 2, 2]),
            unit_ids=torch.tensor([3, 1]),
            thresholds=_doubles([0.5, 1.25]),
            counts=torch.tensor(
                [
                    [[6, 0, 1, 8], [0, 0, 3, 12]],
                    [[4, 1, 0, 6], [0, 0, 2, 9]],
                    [[3, 1, 0, 6], [0, 0, 1, 9]],
                ]
            ),
            intervals=_doubles([[0.4, 0.95], [NAN, NAN]]),
            differences=_doubles([[0.125, -0.25, 0.5], [NAN, NAN, NAN]]),
        ),
        # The second concept has no unit. Two stages find more rows than the unit's own values do.
        Localization(
            concepts=CONCEPTS,
            n_units=5,
            located=torch.tensor([True, False]),
            unit_ids=torch.tensor([3, -1]),
            cutoffs=_doubles([[2.5, NAN], [1.5, NAN], [0.75, NAN]]),
            tail_fractions=_doubles([[0.25, NAN], [0.5, NAN], [0.9, NAN]]),
            counts=torch.tensor(
                [
                    [[[1, 0, 3, 16], [0, 0, 0, 0]], [[1, 0, 4, 25], [0, 0, 0, 0]]],
                    [[[2, 1, 2, 15], [0, 0, 0, 0]], [[3, 1, 2, 24], [0, 0, 0, 0]]],
                    [[[4, 1, 0, 15], [0, 0, 0, 0]], [[4, 2, 1, 23], [0, 0, 0, 0]]],
                ]
            ),
            whole=torch.tensor([[[4, 4, 0, 12], [0, 0, 0, 0]], [[4, 6, 1, 19], [0, 0, 0, 0]]]),
            intervals=_doubles([[[0.1, 0.6], [NAN, NAN]], [[0.3, 0.9], [NAN, NAN]], [[0.4, 0.95], [NAN, NAN]]]),
            n_superactivators=torch.tensor([2, 0]),
            direction_offsets=torch.tensor([0, 2, 2]),
            direction_units=_ints([1, 3]),
            direction_weights=_doubles([0.6, 0.8]),
        ),
        # One random SAE; nothing stands for the second concept, and no regression on all units for the first.
        Controls(
            concepts=CONCEPTS,
            n_seeds=1,
            n_units=6,
            d_model=4,
            fitted_on_cal=True,
            row_figures=True,
            n_items=torch.tensor([[4, 3, 10], [20, 15, 30]]),
            choices=torch.tensor(
                [[3, -1], [5, -1], [0, -1], [0, -1], [2, -1], [-1, -1], [4, -1], [7, -1], [3, -1], [0, -1], [6, -1]]
            ),
            counts=torch.tensor(
                [
                    *([[3, 2, 0, 5], [0, 0, 1, 9]], [[1, 0, 2, 7], [0, 0, 1, 9]], [[3, 0, 0, 7], [0, 0, 1, 9]]),
                    [[3, 3, 0, 4], [0, 0, 1, 9]],
                    *([[2, 1, 1, 6], [0, 0, 1, 9]], [[0, 0, 3, 7], [0, 0, 1, 9]], [[3, 4, 0, 3], [0, 0, 1, 9]]),
                    *([[0, 0, 3, 7], [0, 0, 1, 9]], [[9, 1, 1, 19], [0, 0, 4, 26]], [[5, 1, 5, 19], [0, 0, 4, 26]]),
                    [[8, 0, 2, 20], [0, 0, 4, 26]],
                ]
            ),
            intervals=_doubles([[[0.25, 0.875] if place != 5 else [NAN, NAN], [NAN, NAN]] for place in range(11)]),
            auroc=_doubles([[0.5 + place / 20 if place != 5 else NAN, NAN] for place in range(11)]),
            average_precision=_doubles([[place / 10 if place != 5 else NAN, NAN] for place in range(11)]),
            differences=_doubles(
                [[[place / 12, -0.5, 0.75] if place != 4 else [NAN, NAN, NAN], [NAN, NAN, NAN]] for place in range(9)]
            ),
            weighted=_doubles([[0.75, place / 8, -0.5, 0.75] if place != 4 else [NAN] * 4 for place in range(9)]),
            second_pass=True,
            auroc_intervals=_doubles(
                [[[0.25, 1] if place < 8 and place != 5 else [NAN, NAN], [NAN, NAN]] for place in range(11)]
            ),
        ),
        Report("<!doctype html>\n<html>\r\n<!-- ü --><p>two -- hyphens</p>\n</html>"),
    )
}

ADDRESS = Address("pictures", "sparse_activations", "patch", "tiny", "0000")


def provenance(**changes: Any) -> Provenance:
    fields = {
        "stage": "sparse_activations",
        "dataset": "pictures",
        "token_kind": "patch",
        "model": "tiny",
        "chunk": "0000",
        "code_version": "1",
        "config": {"k_stored": 2, "tail": [0.1, None], "deep": {"a": True}},
        "inputs": {"examples": "ab" * 32},
        "identity": {"encoder": "cd" * 32},
    }
    return Provenance(**{**fields, **changes})


def small(kind: str, address: Address = ADDRESS) -> Stored:
    """The hand-written artifact of a kind, with the provenance of what lies at an address."""
    return stored(SMALL[kind], provenance(**vars(address)))
