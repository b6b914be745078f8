"""Random artifacts of every kind, with the values that files lose most easily: nulls, infinities, empty rows."""

import math
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from sae_assets.artifacts import (
    REASONS,
    SPLITS,
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
from sae_assets.artifacts.controls import EARLIER_ROW_CONTROLS, ROW_CONTROLS, Controls, controls_of
from sae_assets.artifacts.fit import FitSums
from sae_assets.artifacts.localization import METHODS, Localization
from sae_assets.artifacts.pruning_audit import PruningAudit
from sae_assets.artifacts.report import DOCTYPE, Report
from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.artifacts.unit_rows import UnitRows

NAN = math.nan
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
concept_lists = st.lists(words.filter(bool), unique=True, min_size=1, max_size=3).map(tuple)
positive = st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False, width=32)
finite = st.floats(-1e6, 1e6)
any_float = st.floats()
first_examples = st.integers(0, 2**30)


def doubles(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def integers(values: list[int], dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


@st.composite
def lengths(draw: st.DrawFn) -> list[int]:
    """Rows of each example: also none, at the front, in the middle and at the end."""
    return draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))


@st.composite
def rows(draw: st.DrawFn, n_units: int, counts: list[int]) -> tuple[Tensor, Tensor]:
    """Unit ids and values of rows with these numbers of entries, in canonical order."""
    ids: list[int] = []
    values: list[float] = []
    for count in counts:
        units = draw(st.lists(st.integers(0, n_units - 1), unique=True, min_size=count, max_size=count))
        pairs = sorted((-draw(positive), unit) for unit in units)
        ids += [unit for _, unit in pairs]
        values += [-value for value, _ in pairs]
    return integers(ids, torch.int32), torch.tensor(values, dtype=torch.float32)


@st.composite
def sparse_activations(draw: st.DrawFn) -> SparseActivations:
    per_example, n_units = draw(lengths()), draw(st.integers(1, 6))
    k_stored = draw(st.none() | st.integers(1, 8))
    l0 = [draw(st.integers(0, n_units)) for _ in range(sum(per_example))]
    stored = l0 if k_stored is None else [min(count, k_stored) for count in l0]
    unit_ids, values = draw(rows(n_units, stored))
    total = draw(st.floats(0, allow_nan=False))
    return SparseActivations(
        first_example=draw(first_examples),
        example_offsets=offsets_of(integers(per_example)),
        row_offsets=offsets_of(integers(stored)),
        unit_ids=unit_ids,
        values=values,
        n_units=n_units,
        l0=integers(l0, torch.int32),
        k_stored=k_stored,
        total_mass=total,
        dropped_mass=draw(st.floats(0, total)),
        fit=draw(st.none() | fits(len(l0))),
    )


@st.composite
def fits(draw: st.DrawFn, most_rows: int) -> FitSums:
    squares = st.floats(0, allow_nan=False, allow_infinity=False)
    sums = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple)
    return FitSums(draw(st.integers(0, most_rows)), draw(sums), draw(squares), draw(squares))


@st.composite
def filtered_activations(draw: st.DrawFn) -> FilteredActivations:
    per_example, n_units = draw(lengths()), draw(st.integers(1, 6))
    stored = [draw(st.integers(0, n_units)) for _ in range(sum(per_example))]
    unit_ids, values = draw(rows(n_units, stored))
    return FilteredActivations(
        first_example=draw(first_examples),
        example_offsets=offsets_of(integers(per_example)),
        row_offsets=offsets_of(integers(stored)),
        unit_ids=unit_ids,
        values=values,
        n_units=n_units,
        n_original=draw(st.integers(n_units, 10**6)),
    )


@st.composite
def ground_truth(draw: st.DrawFn) -> GroundTruth:
    per_example, concepts = draw(lengths()), draw(concept_lists)
    chosen = [
        sorted(draw(st.sets(st.integers(0, len(concepts) - 1), max_size=len(concepts))))
        for _ in range(sum(per_example))
    ]
    cover: dict[str, Any] = {}
    if draw(st.booleans()):
        others = [draw(st.sets(st.integers(0, len(concepts) - 1), max_size=len(concepts))) for _ in chosen]
        shown = [sorted({*ids, *more}) for ids, more in zip(chosen, others, strict=True)]
        n_shown, most = sum(map(len, shown)), draw(st.integers(1, 10**6))
        cover = {
            "patch_pixels": most,
            "cover_offsets": offsets_of(integers([len(ids) for ids in shown])),
            "cover_ids": integers([place for ids in shown for place in ids], torch.int32),
            "cover_pixels": integers(
                draw(st.lists(st.integers(1, most), min_size=n_shown, max_size=n_shown)), torch.int32
            ),
        }
    return GroundTruth(
        concepts=concepts,
        first_example=draw(first_examples),
        example_offsets=offsets_of(integers(per_example)),
        row_offsets=offsets_of(integers([len(ids) for ids in chosen])),
        concept_ids=integers([place for ids in chosen for place in ids], torch.int32),
        **cover,
    )


@st.composite
def examples(draw: st.DrawFn) -> Examples:
    ids = draw(st.lists(words, unique=True, min_size=1, max_size=4))
    return Examples(
        first_index=draw(first_examples),
        example_ids=tuple(ids),
        paths=tuple(draw(words) for _ in ids),
        file_hashes=tuple(draw(words) for _ in ids),
    )


@st.composite
def labels(draw: st.DrawFn) -> Labels:
    ids = draw(st.lists(words, unique=True, min_size=1, max_size=4))
    concepts = draw(st.lists(words, unique=True, max_size=3))
    truth = [[draw(st.booleans()) for _ in concepts] for _ in ids]
    return Labels(
        concepts=tuple(concepts),
        first_index=draw(first_examples),
        example_ids=tuple(ids),
        splits=tuple(draw(st.sampled_from(SPLITS)) for _ in ids),
        labels=torch.tensor(truth, dtype=torch.bool).view(len(ids), len(concepts)),
        region_hashes=tuple(draw(words) for _ in ids),
    )


@st.composite
def unit_stats(draw: st.DrawFn) -> UnitStats:
    n_rows = draw(st.integers(1, 2**40))
    n_active = draw(st.lists(st.just(0) | st.integers(0, n_rows), max_size=5))
    order = [sorted(draw(st.tuples(*[st.floats(allow_nan=False)] * 3))) for _ in n_active]
    quantiles = [[NAN] * 3 if count == 0 else three for count, three in zip(n_active, order, strict=True)]
    return UnitStats(
        n_rows=n_rows,
        n_active=integers(n_active),
        total=doubles([draw(finite) for _ in n_active]),
        total_sq=doubles([draw(any_float) for _ in n_active]),
        p95=doubles([three[0] for three in quantiles]),
        p99=doubles([three[1] for three in quantiles]),
        max=doubles([three[2] for three in quantiles]),
    )


@st.composite
def unit_mapping(draw: st.DrawFn) -> UnitMapping:
    others = draw(st.lists(st.integers(0, len(REASONS) - 1), max_size=7))
    reasons = draw(st.permutations([0, *others]))
    return UnitMapping(
        reasons=integers(list(reasons), torch.uint8),
        mode=draw(st.sampled_from(["fixed", "adaptive", "active"])),
        min_active=draw(st.integers(0, 10**9)),
        max_active=draw(st.floats(0, allow_nan=False)),
        strength_percentile=draw(st.floats(0, 100)),
        strength_cutoff=draw(any_float),
        target_units=draw(st.none() | st.integers(8, 10**6)),
    )


@st.composite
def axes(draw: st.DrawFn) -> tuple[tuple[str, ...], Tensor, tuple[float, ...]]:
    """Concepts, kept units (also none) and tail fractions."""
    kept = sorted(draw(st.sets(st.integers(0, 2**31 - 1), max_size=3)))
    fractions = sorted(draw(st.sets(st.floats(0.001, 1), min_size=1, max_size=3)))
    return draw(concept_lists), integers(kept), tuple(fractions)


@st.composite
def thresholds(draw: st.DrawFn) -> Thresholds:
    concepts, kept, fractions = draw(axes())
    shape = (len(concepts) + 1, len(kept))
    cells = shape[0] * shape[1]
    n_positive = [draw(st.just(0) | st.integers(0, 2**50)) for _ in range(cells)]
    cut = st.lists(st.floats(0, exclude_min=True, allow_nan=False), min_size=len(fractions), max_size=len(fractions))
    falling = [sorted(draw(cut.filter(lambda v: sum(x == math.inf for x in v) < 2)), reverse=True) for _ in n_positive]
    values = [[NAN] * len(fractions) if n == 0 else cuts for n, cuts in zip(n_positive, falling, strict=True)]
    return Thresholds(
        concepts=concepts,
        kept_units=kept,
        tail_fractions=fractions,
        n_positive=integers(n_positive).view(shape),
        values=doubles([value for row in values for value in row]).view(*shape, len(fractions)),
    )


@st.composite
def detection_stats(draw: st.DrawFn) -> DetectionStats:
    concepts, kept, fractions = draw(axes())
    c, u, p = len(concepts), len(kept), len(fractions)
    valid = torch.tensor([draw(st.booleans()) for _ in range(c * u)], dtype=torch.bool).view(c, u)
    totals = [integers([draw(st.integers(0, 50)) for _ in range(2 * c)]).view(2, c) for _ in range(2)]

    def counts(total: Tensor) -> Tensor:
        result = torch.zeros(2, c, u, p, dtype=torch.int32)
        for split in range(2):
            for concept in range(c):
                for unit in range(u):
                    limit = int(total[split, concept]) if valid[concept, unit] else 0
                    cells = sorted(draw(st.integers(0, limit)) for _ in range(p))
                    result[split, concept, unit] = integers(cells, torch.int32)
        return result

    return DetectionStats(
        concepts=concepts,
        kept_units=kept,
        tail_fractions=fractions,
        n_positive=totals[0],
        n_negative=totals[1],
        true_positives=counts(totals[0]),
        false_positives=counts(totals[1]),
        valid=valid,
    )


@st.composite
def best_pairs(draw: st.DrawFn) -> BestPairs:
    concepts = draw(concept_lists)
    n = len(concepts)
    units = [draw(st.just(-1) | st.integers(0, 2**31 - 1)) for _ in concepts]

    def shares(count: int) -> torch.Tensor:
        return doubles([draw(st.just(NAN) | st.floats(1e-6, 1)) for _ in range(count)])

    return BestPairs(
        concepts=concepts,
        unit_ids=integers(units),
        tail_fractions=doubles([NAN if unit < 0 else draw(st.floats(0.001, 1)) for unit in units]),
        thresholds=doubles([NAN if unit < 0 else draw(st.floats(0, allow_nan=False)) for unit in units]),
        by_rows=torch.tensor([draw(st.booleans()) for _ in concepts], dtype=torch.bool),
        counts=integers([draw(st.integers(0, 10**6)) for _ in range(8 * n)]).view(2, n, 4),
        null_f1=doubles([draw(any_float) for _ in range(4 * n)]).view(2, n, 2),
        p=shares(2 * n).view(2, n),
        family_p=shares(2 * n).view(2, n),
        q=shares(2 * n).view(2, n),
        test_interval=doubles([draw(any_float) for _ in range(2 * n)]).view(n, 2),
        scores=doubles([draw(any_float) for _ in range(6 * n)]).view(n, 6),
        auroc_interval=doubles([draw(any_float) for _ in range(2 * n)]).view(n, 2),
        length_auroc=doubles([draw(any_float) for _ in range(n)]),
        row_counts=integers([draw(st.integers(0, 10**6)) for _ in range(3 * n)]).view(n, 3),
        row_interval=doubles([draw(any_float) for _ in range(2 * n)]).view(n, 2),
        row_null_f1=doubles([draw(any_float) for _ in range(2 * n)]).view(n, 2),
        row_p=shares(n),
        row_family_p=shares(n),
        row_q=shares(n),
        weighted_interval=doubles([draw(any_float) for _ in range(2)]),
        weighted_null=doubles([draw(any_float) for _ in range(3)]),
        n_permutations=draw(st.integers(0, 10**6)),
        seed=draw(st.integers(0, 2**63)),
    )


@st.composite
def chosen_pairs(draw: st.DrawFn) -> ChosenPairs:
    concepts = draw(concept_lists)
    units = [draw(st.just(-1) | st.integers(0, 2**31 - 1)) for _ in concepts]
    folds, choose_by = draw(st.just(0) | st.integers(2, 20)), draw(st.sampled_from(["rows", "examples"]))
    return ChosenPairs(
        concepts=concepts,
        selection="exact" if choose_by == "rows" else draw(st.sampled_from(["exact", "tails"])),
        choose_by=choose_by,
        min_support=draw(st.integers(1, 9)),
        unit_ids=integers(units),
        thresholds=doubles([NAN if unit < 0 else draw(st.floats(0, allow_nan=False)) for unit in units]),
        tail_fractions=doubles([NAN if unit < 0 else draw(st.floats(0.001, 1)) for unit in units]),
        support=integers([0 if unit < 0 else draw(st.integers(0, 9)) for unit in units]),
        by_rows=torch.tensor([choose_by == "rows" and draw(st.booleans()) for _ in concepts], dtype=torch.bool),
        row_thresholds=doubles([draw(any_float) for _ in concepts]),
        example_unit_ids=integers([draw(st.just(-1) | st.integers(0, 2**31 - 1)) for _ in concepts]),
        seed=draw(st.integers(0, 2**63)),
        n_folds=folds,
        fold_f1=doubles([draw(any_float) for _ in concepts]) if folds else None,
    )


@st.composite
def pruning_audit(draw: st.DrawFn) -> PruningAudit:
    concepts = draw(concept_lists)
    n = len(concepts)
    units, reasons, counts = [], [], []
    for _ in concepts:
        totals = [(draw(st.integers(0, 9)), draw(st.integers(0, 9))) for _ in range(2)]  # positives, negatives
        best = draw(st.just(-1) | st.integers(0, 2**31 - 1))
        kept = best >= 0 and draw(st.booleans())
        reasons.append(-1 if best < 0 else 0 if kept else draw(st.integers(1, len(REASONS) - 1)))
        units.append((best, best if kept else -1))
        cells = []
        for unit in units[-1]:
            hits = [(draw(st.integers(0, p)), draw(st.integers(0, q))) if unit >= 0 else (0, 0) for p, q in totals]
            of_unit = [(t, f, p - t, q - f) for (t, f), (p, q) in zip(hits, totals, strict=True)]
            cells.append(cells[0] if kept and cells else of_unit)
        counts.append(cells)
    return PruningAudit(
        concepts=concepts,
        min_support=draw(st.integers(1, 5)),
        units_by_reason=integers([draw(st.integers(0, 10**6)) for _ in REASONS]),
        unit_ids=integers([pair[choice] for choice in range(2) for pair in units]).view(2, n),
        thresholds=doubles(
            [NAN if pair[choice] < 0 else draw(st.floats(0.001, 1e6)) for choice in range(2) for pair in units]
        ).view(2, n),
        counts=torch.tensor(counts, dtype=torch.int64).permute(1, 2, 0, 3).contiguous(),
        reasons=integers(reasons),
    )


@st.composite
def row_alignment(draw: st.DrawFn) -> RowAlignment:
    concepts = draw(concept_lists)
    n, n_units = len(concepts), draw(st.integers(1, 5))
    n_rows = [draw(st.integers(0, 50)) for _ in range(2)]
    n_positive = [[draw(st.integers(0, rows)) for _ in concepts] for rows in n_rows]
    n_unlocated = [[draw(st.just(0) | st.integers(0, 3)) for _ in concepts] for _ in range(2)]
    pairs: list[tuple[int, int, list[int], list[int]]] = []
    for concept in range(n):
        if n_positive[0][concept] == 0 or n_unlocated[0][concept] + n_unlocated[1][concept]:
            continue
        mine = []
        for unit in draw(st.sets(st.integers(0, n_units - 1), max_size=3)):
            true = [draw(st.integers(1 - split, n_positive[split][concept])) for split in range(2)]
            predicted = [draw(st.integers(true[split], n_rows[split])) for split in range(2)]
            mine.append((concept, unit, true, predicted))
        pairs += sorted(mine, key=lambda pair: -2 * pair[2][0] / (pair[3][0] + n_positive[0][pair[0]]))
    share = st.just(NAN) | st.floats(0, 1)
    return RowAlignment(
        concepts=concepts,
        n_units=n_units,
        n_rows=integers(n_rows),
        n_positive=integers([count for row in n_positive for count in row]).view(2, n),
        n_unlocated=integers([count for row in n_unlocated for count in row]).view(2, n),
        concept_ids=integers([pair[0] for pair in pairs], torch.int32),
        unit_ids=integers([pair[1] for pair in pairs], torch.int32),
        thresholds=doubles([draw(st.floats(0, exclude_min=True, allow_nan=False)) for _ in pairs]),
        true_positives=integers([pair[2][s] for s in range(2) for pair in pairs], torch.int32).view(2, -1),
        predicted=integers([pair[3][s] for s in range(2) for pair in pairs], torch.int32).view(2, -1),
        average_precision=doubles([draw(share) for _ in range(2 * len(pairs))]).view(2, -1),
        auroc=doubles([draw(share) for _ in pairs]),
        purity=doubles([draw(share) for _ in pairs]),
        pixel_iou=doubles([draw(share) for _ in pairs]),
        intervals=doubles([draw(share) for _ in range(2 * n)]).view(n, 2),
    )


@st.composite
def controls(draw: st.DrawFn) -> Controls:
    concepts, n_seeds, row_figures = draw(concept_lists), draw(st.integers(0, 2)), draw(st.booleans())
    n = len(concepts)
    n_row_seeds = n_seeds if row_figures and n_seeds and draw(st.booleans()) else None
    second_pass = draw(st.none() | st.just(True))
    n_controls = len(controls_of(second_pass))
    row_controls = draw(st.sampled_from((None, ROW_CONTROLS[1:], ROW_CONTROLS[2:4]))) if row_figures else None
    n_of_rows = row_figures * len(row_controls or EARLIER_ROW_CONTROLS)
    n_detectors = n_seeds + n_controls + n_of_rows + row_figures * (1 + (n_row_seeds or 0))
    n_comparisons = n_controls + n_of_rows + (n_row_seeds is not None)
    choices = integers([draw(st.integers(-1, 9)) for _ in range(n_detectors * n)]).view(n_detectors, n)
    exists = (choices >= 0)[..., None]
    counts = integers([draw(st.integers(0, 9)) for _ in range(4 * n_detectors * n)]).view(n_detectors, n, 4)
    counts[..., :2] *= exists
    share = st.just(NAN) | st.floats(0, 1)

    def shares(*shape: int) -> Tensor:
        values = doubles([draw(share) for _ in range(math.prod(shape) * n_detectors * n)]).view(n_detectors, n, -1)
        return torch.where(exists, values, NAN).view(n_detectors, n, *shape)

    differences = [sorted(draw(finite) for _ in range(3)) for _ in range(n_comparisons * n)]
    return Controls(
        concepts=concepts,
        n_seeds=n_seeds,
        n_units=draw(st.integers(1, 9)),
        d_model=draw(st.integers(1, 9)),
        fitted_on_cal=draw(st.booleans()),
        row_figures=row_figures,
        n_items=integers([draw(st.integers(0, 9)) * (row_figures or place < 3) for place in range(6)]).view(2, 3),
        choices=choices,
        counts=counts,
        intervals=shares(2),
        auroc=shares(),
        average_precision=shares(),
        differences=torch.where(
            torch.tensor([n_seeds > 0] + [True] * (n_comparisons - 1))[:, None, None],
            doubles([[middle, low, high] for low, middle, high in differences]).view(n_comparisons, n, 3),
            NAN,
        ),
        weighted=doubles([draw(share) for _ in range(4 * n_comparisons)]).view(n_comparisons, 4),
        n_row_seeds=n_row_seeds,
        second_pass=second_pass,
        auroc_intervals=draw(st.sampled_from((None, shares(2)))),
        row_controls=row_controls,
    )


@st.composite
def control_inputs(draw: st.DrawFn) -> ControlInputs:
    per_example, n_units, d = draw(lengths()), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    n, n_rows, n_seeds = len(per_example), sum(per_example), draw(st.integers(0, 2))
    rows_there = sorted(draw(st.sets(st.integers(0, n_rows - 1)))) if n_rows else []
    chosen = [sorted(draw(st.sets(st.integers(0, n_units - 1)))) for _ in range(n_seeds * n)]
    embedding = st.floats(width=32, allow_nan=False, allow_infinity=False)

    def embeddings(count: int) -> Tensor:
        values = [draw(embedding) for _ in range(count * d)]
        return torch.tensor(values, dtype=torch.float32).view(count, d)

    on_rows = [sorted(draw(st.sets(st.integers(0, n_units - 1)))) for _ in range(n_seeds * len(rows_there))]
    of_rows: dict[str, Tensor] = {}
    if draw(st.booleans()):
        of_rows = {
            "row_random_offsets": offsets_of(integers([len(units) for units in on_rows])),
            "row_random_units": integers([unit for units in on_rows for unit in units], torch.int32),
            "row_random_values": torch.tensor(
                [draw(positive) for units in on_rows for _ in units], dtype=torch.float32
            ),
        }
    return ControlInputs(
        first_example=draw(first_examples),
        example_offsets=offsets_of(integers(per_example)),
        mean_embeddings=embeddings(n),
        max_embeddings=embeddings(n),
        row_ids=integers(rows_there),
        row_embeddings=embeddings(len(rows_there)),
        n_seeds=n_seeds,
        random_offsets=offsets_of(integers([len(units) for units in chosen])),
        random_units=integers([unit for units in chosen for unit in units], torch.int32),
        random_values=torch.tensor([draw(positive) for units in chosen for _ in units], dtype=torch.float32),
        n_units=n_units,
        d_model=d,
        pooling=draw(st.sampled_from([None, "mean", "topk_mean(3)"])),
        **of_rows,
    )


@st.composite
def localization(draw: st.DrawFn) -> Localization:
    concepts = draw(concept_lists)
    n, n_units, share = len(concepts), draw(st.integers(1, 5)), st.just(NAN) | st.floats(0, 1)
    units = [draw(st.integers(-1, n_units - 1)) for _ in concepts]
    located = [draw(st.booleans()) for _ in concepts]
    cutoffs = torch.full((len(METHODS), n), NAN, dtype=torch.float64)
    counts = torch.zeros(len(METHODS) + 1, 2, n, 4, dtype=torch.int64)
    members: list[list[int]] = []
    for concept, unit in enumerate(units):
        inside = draw(st.sets(st.integers(0, n_units - 1))) if unit >= 0 else set()
        members.append(sorted(inside))
        if unit < 0:
            continue
        cutoffs[0, concept] = draw(st.floats(0.5, 1e6))
        if located[concept]:
            if draw(st.booleans()):
                cutoffs[1, concept] = draw(st.floats(0.001, 0.5))
            if draw(st.booleans()):
                cutoffs[2, concept] = draw(st.floats(0, 1))
            for place in range(2):
                true, false, missed, rest = (draw(st.integers(0, 9)) for _ in range(4))
                counts[-1, place, concept] = torch.tensor([true, false, missed, rest])
                for method in range(len(METHODS)):
                    if not bool(cutoffs[method, concept].isnan()):
                        t, f = draw(st.integers(0, true)), draw(st.integers(0, false))
                        cells = [t, f, true + missed - t, false + rest - f]
                        counts[method, place, concept] = torch.tensor(cells)
    flat = [unit for of_concept in members for unit in of_concept]
    return Localization(
        concepts=concepts,
        n_units=n_units,
        located=torch.tensor(located, dtype=torch.bool),
        unit_ids=integers(units),
        cutoffs=cutoffs,
        tail_fractions=doubles([draw(share) for _ in range(len(METHODS) * n)]).view(-1, n),
        counts=counts[:-1].contiguous(),
        whole=counts[-1].contiguous(),
        intervals=doubles([draw(share) for _ in range(2 * len(METHODS) * n)]).view(-1, n, 2),
        n_superactivators=integers([draw(st.integers(1, 9)) if each else 0 for each in members]),
        direction_offsets=offsets_of(integers([len(each) for each in members])),
        direction_units=integers(flat, torch.int32),
        direction_weights=doubles([draw(st.floats(0, 1, exclude_min=True)) for _ in flat]),
    )


@st.composite
def coalitions(draw: st.DrawFn) -> CoalitionChoice:
    concepts = draw(concept_lists)
    n, n_units = len(concepts), draw(st.integers(1, 6))
    members = [draw(st.lists(st.integers(0, n_units - 1), max_size=4, unique=True)) for _ in concepts]
    cells = []
    for _ in range(3):
        for each in members:
            true, false, missed, rest = (draw(st.integers(0, 9)) for _ in range(4))
            cells += [true, false, missed, rest] if each else [0, 0, true + missed, false + rest]
    flat, share = [unit for each in members for unit in each], st.just(NAN) | st.floats(0, 1)
    return CoalitionChoice(
        concepts=concepts,
        n_units=n_units,
        halved=draw(st.booleans()),
        anded=torch.tensor([len(each) > 1 and draw(st.booleans()) for each in members], dtype=torch.bool),
        member_offsets=offsets_of(integers([len(each) for each in members])),
        unit_ids=integers(flat),
        thresholds=doubles([draw(st.floats(0.001, 1e6)) for _ in flat]),
        counts=integers(cells).view(3, n, 4),
        intervals=doubles([draw(share) for _ in range(2 * n)]).view(n, 2),
        differences=doubles([draw(st.just(NAN) | st.floats(-1, 1)) for _ in range(3 * n)]).view(n, 3),
    )


@st.composite
def row_locations(draw: st.DrawFn) -> RowLocations:
    first, form = draw(first_examples), draw(st.sampled_from(["text", "picture", "unknown"]))
    if form != "picture":
        counts = draw(lengths())
        spans = [sorted(draw(st.tuples(st.integers(0, 99), st.integers(0, 99)))) for _ in range(sum(counts))]
        known = integers([end for span in spans for end in span], torch.int32).view(-1, 2)
        return RowLocations(first, offsets_of(integers(counts)), known if form == "text" else None, None)
    n, grid = draw(st.integers(1, 3)), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    side, place = st.integers(1, 500), st.integers(-50, 50)
    transforms = [draw(st.tuples(side, side, side, side, place, place)) for _ in range(n)]
    return RowLocations(
        first,
        offsets_of(integers([grid[0] * grid[1]] * n)),
        None,
        integers([number for each in transforms for number in each], torch.int32).view(n, 6),
        grid=grid,
        patch=draw(st.tuples(side, side)),
    )


def report() -> st.SearchStrategy[Report]:
    return st.text(st.characters(codec="utf-8"), max_size=40).map(lambda text: Report(DOCTYPE + text))


@st.composite
def unit_rows(draw: st.DrawFn) -> UnitRows:
    """Also no unit that fires, and units that all fire on one row."""
    place = st.tuples(st.integers(0, 2**30), st.integers(0, 3))
    units = draw(st.lists(st.lists(place, unique=True, max_size=4).map(sorted), min_size=1, max_size=5))
    places = [place for unit in units for place in unit]
    values = draw(st.lists(positive, min_size=len(places), max_size=len(places)))
    return UnitRows(
        offsets_of(integers([len(unit) for unit in units])),
        integers([example for example, _ in places], torch.int32),
        integers([position for _, position in places], torch.int32),
        torch.tensor(values, dtype=torch.float32),
        n_rows=draw(st.integers(4, 99)),
    )


KINDS: dict[str, Callable[[], st.SearchStrategy[Artifact]]] = {
    strategy.__name__: strategy
    for strategy in (
        examples,
        labels,
        ground_truth,
        sparse_activations,
        unit_stats,
        unit_mapping,
        filtered_activations,
        thresholds,
        detection_stats,
        best_pairs,
        chosen_pairs,
        pruning_audit,
        row_alignment,
        row_locations,
        unit_rows,
        control_inputs,
        localization,
        coalitions,
        controls,
        report,
    )
}
