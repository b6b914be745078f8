"""The ops on a data set of ``strategies.World``, cut into chunks as asked, and small worlds made by hand."""

import numpy as np
import torch

from sae_assets.artifacts import SPLITS, BestPairs, DetectionStats, Thresholds
from sae_assets.artifacts.chosen_pairs import ChosenPairs
from sae_assets.artifacts.row_alignment import RowAlignment
from sae_assets.ops.best_pairs import figure_pairs
from sae_assets.ops.chosen_pairs import choose_by_tails
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.row_chance import PairRows, rows_of_pairs
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.segments import unpack_descending
from sae_assets.ops.sorted_scores import EVALUATED, ExampleScores, sort_scores
from sae_assets.ops.thresholds import TAIL_FRACTIONS, CalibrationChunk, calibrate_thresholds
from sae_assets_tests.reference import detection_stats as reference
from sae_assets_tests.strategies import World

Choice = tuple[ChosenPairs, dict[str, ExampleScores]]


def many_rows(n: int, n_units: int = 9, n_concepts: int = 2) -> World:
    """``n`` examples of one or no row, so that they can be cut into as many chunks; the first is of cal."""
    rng = np.random.default_rng(n)
    lengths = np.minimum(rng.integers(0, 8, n), 1)
    lengths[0] = 1
    dense = np.where(
        rng.random((lengths.sum(), n_units)) < 0.4, rng.lognormal(sigma=3, size=(lengths.sum(), n_units)), 0
    )
    labels = rng.random((n, n_concepts)) < 0.4
    splits = ("cal", *(str(name) for name in rng.choice(SPLITS, n - 1)))
    return World(dense.astype(np.float32), lengths, splits, labels[np.repeat(np.arange(n), lengths)], labels)


def cut(n: int, n_chunks: int) -> list[list[int]]:
    """0..n-1 in runs of nearly equal length."""
    return [part.tolist() for part in np.array_split(np.arange(n), n_chunks)]


def calibrate(world: World, fractions=TAIL_FRACTIONS, parts=None, **kwargs):
    """Thresholds of a data set, as one chunk or cut into ``parts``."""
    taken = [world] if parts is None else [world.take(part) for part in parts]
    chunks = [CalibrationChunk(part.filtered(), part.ground_truth(), part.mask("cal")) for part in taken]
    kept_units = 2 * torch.arange(world.n_units)
    return calibrate_thresholds(
        chunks, concepts=world.concepts, kept_units=kept_units, tail_fractions=fractions, **kwargs
    )


def score(world: World, parts=None, device="cpu") -> dict[str, ExampleScores]:
    taken = [world] if parts is None else [world.take(part) for part in parts]
    chunks = [LabelledChunk(part.filtered(), part.splits, torch.from_numpy(part.labels)) for part in taken]
    return score_examples(chunks, n_units=world.n_units, device=device)


def dense_scores(world: World, split: str) -> np.ndarray:
    scores = reference.example_scores(world.activations, world.example_of_row, len(world.lengths))
    return scores[world.examples_in(split)]


def hand(scores: list[list[float]], labels: list[bool], cutoff: float) -> DetectionStats:
    """Counts of one concept on a cal split with these scores [examples][units] at one cut-off for every unit."""
    dense = np.array(scores, np.float32)
    n, n_units = dense.shape
    truth = np.array(labels)[:, None]
    world = World(dense, np.ones(n, int), ("cal",) * n, truth, truth)
    values = torch.full((2, n_units, 1), cutoff, dtype=torch.float64)
    n_positive = (~values[..., 0].isnan()).long()
    return count_detections(score(world), Thresholds(("c",), torch.arange(n_units), (0.5,), n_positive, values))


def by_original_id(scores: ExampleScores, kept_units: torch.Tensor) -> ExampleScores:
    """The same scores under the original ids of their units."""
    unit, value = unpack_descending(scores.keys)
    n_units = int(kept_units.max()) + 1
    return sort_scores(kept_units.to(unit.device)[unit], value, scores.example, scores.labels, n_units)


def nowhere(concepts: tuple[str, ...], n_units: int) -> RowAlignment:
    """Row figures of a data set that locates no concept."""
    counts, none = torch.ones(2, len(concepts), dtype=torch.int64), torch.empty(0)
    return RowAlignment(
        concepts, n_units, torch.ones(2, dtype=torch.int64), counts, counts, none.int(), none.int(), none.double(),
        torch.empty(2, 0, dtype=torch.int32), torch.empty(2, 0, dtype=torch.int32), torch.empty(2, 0).double(),
        none.double(), none.double(), none.double(), torch.full((len(concepts), 2), torch.nan, dtype=torch.float64),
    )  # fmt: skip


def lengths_of(world: World) -> dict[str, list[torch.Tensor]]:
    """Number of rows of each example, by split, in one part."""
    return {split: [torch.from_numpy(world.lengths[world.examples_in(split)]).long()] for split in EVALUATED}


def rows_of(world: World, chosen: ChosenPairs) -> PairRows:
    """The test rows of chosen pairs, of a data set that locates no concept."""
    chunk = RowChunk(world.sparse(), world.ground_truth(), world.splits)
    nowhere = torch.zeros(len(chosen.concepts), dtype=torch.bool, device="cpu")
    return rows_of_pairs([chunk], chosen.unit_ids, chosen.row_thresholds, nowhere)


def choice(world: World, fractions=(0.1, 0.5, 0.9), parts=None, device="cpu", thresholds=None, **kwargs) -> Choice:
    """Pairs of the grid of tail fractions, with the scores they were chosen by."""
    thresholds = calibrate(world, fractions) if thresholds is None else thresholds
    kept = score(world, parts, device)
    scores = {split: by_original_id(kept[split], thresholds.kept_units) for split in EVALUATED}
    rows = nowhere(thresholds.concepts, len(scores["cal"].starts) - 1)
    chosen = choose_by_tails(count_detections(kept, thresholds), thresholds, scores["cal"], rows, **kwargs)
    return chosen, scores


def choose(world: World, fractions=(0.1, 0.5, 0.9), parts=None, device="cpu", thresholds=None, **kwargs) -> BestPairs:
    """Best pairs of a data set from its rows on, by tail fractions; few draws unless asked for."""
    chosen, scores = choice(world, fractions, parts, device, thresholds)
    return figure_pairs(chosen, scores, lengths_of(world), rows_of(world, chosen), **{"n_permutations": 3} | kwargs)


def world_of(scores: dict[str, list[float]], labels: dict[str, list[bool]]) -> World:
    """One unit and one row per example, with these scores and labels of one concept on each split."""
    splits = tuple(split for split, values in scores.items() for _ in values)
    dense = np.array([value for values in scores.values() for value in values], np.float32)[:, None]
    truth = np.array([label for split in scores for label in labels[split]], bool)[:, None]
    return World(dense, np.ones(len(dense), int), splits, truth, truth)


def at(cutoff: float, n_concepts: int = 1) -> Thresholds:
    """One unit and one tail fraction with this threshold for every concept."""
    shape = (n_concepts + 1, 1)
    names = tuple(f"concept {number}" for number in range(n_concepts))
    values = torch.full((*shape, 1), cutoff, dtype=torch.float64)
    return Thresholds(names, torch.tensor([4]), (0.5,), torch.ones(shape, dtype=torch.int64), values)
