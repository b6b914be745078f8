"""Chance level of row figures: the truth of rows is moved, and the whole choice on cal is repeated (numerics 11).

Both ways of moving keep how truth clumps, which shuffling rows would destroy: whole truth maps are exchanged between
examples with equally many rows (images), or the truth of a split is shifted along its rows, around the end (texts).
Concepts move together, so the largest figure over concepts has a null of its own.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.choice import best_units
from sae_assets.ops.detection_stats import EVALUATED
from sae_assets.ops.incidences import ENTRIES_AT_ONCE, RankedValues, TruthSets, Walk, spread
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk, SplitRows, rank_rows
from sae_assets.ops.segments import plan_blocks

MOVES = ("exchange", "shift")


@dataclass(frozen=True)
class RowNull:
    """Row F1 that the choice among the same units reaches where truth was moved.

    Attributes:
        observed: float64 [2, n_concepts], F1 on cal and test of the choice on the truth as it is; NaN where no unit
            fires on a positive cal row, and of a concept without rows in the split.
        reached: float64 [2, n_concepts, n_draws], the same of each draw; 0 where no unit fires on a moved positive row.
        seconds: that the draws took. They stop early where the budget is spent: ``reached`` says how many there are.
    """

    observed: Float[Tensor, "2 concepts"]
    reached: Float[Tensor, "2 concepts draws"]
    seconds: float

    @property
    def n_draws(self) -> int:
        return self.reached.shape[-1]


@plain_arithmetic()
def row_null(
    chunks: Iterable[RowChunk],
    splits: dict[str, SplitRows],
    units: Int[Tensor, " chosen"],
    *,
    move: str,
    n_draws: int,
    seconds: float = float("inf"),
    seed: int = 0,
    entries_at_once: int = ENTRIES_AT_ONCE,
    device: torch.device | str = "cpu",
) -> RowNull:
    """Choose the unit and the threshold of every concept anew on truth that was moved, ``n_draws`` times.

    Which examples or which shift is drawn uniformly from all that there are, the one that changes nothing included, so
    that ``(b + 1) / (m + 1)`` is a valid p (Phipson & Smyth 2010). cal and test are moved independently.

    Args:
        chunks: gone through once, for the values of ``units`` (8 bytes each, held for all draws).
        splits: of the same chunks, from ``count_rows``.
        units: to choose among, ascending, each once. The null is that of the choice among these.
        move: ``exchange`` truth maps between examples of equally many rows, or ``shift`` the truth of the split.
        seconds: no draw begins after these; one is always made. Draws are the same however many there are.

    Raises:
        ArtifactError: an unknown ``move``, no draws, or no units.
    """
    if move not in MOVES:
        raise ArtifactError(f"Unknown move {move!r}, expected one of {', '.join(MOVES)}.")
    if n_draws < 1 or len(units) == 0:
        raise ArtifactError(f"A null of {n_draws} draws over {len(units)} units was asked for, expected one at least.")
    ranked = rank_rows(chunks, splits, units, by_set=False, device=device)
    truths = {split: splits[split].truth for split in EVALUATED}
    lengths = {split: splits[split].lengths for split in EVALUATED}
    blocks = list(plan_blocks((splits["cal"].work + splits["test"].work)[units], entries_at_once))
    observed = _figures(ranked, truths, {split: truths[split].set_of_row for split in EVALUATED}, blocks)
    generator = torch.Generator().manual_seed(seed)
    reached: list[Tensor] = []
    start = time.monotonic()
    while len(reached) < n_draws and (not reached or time.monotonic() - start < seconds):
        moved = {
            split: truths[split].set_of_row[moved_rows(lengths[split], move, generator).to(device)]
            for split in EVALUATED
        }
        figures = _figures(ranked, truths, moved, blocks)
        exists = torch.stack([truths[split].n_positive.cpu() > 0 for split in EVALUATED])
        reached.append(torch.where(exists & exists[0], figures.nan_to_num(0), torch.nan))
    return RowNull(observed, torch.stack(reached, -1), time.monotonic() - start)


def moved_rows(lengths: Int[Tensor, " examples"], move: str, generator: torch.Generator) -> Int[Tensor, " rows"]:
    """Row whose truth each row of a split is given, int64; a permutation of the rows, drawn on the CPU.

    Args:
        lengths: int64, rows of each example.
    """
    n_rows = int(lengths.sum())
    if move == "shift":
        by = int(torch.randint(max(n_rows, 1), (1,), generator=generator, device="cpu"))
        return torch.arange(n_rows, device="cpu").roll(by)
    source = torch.empty_like(lengths)
    for length in lengths.unique():
        alike = (lengths == length).nonzero().flatten()
        source[alike] = alike[torch.randperm(len(alike), generator=generator, device="cpu")]
    rows, _ = spread(offsets_of(lengths)[:-1][source], lengths)
    return rows


def _figures(
    ranked: dict[str, RankedValues], truths: dict[str, TruthSets], set_of_row: dict[str, Tensor], blocks: list
) -> Float[Tensor, "2 concepts"]:
    """F1 on cal and test of the best unit of each concept by cal F1, with the sets of the rows as given."""
    cal, test = (truths[split] for split in EVALUATED)
    parts = []
    for first, stop in blocks:
        parts.append(Walk(ranked["cal"].block(first, stop), cal, set_of_row["cal"]).best_thresholds())
    thresholds, true, predicted = (torch.cat(column) for column in zip(*parts, strict=True))
    f1 = 2 * true.double() / (predicted + cal.n_positive).clamp(min=1)
    units = best_units(f1, true, thresholds)
    concept = (units >= 0).nonzero().flatten()
    best = units[concept], concept
    chosen = torch.full_like(thresholds, torch.nan)
    chosen[best] = thresholds[best]
    counts = torch.zeros(2, len(units), dtype=torch.int64, device=units.device)
    for first, stop in blocks:
        if bool(((units >= first) & (units < stop)).any()):
            there = Walk(ranked["test"].block(first, stop), test, set_of_row["test"])
            counts += torch.stack([each.sum(0) for each in there.counts_at(chosen[first:stop])])
    on_test = 2 * counts[0].double() / (counts[1] + test.n_positive).clamp(min=1)
    figures = torch.full((2, len(units)), torch.nan, dtype=torch.float64, device=units.device)
    figures[0, concept] = f1[best]
    figures[1] = torch.where((units >= 0) & (test.n_positive > 0), on_test, torch.nan)
    return figures.cpu()
