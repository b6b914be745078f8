"""Loops of the exact search: the best pair of many truths at once, and the ranks of a unit's true examples.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import any_order, loop
from sae_assets.ops.segments import LARGEST

ONE, TWO = np.uint64(1), np.uint64(2)
SOME_BLOCKS = np.int64(2)  # after which hits are looked at: with more of them less is surely in vain
SURELY = 1 - 1e-9  # by which a bound lies below what rounding makes of it


@loop
@no_type_check
def _demand(demands, truth, f1, n_positive, min_support, n_scores):
    """Fill in how many hits a truth needs at each look for a pair of this F1 since the look before.

    Args:
        n_scores: between two looks.

    Returns:
        How many it needs however few examples are detected.
    """
    fewest = max(f1 * n_positive / (2 - f1) * SURELY, min_support)
    for look in range(len(demands)):
        hits = max(f1 * (look * n_scores + 1 + n_positive) / 2 * SURELY, fewest)
        demands[look, truth] = min(np.int64(np.ceil(hits)), np.iinfo(demands.dtype).max)
    return np.int64(np.ceil(fewest))


@loop
@no_type_check
def _add_up(pairs, examples, row, sums, hits):
    """Add a block's hits of each truth; those of ``pairs`` stand one half behind the other."""
    half = np.uint64(len(sums))
    a, b, c, d = examples[row, 0], examples[row, 1], examples[row, 2], examples[row, 3]
    e, f, g, h = examples[row, 4], examples[row, 5], examples[row, 6], examples[row, 7]
    a, b, c, d = np.uint64(a), np.uint64(b), np.uint64(c), np.uint64(d)
    e, f, g, h = np.uint64(e), np.uint64(f), np.uint64(g), np.uint64(h)
    for column in range(half):
        four = pairs[a, column] + pairs[b, column] + pairs[c, column] + pairs[d, column]
        sums[column] = four + pairs[e, column] + pairs[f, column] + pairs[g, column] + pairs[h, column]
    for column in range(half):
        hits[column] += sums[column] & 15
    for column in range(half):
        hits[half + column] += sums[column] >> 4


@loop
@no_type_check
def _walk(pairs, examples, ends, row, before, unit, keys, starts, truth, count, n_positive, min_support, best, chosen):
    """Go through a block's scores: a better pair of this truth is kept in ``best`` and ``chosen``.

    Args:
        before: scores of the unit before the block; count: hits among these.

    Returns:
        Hits up to the end of the block, and whether there was a better pair.
    """
    half, better = pairs.shape[1], False
    column, shift = (truth, 0) if truth < half else (truth - half, 4)
    for offset in range(examples.shape[1]):
        count += np.int64(pairs[examples[row, offset], column] >> shift & 1)
        if count < min_support or not ends[row, offset]:
            continue
        length = before + offset + 1
        f1 = 2 * np.float64(count) / np.float64(length + n_positive)
        if f1 < best[truth]:
            continue
        if f1 == best[truth]:
            if count < chosen[2, truth]:
                continue
            if count == chosen[2, truth]:  # of the same length, then; of keys without units the smaller is the higher
                other = chosen[0, truth]
                score, other_score = (
                    keys[starts[unit] + length - 1] & LARGEST,
                    keys[starts[other] + length - 1] & LARGEST,
                )
                if score > other_score or (score == other_score and unit > other):
                    continue
        best[truth], chosen[0, truth], chosen[1, truth], chosen[2, truth] = f1, unit, length, count
        better = True
    return count, better


@loop
@no_type_check
def search(
    pairs, examples, ends, units, bounds, n_longer, keys, starts, n_positive, reached, min_support, running, chosen
):
    """Fill ``chosen`` with the best pair of each truth, by the rule of ties: unit, length, hits; −1, 0, 0 without one.

    Hits are added up for all truths at once and looked at after some blocks. These are walked score by score for truths
    that can have a pair in them which is as good as the best one so far. A list is left when no truth can have one in
    what is to come.

    Args:
        pairs: uint8 [examples + 1, half], two truths in each, four bits of one: of the first and the second half.
        examples, ends, units: of blocks of scores, in slabs of the first of each unit, the second and so on.
        bounds: the first block of each slab; n_longer: how many units have a block there.
        keys, starts: of the scores.
        n_positive, reached: of each truth; pairs of an F1 below ``reached`` are not looked for.
        running: [truths] of anything, of an unsigned type that holds more than all positives.
    """
    n_truths, n_blocks, size = len(n_positive), np.int64(len(n_longer)), np.int64(examples.shape[1])
    some_hits, sums = np.empty(n_truths, np.uint8), np.empty(pairs.shape[1], np.uint8)
    near, better = np.empty(n_truths, np.uint8), np.zeros(n_truths, np.bool_)
    eight_near = near.view(np.uint64)
    best, fewest = np.zeros(n_truths, np.float64), np.empty(n_truths, np.int64)
    demands = np.empty(((n_blocks - 1) // SOME_BLOCKS + 1, n_truths), running.dtype)
    chosen[0], chosen[1], chosen[2] = -1, 0, 0
    for truth in range(n_truths):
        fewest[truth] = _demand(demands, truth, reached[truth], n_positive[truth], min_support, SOME_BLOCKS * size)
    fewest_of_all = fewest.min()
    for rank in range(n_longer[0]):
        while rank >= n_longer[n_blocks - 1]:
            n_blocks -= 1
        if n_blocks * size < fewest_of_all:
            break
        last = (n_blocks - 1) // SOME_BLOCKS
        running[:] = 0
        able = 0  # the first truth that can reach what it has
        for look in range(last + 1):
            first, stop = look * SOME_BLOCKS, min(look * SOME_BLOCKS + SOME_BLOCKS, n_blocks)
            rest = (n_blocks - first) * size
            while able < n_truths and (
                np.int64(running[able]) + rest < np.int64(demands[last, able])
                or np.int64(demands[look, able]) > n_positive[able]
            ):
                able += 1
            if able == n_truths:
                break
            some_hits[:] = 0
            for block in range(first, stop):
                _add_up(pairs, examples, np.uint64(bounds[block] + rank), sums, some_hits)
            for truth in range(np.uint64(n_truths)):
                running[truth] += some_hits[truth]
            for truth in range(np.uint64(n_truths)):
                near[truth] = running[truth] >= demands[look, truth]
            for eight in range(len(eight_near)):
                if eight_near[eight] == 0:
                    continue
                for truth in range(8 * eight, 8 * eight + 8):
                    if near[truth] == 0:
                        continue
                    count = np.int64(running[truth]) - np.int64(some_hits[truth])
                    for block in range(first, stop):
                        row = bounds[block] + rank
                        count, new = _walk(
                            pairs, examples, ends, row, block * size, units[row], keys, starts, truth, count,
                            n_positive[truth], min_support, best, chosen,
                        )  # fmt: skip
                        better[truth] |= new
        if better.any():
            for truth in range(n_truths):
                if better[truth] and best[truth] > reached[truth]:
                    some = demands[: last + 1]
                    fewest[truth] = _demand(
                        some, truth, best[truth], n_positive[truth], min_support, SOME_BLOCKS * size
                    )
            better[:] = False
            fewest_of_all = fewest.min()


@any_order
@no_type_check
def _of_true(example, excess, truth, start, stop):
    """Return how many of the examples from one position to another are true, and the sum of their ``excess``."""
    count, count_of_others, total, rest = np.int64(0), np.int64(0), 0.0, 0.0
    position = start
    while position + ONE < stop:
        one, other = np.int64(truth[np.uint64(example[position])]), np.int64(truth[np.uint64(example[position + ONE])])
        count, count_of_others = count + one, count_of_others + other
        total, rest = total + one * excess[position], rest + other * excess[position + ONE]
        position += TWO
    if position < stop:
        one = np.int64(truth[np.uint64(example[position])])
        count, total = count + one, total + one * excess[position]
    return count + count_of_others, total + rest


@loop
@no_type_check
def add_up_ranks(example, excess, starts, lengths, detected, truths, hits, ranks):
    """Add to ``hits`` and ``ranks`` of each truth what ``rank_sums.rank_sums`` finds in the run of its unit.

    Args:
        excess: multiples of a half, whose sums are exact in any order.
        starts, lengths, detected: of each truth, where that run begins and how far it goes.
        truths: [truths, examples].
    """
    for draw in range(len(hits)):
        start = np.uint64(starts[draw])
        within, stop = start + np.uint64(detected[draw]), start + np.uint64(lengths[draw])
        count, total = _of_true(example, excess, truths[draw], start, within)
        _, others = _of_true(example, excess, truths[draw], within, stop)
        hits[draw] += count
        ranks[draw] += total + others
