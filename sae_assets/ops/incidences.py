"""The walk behind exact thresholds: each unit's stored values from the largest down, and what is true at them.

An incidence is a stored value of a unit on a row that is true for a concept. Only these are walked, so the cost is
values × concepts per row and not units × concepts × rows. Which figures are reported is the business of
``ops.row_alignment`` and of protocols; of examples, thresholds are found in ``ops.exact_search``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.segments import sort_keys
from sae_assets.ops.truth_sets import TruthSets, spread

VALUE_BITS = 31  # a float32 above 0 has no sign
_LARGEST = 0x7FFFFFFF
ENTRIES_AT_ONCE = 2**18  # values and incidences of a block of units, about 150 bytes each while it is walked


def tag_bits(n_tags: int) -> int:
    """Return bits that tags 0..n_tags - 1 take."""
    return max(1, (n_tags - 1).bit_length())


def units_at_once(n_tags: int) -> int:
    """Return how many units' values fit one sort: unit, value and tag share 63 bits.

    Raises:
        ArtifactError: more than 2^32 tags.
    """
    if tag_bits(n_tags) > 63 - VALUE_BITS:
        raise ArtifactError(f"{n_tags:,} rows or sets of concepts in one split are more than 2^32. Use fewer examples.")
    return 1 << 63 - VALUE_BITS - tag_bits(n_tags)


def pack_values(units: Int[Tensor, " n"], values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return int64 keys that order by unit, then by value descending; ``values`` float32 and > 0."""
    return units.long() << VALUE_BITS | _LARGEST - values.view(torch.int32).long()


def tagged(keys: Int[Tensor, " n"], tags: Int[Tensor, " n"], bits: int) -> Int[Tensor, " n"]:
    """Return keys of :func:`pack_values`, and behind each a tag of ``bits`` bits.

    A tag says what is true of the value's row: the number of its set.
    """
    return keys << bits | tags


@dataclass(frozen=True)
class RankedValues:
    """The stored values of units 0, 1, … on one split, the largest of each unit first.

    Attributes:
        keys: int64 [n], sorted, as ``tagged`` makes them; bits: of their tags.
        starts: int64 [n_units + 1], segment of each unit.
    """

    keys: Int[Tensor, " n"]
    bits: int
    starts: Int[Tensor, " units_plus_1"]

    def block(self, first: int, stop: int) -> "RankedValues":
        """Return the values of units ``first`` to ``stop - 1``, renumbered from 0."""
        low, high = (int(self.starts[unit]) for unit in (first, stop))
        shifted = self.keys[low:high] - (first << VALUE_BITS + self.bits)
        return RankedValues(shifted, self.bits, self.starts[first : stop + 1] - low)


class Walk:
    """The true incidences of a block of units, pair by pair (unit × n_concepts + concept), the largest value first.

    ``ends`` is the number of the unit's values that are not below an entry, ``above`` of those that are above it; they
    differ by the values that tie with it.
    """

    def __init__(self, ranked: RankedValues, truth: TruthSets):
        """Sort the incidences of these values, whose tags are sets."""
        self.truth, self.starts = truth, ranked.starts
        self.n_units, n = len(ranked.starts) - 1, len(ranked.keys)
        device = ranked.keys.device
        self._value_keys = ranked.keys >> ranked.bits
        self._unit = self._value_keys >> VALUE_BITS
        self._set = ranked.keys & (1 << ranked.bits) - 1
        first = ranked.starts[self._unit]
        position = torch.arange(n, device=device) - first
        tied = self._value_keys[1:] == self._value_keys[:-1]
        if bool(tied.any()):
            begins, stops, group = _groups(tied)
            self.above, self.ends = begins[group] - first, stops[group] - first
        else:
            self.above, self.ends = position, position + 1
        self._bits = max(1, n.bit_length())
        base = (self._unit * truth.n_concepts << self._bits) | self.ends
        entry, concept = self._incidences(self._set)
        keys = base[entry] + (concept << self._bits)
        self.keys = sort_keys(keys)
        self.pair = self.keys >> self._bits
        self.counts = torch.bincount(self.pair, minlength=self.n_units * truth.n_concepts)
        self.pair_starts = offsets_of(self.counts)
        self.true = torch.arange(1, len(self.pair) + 1, device=device) - self.pair_starts[self.pair]
        self.predicted = self.keys & (1 << self._bits) - 1

    def _incidences(self, sets: Int[Tensor, " n"]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        """Return entry and concept of every incidence of entries with these sets."""
        offsets = self.truth.set_offsets
        starts = offsets[sets]
        member, entry = spread(starts, offsets[1:][sets] - starts)
        return entry, self.truth.concept_ids[member]

    def table(self, pairs: Tensor) -> Tensor:
        """Return [pairs] as [units, concepts]."""
        return pairs.view(self.n_units, self.truth.n_concepts)

    @property
    def unit_of_value(self) -> Int[Tensor, " n"]:
        """Number of the unit of every stored value, ascending."""
        return self._unit

    @property
    def values(self) -> Float[Tensor, " n"]:
        """Return the stored values, float32, the largest of each unit first."""
        return (_LARGEST - (self._value_keys & _LARGEST)).int().view(torch.float32)

    @property
    def truth_of_value(self) -> Bool[Tensor, "n concepts"]:
        """Return the concepts of the row of every stored value."""
        truth = torch.zeros(len(self._set), self.truth.n_concepts, dtype=torch.bool, device=self._set.device)
        truth[self._incidences(self._set)] = True
        return truth

    def best_thresholds(
        self,
    ) -> tuple[
        Float[Tensor, "units concepts"],
        Int[Tensor, "units concepts"],
        Int[Tensor, "units concepts"],
    ]:
        """Return the threshold of the best F1 of each pair (float64, null as NaN), its true positives, and what it
        predicts.

        ``F1 = 2 TP / (P + |G|)`` can only be largest at a value of a true row: a false one below it raises P alone.
        Ties: higher recall; with F1 and recall P is equal too, and so is the threshold. float64 quotients of whole
        numbers below 2^26 are equal only if the fractions are, so ties are exact up to 2^25 rows.
        """
        n_pairs, device = len(self.counts), self.keys.device
        bottom = self.predicted + self.truth.n_positive.expand(self.n_units, -1).reshape(-1)[self.pair]
        half_f1 = self.true.double() / bottom
        best = torch.segment_reduce(half_f1, "max", lengths=self.counts, unsafe=True)
        at = (half_f1 == best[self.pair]).nonzero().flatten()
        chosen = torch.full((n_pairs,), -1, dtype=torch.int64, device=device)
        chosen.scatter_reduce_(0, self.pair[at], at, "amax")
        valid = best > 0
        threshold = torch.full((n_pairs,), torch.nan, dtype=torch.float64, device=device)
        true, predicted = torch.zeros_like(chosen), torch.zeros_like(chosen)
        true[valid], predicted[valid] = self.true[chosen[valid]], self.predicted[chosen[valid]]
        unit = valid.nonzero().flatten() // self.truth.n_concepts
        bits = _LARGEST - (self._value_keys[self.starts[unit] + predicted[valid] - 1] & _LARGEST)
        threshold[valid] = bits.int().view(torch.float32).double()
        return self.table(threshold), self.table(true), self.table(predicted)

    def counts_at(
        self, thresholds: Float[Tensor, "units concepts"]
    ) -> tuple[Int[Tensor, "units concepts"], Int[Tensor, "units concepts"]]:
        """True positives and predicted rows of each pair at a threshold that is a float32; none where it is null."""
        flat = thresholds.flatten()
        valid = ~flat.isnan()
        pair = valid.nonzero().flatten()
        unit = pair // self.truth.n_concepts
        bits = _LARGEST - flat[valid].float().view(torch.int32).long()
        stop = torch.searchsorted(self._value_keys, unit << VALUE_BITS | bits, right=True)
        predicted, true = torch.zeros_like(self.counts), torch.zeros_like(self.counts)
        predicted[valid] = stop - self.starts[unit]
        keys = pair << self._bits | predicted[valid]
        true[valid] = torch.searchsorted(self.keys, keys, right=True) - self.pair_starts[pair]
        return self.table(true), self.table(predicted)

    def average_precision(self) -> Float[Tensor, "units concepts"]:
        """``Σ (R_i − R_{i−1}) P_i`` over distinct values, rows without a stored value last, all tied; NaN if G is ∅."""
        true = self.true
        tied = self.keys[1:] == self.keys[:-1]
        if bool(tied.any()):
            _, stops, group = _groups(tied)
            true = stops[group] - self.pair_starts[self.pair]
        precisions = true.double() / self.predicted
        total = self.table(torch.segment_reduce(precisions, "sum", lengths=self.counts, unsafe=True))
        n_positive = self.truth.n_positive.double()
        rest = (n_positive - self.table(self.counts)) * n_positive / max(self.truth.n_rows, 1)
        return torch.where(n_positive > 0, (total + rest) / n_positive, torch.nan)

    def auroc(self) -> Float[Tensor, "units concepts"]:
        """Return area under the ROC curve from ranks, ties counted half (Mann & Whitney 1947); NaN if G is ∅ or
        everything.

        Twice the pairs won by true rows are ``2 |G| n⁻ + |G|² − Σ_G (above + ends)``, a whole number.
        """
        first = self.starts[:-1].repeat_interleave(self.truth.n_concepts)[self.pair]
        both = self.above[first + self.predicted - 1] + self.predicted
        sums = self.table(torch.bincount(self.pair, weights=both.double(), minlength=len(self.counts)))
        n, n_positive = self.truth.n_rows, self.truth.n_positive.double()
        stored = self.starts.diff().double()[:, None]
        sums = sums + (n_positive - self.table(self.counts)) * (stored + n)
        n_negative = n - n_positive
        won = 2 * n_positive * n_negative + n_positive**2 - sums
        exists = (n_positive > 0) & (n_negative > 0)
        return torch.where(exists, won / (2 * n_positive * n_negative), torch.nan)

    def quantile(self, share: float) -> Float[Tensor, " units"]:
        """Return each unit's quantile over all rows of the split, those without a stored value at 0: linear,
        float64."""
        counts, n = self.starts.diff(), self.truth.n_rows
        rank = max(n - 1, 0) * share
        low = int(rank)
        ends = []
        for index in (low, min(low + 1, max(n - 1, 0))):
            from_top = n - 1 - index
            stored = counts > from_top
            value = torch.zeros(self.n_units, dtype=torch.float64, device=counts.device)
            value[stored] = self.values[(self.starts[:-1] + from_top)[stored]].double()
            ends.append(value)
        weight = rank - low
        step = ends[1] - ends[0]
        return ends[0] + step * weight if weight < 0.5 else ends[1] - step * (1 - weight)

    def purity(self, k: int) -> Float[Tensor, "units concepts"]:
        """True rows among the k with the largest values, over k.

        Of rows that tie across the k-th rank the share that has room counts, so no order of rows matters. A unit that
        fires on fewer than k rows does not fill them: the rest counts as not true.
        """
        top = (self.above < k).nonzero().flatten()
        room = ((k - self.above[top]).double() / (self.ends - self.above)[top]).clamp(max=1)
        entry, concept = self._incidences(self._set[top])
        pair = self._unit[top][entry] * self.truth.n_concepts + concept
        shares = torch.bincount(pair, weights=room[entry], minlength=len(self.counts))
        return self.table(shares).double() / k  # without a pair bincount forgets the type of the weights


def _groups(tied: Tensor) -> tuple[Int[Tensor, " groups"], Int[Tensor, " groups"], Int[Tensor, " n"]]:
    """Begin and end (exclusive) of each group of entries, ``tied[i]`` if i and i + 1 are in one, and each one's."""
    fresh = torch.nn.functional.pad(~tied, (1, 0), value=True)
    begins = fresh.nonzero().flatten()
    stops = torch.cat([begins[1:], begins.new_tensor([len(fresh)])])
    return begins, stops, fresh.cumsum(0) - 1
