"""Loops over scores of examples: the largest values that they are, and what thresholds detect.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import loop
from sae_assets.ops.segments import BITS, LARGEST
from sae_assets.ops.streams import lead, write

LAST, ABOVE = np.int64(LARGEST), np.int64(np.iinfo(np.int64).max)
NEVER = np.int32(LARGEST)  # no score has so many bits
ONE = np.uint64(1)
SOME_SCORES = np.uint64(2**14)  # that a cache holds
WORDS = np.uint64(16)  # counts of a line of memory
FINE = np.uint64(8)  # bins of a table for each score: with fewer more is left to compare, with more caches hold less


@loop
@no_type_check
def gather_largest(example_offsets, row_offsets, unit_ids, bits, tag_of_example, keys, tags, counts):
    """Fill ``keys`` (unit, largest value descending) and ``tags`` of examples that have one; count them by split and
    unit. Returns how many."""
    slot = np.full(counts.shape[1], -1, np.int32)  # where the score of a unit stands, in the example or one before
    filled = np.int32(0)
    for example in range(len(tag_of_example)):
        tag, begin = tag_of_example[example], filled
        if tag < 0:
            continue
        first, stop = row_offsets[example_offsets[example]], row_offsets[example_offsets[example + 1]]
        for entry in range(np.uint64(first), np.uint64(stop)):
            unit = np.int64(unit_ids[entry])
            key = unit << BITS | LAST - np.int64(bits[entry])
            index = slot[np.uint64(unit)]
            fresh = index < begin  # which a processor guesses badly, so that both do the same
            index = filled if fresh else index
            slot[np.uint64(unit)] = index
            position = np.uint64(np.uint32(index))
            so_far = keys[position]
            keys[position] = min(ABOVE if fresh else so_far, key)
            filled = np.int32(filled + np.int32(fresh))
        for index in range(np.uint64(begin), np.uint64(filled)):
            tags[index] = tag
            counts[tag & 1, np.uint64(keys[index] >> BITS)] += 1
    return filled


@loop
@no_type_check
def _lay_out_scores(keys, n, score, above):
    """Fill ``score`` with one above all and the bits of a unit's n scores, falling, and ``above`` with how many are not
    surely below a threshold by its first bits; returns the least score, how many last bits to leave out, and the number
    of bins."""
    for index in range(n):
        score[index + ONE] = np.int32(LAST - (keys[index] & LAST))
    score[np.uint64(0)] = NEVER
    least, shift = score[n], np.int32(0)
    while np.uint64(score[ONE] - least >> shift) >= FINE * n:
        shift += np.int32(1)
    n_bins = np.uint64(score[ONE] - least >> shift) + ONE
    above[: n_bins + ONE] = 0
    for index in range(n):
        above[np.uint64(score[index + ONE] - least >> shift)] += np.uint32(1)
    total = np.uint32(0)
    for bin_index in range(n_bins):
        total += above[n_bins - ONE - bin_index]
        above[n_bins - ONE - bin_index] = total
    return least, shift, np.int32(n_bins)


@loop
@no_type_check
def _look_up(cutoff_bits, bins, score, above, positive, detected, begin, n):
    """Put over n columns of ``cutoff_bits`` and ``bins``, from one on, the true and the false positives of a unit.

    A loop of its own, of few variables: beside all those of ``count_detected`` each of them would wait in memory.
    """
    width, n_columns = np.uint64(positive.shape[1]), np.uint64(cutoff_bits.shape[1])
    hits, others, running = cutoff_bits.reshape(-1), bins.reshape(-1), positive.reshape(-1)
    for concept in range(np.uint64(len(cutoff_bits))):
        column = concept * n_columns + begin
        end = column + n
        while column < end:
            bits = hits[column]
            stop = np.uint64(above[np.uint64(np.uint32(others[column]))])
            stop -= np.uint64(score[stop] < bits)  # seldom more; guesses cost more
            while score[stop] < bits:
                stop -= ONE
            some = running[stop * width + np.uint64(concept)]
            hits[column], others[column] = some, detected[stop] - some
            column += ONE


@loop
@no_type_check
def count_detected(keys, tags, starts, truths, half, staged, thresholds, true, false, first_unit, n_fractions):
    """Fill [splits · concepts · units · fractions] from a unit on with true and false positives at thresholds (null:
    none); returns whether thresholds do not rise, so that counts do not fall.

    Both splits are counted at once, as one number in whose last bits the first split stands. Thresholds of some units
    come concept by concept, as they lie; the same of counts, as to fetch and to write them takes the longest.

    Args:
        tags: twice the position of the example within its split, plus the number of the split.
        truths: by tag and concept 1, of the second split times 2^half; of a type of unsigned numbers of 2·half bits,
            half of which count the examples of a split.
        staged: room for two numbers of each concept and fraction of some units, [2, concepts, units · fractions]: what
            of a threshold is looked for, and then, over it, what was counted; signed, of 32 bits at least.
        thresholds: of all units, [concepts, units · fractions].
    """
    concepts, fractions, width = np.uint64(len(thresholds)), np.uint64(n_fractions), np.uint64(truths.shape[1])
    per_concept = np.uint64(thresholds.shape[1])
    n_units, first_unit = np.uint64(len(starts) - 1), np.uint64(first_unit)
    longest = np.int64(0)
    for unit in range(n_units):
        longest = max(longest, starts[unit + ONE] - starts[unit])
    room = max(SOME_SCORES, np.uint64(longest + 1))
    cutoff_bits, bins = staged[0], staged[1]
    hits, others = cutoff_bits, bins
    n_columns = np.uint64(staged.shape[2])
    some_units = n_columns // max(ONE, fractions)
    score, above = np.empty(room, np.int32), np.empty(FINE * room, np.uint32)
    positive, detected = np.zeros((longest + 1, width), truths.dtype), np.zeros(longest + 1, truths.dtype)
    one = np.empty(2, truths.dtype)
    one[0], one[1] = 1, 1 << half
    shift_half, mask = staged.dtype.type(half), staged.dtype.type(one[1] - one[0])
    least, shift, n_bins = np.zeros(n_columns, np.int32), np.zeros(n_columns, np.int32), np.zeros(n_columns, np.int32)
    inner = np.ones(n_columns, np.int32)  # that has another fraction of its unit before it
    inner[::fractions] = 0
    of_first, of_second = np.empty(n_columns, np.int32), np.empty(n_columns, np.int32)  # split
    led = np.uint64(lead(true)), np.uint64(lead(false))
    rising = np.int32(0)
    unit = np.uint64(0)
    while unit < n_units:
        n_some = np.uint64(0)  # units
        first = np.uint64(0)
        while n_some < some_units and unit + n_some < n_units:
            start = np.uint64(starts[unit + n_some])
            n = np.uint64(starts[unit + n_some + ONE]) - start
            if n_some > 0 and first + n + ONE > room:
                break
            low, skipped, some_bins = np.int32(1), np.int32(0), np.int32(0)
            score[first], above[FINE * first] = NEVER, 0
            if n > 0:
                low, skipped, some_bins = _lay_out_scores(keys[start:], n, score[first:], above[FINE * first :])
            for column in range(n_some * fractions, (n_some + ONE) * fractions):
                least[column], shift[column], n_bins[column] = low, skipped, some_bins
            first += n + ONE
            n_some += ONE
        filled = n_some * fractions
        begin = (first_unit + unit) * fractions
        for concept in range(concepts):
            for column in range(filled):
                threshold = thresholds[concept, begin + column]
                rounded = np.float32(threshold)  # scores reach it that reach the least number of 32 bits above it
                bits = rounded.view(np.int32) + np.int32(np.float64(rounded) < threshold)
                cutoff_bits[concept, column] = bits if threshold == threshold else NEVER
            for column in range(filled):
                above_least = np.int32(np.int32(cutoff_bits[concept, column]) - least[column])
                bin_index = np.int32(above_least >> (shift[column] & np.int32(31)))  # 31: a shift of 32 bits at most
                bins[concept, column] = min(max(bin_index, np.int32(0)), n_bins[column])
            for column in range(ONE, filled):
                rises = np.int32(cutoff_bits[concept, column] > cutoff_bits[concept, column - ONE])
                rising = np.int32(rising | np.int32(inner[column] & rises))
        first = np.uint64(0)
        for number in range(n_some):
            number = np.uint64(number)
            start = np.uint64(starts[unit + number])
            n = np.uint64(starts[unit + number + ONE]) - start
            for index in range(n):
                tag = np.uint64(tags[start + index])
                for concept in range(width):
                    positive[index + ONE, concept] = positive[index, concept] + truths[tag, concept]
                detected[index + ONE] = detected[index] + one[tag & ONE]
            of_unit = score[first:], above[FINE * first :], positive, detected
            _look_up(staged[0], staged[1], *of_unit, number * fractions, fractions)
            first += n + ONE
        for concept in range(concepts):
            first, second = concept * per_concept + begin, (concepts + concept) * per_concept + begin
            for column in range(filled):
                both = hits[concept, column]
                of_first[column], of_second[column] = both & mask, both >> shift_half & mask
            write(true, led[0], first, of_first, np.uint64(0), filled, WORDS)
            write(true, led[0], second, of_second, np.uint64(0), filled, WORDS)
            for column in range(filled):
                both = others[concept, column]
                of_first[column], of_second[column] = both & mask, both >> shift_half & mask
            write(false, led[1], first, of_first, np.uint64(0), filled, WORDS)
            write(false, led[1], second, of_second, np.uint64(0), filled, WORDS)
        unit += n_some
    return rising == 0
