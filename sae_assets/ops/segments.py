"""Exact order statistics of many groups at once, by one sort of packed (group, value) keys.

Positive float32 values order as their bit patterns do, so ``group << 32 | bits`` sorts by group, then value. Equal
keys are equal entries: the result depends on neither the order nor the chunking of the input, on any device.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of

BITS = 32
LARGEST = 0x7FFFFFFF  # bits of a float32 without a sign
FAN = 256
KEYS_ENOUGH = 5 * 2**20  # that are sorted at once on the CPU
SLICE = 2**17  # of keys and what goes with them, which a cache holds
AT_ONCE = 16  # members of a segment that compiled loops read, whether it has so many or others stand behind it
# How far two orders of adding up d products of float64 can lie apart: each errs by at most d·2⁻⁵³ of |x| |w|, and half
# of that more is for the rounding of norms. Then a few roundings of the sum with the bias, and what may underflow.
# Here, as ``dot_products`` and the loops that it calls both look.
REACH, FEW, LEAST = 3 * 2.0**-53, 8 * 2.0**-53, 2.0**-300
GROUPS_AT_ONCE = 2**12  # whose quantiles the processor's cache holds with what is made of them


def pack(groups: Int[Tensor, " n"], values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return int64 keys that order by group, then by value ascending; ``values`` float32 and > 0."""
    return groups.long() << BITS | values.view(torch.int32).long()


def pack_descending(groups: Int[Tensor, " n"], values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return int64 keys that order by group, then by value descending; ``values`` float32 and > 0."""
    return groups.long() << BITS | LARGEST - values.view(torch.int32).long()


def unpack(keys: Int[Tensor, "*n"]) -> tuple[Int[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return the (group, value) of keys made by :func:`pack`."""
    return keys >> BITS, (keys & LARGEST).int().view(torch.float32)


def unpack_descending(keys: Int[Tensor, "*n"]) -> tuple[Int[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return the (group, value) of keys made by :func:`pack_descending`."""
    return keys >> BITS, (LARGEST - (keys & LARGEST)).int().view(torch.float32)


def keys_within(memory_budget: int, device: torch.device | str = "cpu") -> int:
    """Return how many keys :func:`sort_keys` sorts within a budget: 8 bytes each on the CPU, 40 on a GPU; one at least.

    On the CPU no more than ``KEYS_ENOUGH``: with more at once nothing is faster (``bench_memory``).
    """
    if torch.device(device).type == "cpu":
        return max(1, min(memory_budget // 8, KEYS_ENOUGH))
    return max(1, memory_budget // 40)


def sort_keys(keys: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the keys ascending; on the CPU they are sorted in place."""
    if keys.device.type == "cpu":
        keys.numpy().sort()  # torch's own sort holds five times the memory
        return keys
    return keys.sort().values


def sort_tagged(keys: Int[Tensor, " n"], tags: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return the keys ascending, and their tags, int32, ascending too where keys are equal. Neither is negative.

    On the CPU a key and its tag are sorted as one number of 64 bits, in place; where these do not hold both, the keys
    are parted in two, as often as it takes.
    """
    if not len(keys):
        return keys, tags
    if keys.device.type != "cpu":
        order = tags.sort(stable=True).indices
        order = order[keys[order].sort(stable=True).indices]
        return keys[order], tags[order]
    least, most = 0, int(keys.numpy().max())  # a quarter of torch's time
    bits = int(tags.numpy().max()).bit_length()
    if most.bit_length() + bits > 64:  # of large keys only the difference from the least one is sorted
        least = int(keys.numpy().min())
    if (most - least).bit_length() + bits > 64:
        n = _part(keys, tags, (least + most) // 2)
        for some in (slice(0, n), slice(n, None)):
            sort_tagged(keys[some], tags[some])
        return keys, tags
    both, beside = keys.numpy().view("uint64"), tags.numpy().view("uint32")
    slices = [slice(first, first + SLICE) for first in range(0, len(both), SLICE)]  # whose memory is used over and over
    for some in slices:
        if least:
            both[some] -= least
        both[some] <<= bits
        both[some] |= beside[some]
    both.sort()
    for some in slices:
        beside[some] = both[some]  # of which 32 bits are left
        beside[some] &= (1 << bits) - 1
        both[some] >>= bits
        if least:
            both[some] += least
    return keys, tags


def _part(keys: Int[Tensor, " n"], tags: Int[Tensor, " n"], middle: int) -> int:
    """Put the keys that are not above ``middle`` before the others, with their tags, in place; how many they are."""
    n, m = 0, int((keys > middle).sum())
    others = torch.empty_like(keys[:m]), torch.empty_like(tags[:m])
    m = 0
    for some, beside in zip(keys.split(SLICE), tags.split(SLICE), strict=True):
        low = some <= middle
        n_low, n_high = int(low.sum()), int((~low).sum())
        others[0][m : m + n_high], others[1][m : m + n_high] = some[~low], beside[~low]
        keys[n : n + n_low], tags[n : n + n_low] = some[low], beside[low]  # which overwrites some of what is through
        n, m = n + n_low, m + n_high
    keys[n:], tags[n:] = others
    return n


def positions(mask: Bool[Tensor, " n"]) -> Int[Tensor, " m"]:
    """Return where a mask is true, ascending; on the CPU by numpy, which takes a tenth of torch's time."""
    return torch.from_numpy(mask.numpy().nonzero()[0]) if mask.device.type == "cpu" else mask.nonzero().flatten()


def ordered_sums(keys: Int[Tensor, " n"], counts: Int[Tensor, " groups"]) -> Float[Tensor, "2 groups"]:
    """Sum of the values and of their squares per group, float64, from sorted keys of groups 0, 1, … on the CPU.

    Blocks of ``FAN`` values are added in their order, then blocks of ``FAN`` of these sums, until one is left: the
    result depends on the values alone, and a sum of n values errs by at most ``FAN·⌈log_FAN n⌉·2⁻⁵³`` relative
    (Higham 2002, eq. 4.4, all terms positive): 1.2e-13 up to 4 billion values.
    """
    total = torch.zeros(2, len(counts), dtype=torch.float64, device="cpu")
    filled = positions(counts > 0)
    counts = counts.index_select(0, filled)
    lengths, counts = _block_lengths(counts)
    sums = torch.empty(2, len(lengths), dtype=torch.float64, device="cpu")
    for start, stop, some in _slices(lengths):
        terms = unpack(keys[some].cpu())[1].double()
        sums[0, start:stop] = added_up(terms, lengths[start:stop])
        sums[1, start:stop] = added_up(terms.square(), lengths[start:stop])
    while len(counts) and int(counts.max()) > 1:
        lengths, counts = _block_lengths(counts)
        sums = torch.stack([added_up(terms, lengths) for terms in sums])
    total[:, filled] = sums
    return total


def added_up(terms: Float[Tensor, " n"], lengths: Int[Tensor, " blocks"]) -> Float[Tensor, " blocks"]:
    """Sum of each block of terms, which on the CPU are added one after another."""
    return torch.segment_reduce(terms, "sum", lengths=lengths, unsafe=True)


def _block_lengths(counts: Int[Tensor, " groups"]) -> tuple[Int[Tensor, " blocks"], Int[Tensor, " groups"]]:
    """Terms in each block of ``FAN`` of groups of so many, none empty, and how many blocks each group has."""
    blocks = (counts + FAN - 1) // FAN
    lengths = torch.full((int(blocks.sum()),), FAN, dtype=torch.int64, device="cpu")
    lengths[blocks.cumsum(0) - 1] = counts - (blocks - 1) * FAN
    return lengths, blocks


def _slices(lengths: Int[Tensor, " blocks"]) -> Iterator[tuple[int, int, slice]]:
    """Yield blocks start to stop - 1, some at a time, and where their terms are."""
    first = 0
    for start, stop in cut_blocks(lengths, SLICE):
        last = first + int(lengths[start:stop].sum())
        yield start, stop, slice(first, last)
        first = last


def kth_largest(values: Float[Tensor, "rows n"], k: int) -> Float[Tensor, "rows 1"]:
    """Return the k-th largest value of each row; on the CPU by numpy, which takes a tenth of torch's time."""
    if values.device.type != "cpu":
        return values.topk(k, dim=1).values[:, -1:]
    index, parted = values.shape[1] - k, values.clone()
    parted.numpy().partition(index, axis=1)
    return parted[:, index, None]


def tree_sums(terms: Float[Tensor, "n terms"]) -> Float[Tensor, " n"]:
    """Sum of each row, in one order everywhere: halves are added until one term is left. Overwrites ``terms``."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]


def linear_quantiles(
    ordered: Float[Tensor, " n"] | Int[Tensor, " n"],
    counts: Int[Tensor, " groups"],
    q: Float[Tensor, " fractions"],
    out: Float[Tensor, "groups fractions"] | None = None,
) -> Float[Tensor, "groups fractions"]:
    """Return quantiles of each segment of ``ordered`` (values ascending in each), as
    ``numpy.quantile(method="linear")``.

    ``ordered`` are float values, or sorted keys of groups 0, 1, …, of which only those that are needed are unpacked.

    Rank ``(n - 1) q`` in float64; the lerp starts from the nearer neighbour, as numpy's does. float64, NaN for an
    empty segment; written to ``out`` if it is given.
    """
    if out is None:
        out = torch.empty(len(counts), len(q), dtype=torch.float64, device=ordered.device)
    out.fill_(torch.nan)
    filled = positions(counts > 0)
    n, starts, q = counts.index_select(0, filled), offsets_of(counts).index_select(0, filled), q.double()[:, None]
    for some in zip(*(each.split(_groups_at_once(ordered)) for each in (filled, n, starts)), strict=True):
        out.index_copy_(0, some[0], _quantiles(ordered, some[1], some[2], q).T)
    return out


def _groups_at_once(ordered: Tensor) -> int:
    """Return how many groups' quantiles are found together."""
    return GROUPS_AT_ONCE if ordered.device.type == "cpu" else max(1, len(ordered))


def _quantiles(
    ordered: Float[Tensor, " n"] | Int[Tensor, " n"],
    n: Int[Tensor, " groups"],
    starts: Int[Tensor, " groups"],
    q: Float[Tensor, "fractions 1"],
) -> Float[Tensor, "fractions groups"]:
    """Return quantiles of groups of n ordered values each, none empty."""
    rank = (n - 1).double() * q
    low = rank.floor()
    weight = rank - low
    first = (low.long() + starts).flatten()
    second = torch.minimum(first + 1, (starts + n - 1).expand_as(rank).flatten())
    below, above = (ordered.index_select(0, each) for each in (first, second))
    below, above = (
        (each if each.is_floating_point() else unpack(each)[1]).double().view_as(rank) for each in (below, above)
    )
    step = above - below
    return torch.where(weight < 0.5, below + step * weight, above - step * (1 - weight))


def cut_blocks(counts: Int[Tensor, " groups"], max_entries: int) -> Iterator[tuple[int, int]]:
    """Cut groups 0..n into segments [start, stop) whose entries sum to at most ``max_entries`` (one group at least)."""
    ends, start = counts.cumsum(0), 0
    while start < len(counts):
        before = int(ends[start - 1]) if start else 0
        one, full = torch.searchsorted(ends, ends.new_tensor([before, before + max_entries]), right=True).tolist()
        stop = min(len(counts), max(one + 1, full))
        yield start, stop
        start = stop
