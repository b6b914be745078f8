"""Chance level of a pair's row figures on test: truth maps change examples, the pair stays as it is (numerics 11).

The choice has seen nothing of test, so the figures are exchangeable under exchanges if the rows that a unit fires on
have nothing to do with those of the concept. A map is moved whole: how truth clumps in an example is kept, which
shuffling rows would destroy. The null of figures of examples is that of ``ops.held_out_null``.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.adjusted_p import benjamini_hochberg, max_t, sequential_p
from sae_assets.ops.chance import quantile
from sae_assets.ops.intervals import clustered_f1_intervals
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.row_chunks import RowChunk, count_per_example, entries_of_pairs
from sae_assets.ops.shuffled_search import DRAW_SHARE
from sae_assets.ops.truth_sets import TruthSets, truth_sets

NEIGHBOURS = 8  # examples of similar length among which maps are exchanged, at least


@dataclass(frozen=True)
class PairRows:
    """The rows of test examples: what is true of them, and on which of them each concept's pair fires.

    Attributes:
        truth: sets of concepts of the rows, which are numbered as the chunks come.
        lengths: int64 [n_with_rows], rows of each example that has any.
        concepts, rows: int64 [n_predicted], a row at or above the threshold of this concept's pair.
        counts: int64 [n_concepts, n_examples, 3], TP, FP and FN of the pair in each example.
        chosen: bool [n_concepts], whether there is a pair.
        located: bool [n_concepts], concepts whose rows are known; others have no figures.
    """

    truth: TruthSets
    lengths: Int[Tensor, " with_rows"]
    concepts: Int[Tensor, " predicted"]
    rows: Int[Tensor, " predicted"]
    counts: Int[Tensor, "concepts examples 3"]
    chosen: Bool[Tensor, " concepts"]
    located: Bool[Tensor, " concepts"]


@dataclass(frozen=True)
class RowNull:
    """Row F1 reaches this where truth maps were exchanged; NaN of a concept that is not located or without test rows.

    Attributes:
        null_f1: float64 [n_concepts, 2], mean and 95 % point of F1 over the draws.
        p: float64 [n_concepts], ``(b + 1) / (m + 1)`` for b of m draws at least as good (Phipson & Smyth 2010), ties
            broken by a draw; 1 of a pair that fires on no row of test. NaN where no draw changes F1.
        family_p: float64 [n_concepts], over all concepts, by step-down max T of joint draws (Westfall & Young 1993).
        q: float64 [n_concepts], Benjamini & Hochberg 1995 over concepts.
    """

    null_f1: Float[Tensor, "concepts 2"]
    p: Float[Tensor, " concepts"]
    family_p: Float[Tensor, " concepts"]
    q: Float[Tensor, " concepts"]


@plain_arithmetic()
def rows_of_pairs(
    chunks: Iterable[RowChunk],
    units: Int[Tensor, " concepts"],
    thresholds: Float[Tensor, " concepts"],
    located: Bool[Tensor, " concepts"],
) -> PairRows:
    """Return the test rows that one pair per concept fires on, in one pass over the chunks.

    Args:
        units: -1 without a pair; thresholds: of rows, chosen without test; NaN predicts nothing.

    Raises:
        ArtifactError: no chunks.
    """
    n_concepts = len(units)
    every = torch.arange(n_concepts, device="cpu")
    lengths, per_row, members, concepts, rows, counts = ([] for _ in range(6))
    n_before = 0
    for chunk in chunks:
        activations, truth = chunk.activations, chunk.truth
        examples, inside = chunk.examples_in("test"), chunk.rows_in("test")
        of_examples = activations.example_offsets.diff()
        lengths.append(of_examples[examples & (of_examples > 0)])
        in_row = truth.row_offsets.diff()
        per_row.append(in_row[inside])
        members.append(truth.concept_ids[torch.repeat_interleave(inside, in_row)])
        counts.append(count_per_example(chunk, units, every, thresholds)[:, examples])
        pair, entry = entries_of_pairs(activations, units)
        row = activations.row_of_entry()[entry]
        fires = inside[row] & (activations.values[entry].double() >= thresholds[pair])
        number = inside.cumsum(0) - 1 + n_before
        concepts.append(pair[fires])
        rows.append(number[row[fires]])
        n_before += int(inside.sum())
    if not lengths:
        raise ArtifactError("There are no chunks to find rows in.")
    return PairRows(
        truth=truth_sets(offsets_of(torch.cat(per_row)), torch.cat(members), n_concepts),
        lengths=torch.cat(lengths),
        concepts=torch.cat(concepts),
        rows=torch.cat(rows),
        counts=torch.cat(counts, 1),
        chosen=(units >= 0) & ~thresholds.isnan(),
        located=located,
    )


@plain_arithmetic()
def exchange_maps(rows: PairRows, *, n_draws: int, seed: int = 0) -> RowNull:
    """Return the null of row F1: in each draw every example gets the truth map of another, of all concepts at once.

    Maps are exchanged at random among examples of similar length (:func:`groups_of_lengths`) and stretched to the
    length of the example that gets them: row r of n takes the truth of row ``⌊(2r + 1) m / 2n⌋`` of m. Where all
    examples have as many rows, as images do, that is an exchange among all of them, row by row.

    Args:
        n_draws: 0 leaves all out (NaN).
        seed: of all draws.
    """
    n_concepts, truth = len(rows.chosen), rows.truth
    group, generator = groups_of_lengths(rows.lengths), torch.Generator().manual_seed(seed)
    drawn = draw_donors(group, n_draws, generator)
    itself = torch.arange(len(group), dtype=torch.int32, device="cpu")
    f1 = _f1_of(rows, group, torch.cat([itself[None], drawn]))
    predicted = torch.bincount(rows.concepts, minlength=n_concepts)
    broken = DRAW_SHARE * torch.rand(f1.shape, dtype=torch.float64, generator=generator, device="cpu")
    # What fires nowhere is below every other F1 of 0, and is not broken: p is then 1.
    statistic = torch.where((predicted > 0)[:, None], f1 + broken, f1)
    exists = rows.located & (truth.n_positive > 0) & (n_draws > 0)
    moves = (f1 != f1[:, :1]).any(1) | (predicted == 0)
    observed = statistic[:, 0].masked_fill(~(exists & moves), torch.nan)
    p, _ = sequential_p(observed, statistic[:, 1:], n_draws + 1)
    null = f1[:, 1:]
    points = torch.stack([null.mean(1), quantile(null, 0.95)], -1).masked_fill(~exists[:, None], torch.nan)
    return RowNull(points, p, max_t(observed, statistic[:, 1:]), benjamini_hochberg(p))


def row_intervals(rows: PairRows) -> Float[Tensor, "concepts 2"]:
    """Return 95 % interval of each pair's row F1, with examples as clusters; NaN where it is not located or has no
    rows."""
    exists = rows.located & (rows.truth.n_positive > 0)
    return torch.where(exists[:, None], clustered_f1_intervals(rows.counts), torch.nan)


def groups_of_lengths(lengths: Int[Tensor, " examples"]) -> Int[Tensor, " examples"]:
    """Return groups of examples of similar length: equal lengths together, and as many neighbours as make
    ``NEIGHBOURS``.

    int64, in the order of lengths. Under a map of a much longer or shorter example spans would be stretched to lengths
    that no span has; a group of one moves nothing.
    """
    group, number, size, last = [0] * len(lengths), 0, 0, -1
    ordered = sorted(range(len(lengths)), key=lengths.tolist().__getitem__)
    values = lengths.tolist()
    for example in ordered:
        if size >= NEIGHBOURS and values[example] != last:
            number, size = number + 1, 0
        group[example], size, last = number, size + 1, values[example]
    groups = torch.tensor(group, dtype=torch.int64, device="cpu")
    if number and size < NEIGHBOURS:
        groups[groups == number] = number - 1
    return groups


def draw_donors(
    group: Int[Tensor, " examples"], n_draws: int, generator: torch.Generator
) -> Int[Tensor, "draws examples"]:
    """Return the example whose map each one gets, random permutations within groups; int32."""
    donors = torch.empty(n_draws, len(group), dtype=torch.int32, device="cpu")
    for number in range(int(group.max()) + 1 if len(group) else 0):
        members = (group == number).nonzero().flatten()
        drawn = torch.rand(n_draws, len(members), dtype=torch.float64, generator=generator, device="cpu")
        donors[:, members] = members[drawn.argsort(1)].int()
    return donors


def _f1_of(
    rows: PairRows, group: Int[Tensor, " examples"], donors: Int[Tensor, "draws examples"]
) -> Float[Tensor, "concepts draws"]:
    """Return row F1 of each pair, float64, where each example has the truth of its donor.

    What an example and a donor have in common is counted once for all draws, as a product of their maps; one concept at
    a time, which takes 4 bytes for each pair of examples of a group that have equal lengths.
    """
    truth, n_concepts = rows.truth, len(rows.chosen)
    pieces = list(_pieces(rows.lengths, group))
    index = torch.empty_like(group)  # of each example among its group's
    index[group.argsort(stable=True)] = torch.cat(
        [torch.arange(n, device="cpu") for n in torch.bincount(group).tolist()] or [group]
    )
    member = torch.zeros(truth.n_sets, n_concepts, dtype=torch.bool, device="cpu")
    member[torch.repeat_interleave(truth.set_offsets.diff()), truth.concept_ids] = True
    f1 = torch.zeros(n_concepts, len(donors), dtype=torch.float64, device="cpu")
    for concept in range(n_concepts):
        at = rows.rows[rows.concepts == concept]
        fires = torch.zeros(truth.n_rows, dtype=torch.float32, device="cpu")
        fires[at] = 1.0
        true_rows = member[truth.set_of_row, concept].float()
        true, size = (torch.zeros(len(donors), dtype=torch.float64, device="cpu") for _ in range(2))
        for examples, own_rows, source_rows in pieces:
            maps = true_rows[source_rows]
            shared = fires[own_rows] @ maps.T  # whole numbers below 2^24
            chosen = index[donors[:, examples].long()]
            true += shared[torch.arange(len(own_rows), device="cpu"), chosen].sum(1, dtype=torch.float64)
            size += maps.sum(1)[chosen].sum(1, dtype=torch.float64)
        f1[concept] = 2 * true / (len(at) + size).clamp(min=1)
    return f1


def _pieces(lengths: Int[Tensor, " examples"], group: Int[Tensor, " examples"]) -> Iterator[tuple[Tensor, ...]]:
    """Yield examples of one length with all maps that they can get.

    These examples; their rows [examples, rows]; and of each of their group's examples the rows whose truth they would
    get of it, stretched to their length [group, rows].
    """
    starts = offsets_of(lengths)[:-1]
    for length in lengths.unique():
        examples = (lengths == length).nonzero().flatten()
        members = (group == group[examples[0]]).nonzero().flatten()
        row = torch.arange(int(length), device="cpu")
        source = (2 * row + 1) * lengths[members][:, None] // (2 * length)
        yield examples, starts[examples][:, None] + row, starts[members][:, None] + source
