"""Loops over the values of units: gathered by unit, their sums and quantiles, those of each concept's rows.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import loop
from sae_assets.ops.segments import AT_ONCE, BITS, FAN, LARGEST
from sae_assets.ops.streams import lead, write

LAST = np.int64(LARGEST)
ONE, TWO, WIDTH = np.uint64(1), np.uint64(2), np.uint64(AT_ONCE)
FEW = 64  # values, of which fewer have their quantiles' positions looked up
UNITS_AT_ONCE = np.uint64(32)  # whose quantiles are written together, of all concepts,
CELLS_AT_ONCE = np.uint64(2**16)  # or as many as a cache holds
WORDS = np.uint64(8)  # float64 of a line of memory
LEVELS = 3  # of sums of sums of FAN values: for as many as 32 bits count


@loop
@no_type_check
def lay_out_truth(row_offsets, concept_ids, first_tag, tag_of_row, truth):
    """Fill ``truth`` with how many concepts a row has, and then these, from an even position on; half of that goes to
    ``tag_of_row``, counted from ``first_tag``, of rows that have some and are not below 0 there. Returns how much is
    filled."""
    filled = np.uint64(0)
    for row in range(len(tag_of_row)):
        first, stop = np.uint64(row_offsets[row]), np.uint64(row_offsets[row + 1])
        if tag_of_row[row] < 0 or first == stop:
            continue
        tag_of_row[row] = np.int64(first_tag) + np.int64(filled >> ONE)
        truth[filled] = stop - first
        for member in range(first, stop):
            truth[filled + ONE + member - first] = concept_ids[member]
        filled += ((stop - first >> ONE) + ONE) << ONE
    return np.int64(filled)


@loop
@no_type_check
def gather_values(row_offsets, unit_ids, bits, tag_of_row, keys, tags, n_active, tagged):
    """Fill ``keys`` (unit, value) with entries of rows that have a tag, and ``tags`` with that, if they are tagged;
    count units. Returns how many entries these are."""
    filled = np.uint64(0)
    for row in range(len(tag_of_row)):
        if tag_of_row[row] < 0:
            continue
        for entry in range(row_offsets[row], row_offsets[row + 1]):
            unit = np.int64(unit_ids[entry])
            keys[filled] = unit << BITS | np.int64(bits[entry])
            n_active[unit] += 1
            filled += ONE
        if tagged:
            tags[filled - np.uint64(row_offsets[row + 1] - row_offsets[row]) : filled] = tag_of_row[row]
    return np.int64(filled)


@loop
@no_type_check
def _between(nearer, other, weight):
    """The point between two neighbours, so far from the nearer one."""
    return nearer + (other - nearer) * weight


@loop
@no_type_check
def _rank(n, q):
    """Positions of the two of n values between which a quantile lies, the nearer one first, and how far from that."""
    rank = np.float64(n - ONE) * q
    below = np.uint64(rank)
    weight = rank - np.float64(below)
    above = below + np.uint64(weight > 0)
    return (below, above, weight) if weight < 0.5 else (above, below, 1.0 - weight)


@loop
@no_type_check
def sums_and_quantiles(keys, starts, q, sums, quantiles):
    """``segments.ordered_sums`` and ``linear_quantiles`` of the sorted keys of groups: fills [2, groups], which are 0,
    and [groups, fractions]."""
    total, square = np.empty(LEVELS, np.float64), np.empty(LEVELS, np.float64)
    terms = np.empty(LEVELS, np.int64)
    for group in range(len(starts) - 1):
        start, stop = np.uint64(starts[group]), np.uint64(starts[group + 1])
        if start == stop:
            quantiles[group] = np.nan
            continue
        total[:], square[:], terms[:] = 0.0, 0.0, 0
        for first in range(start, stop, np.uint64(FAN)):
            some = squares = 0.0
            for position in range(first, min(first + np.uint64(FAN), stop)):
                value = np.float64(np.int32(keys[position] & LAST).view(np.float32))
                some += value
                squares += value * value
            level = 0
            while True:
                total[level], square[level], terms[level] = (
                    total[level] + some,
                    square[level] + squares,
                    terms[level] + 1,
                )
                if terms[level] < FAN or level == LEVELS - 1:
                    break
                some, squares = total[level], square[level]
                total[level], square[level], terms[level] = 0.0, 0.0, 0
                level += 1
        for level in range(LEVELS - 1):
            total[level + 1] += total[level]
            square[level + 1] += square[level]
        sums[0, group], sums[1, group] = total[LEVELS - 1], square[LEVELS - 1]
        for fraction in range(len(q)):
            nearer, other, weight = _rank(stop - start, q[fraction])
            near = np.float64(np.int32(keys[start + nearer] & LAST).view(np.float32))
            far = np.float64(np.int32(keys[start + other] & LAST).view(np.float32))
            quantiles[group, fraction] = _between(near, far, weight)


@loop
@no_type_check
def _copy(source, start, target, first):
    """Copy ``AT_ONCE`` members. All are read before one is written, so that a processor may move them together."""
    a, b, c, d = source[start], source[start + ONE], source[start + TWO], source[start + np.uint64(3)]
    start += np.uint64(4)
    e, f, g, h = source[start], source[start + ONE], source[start + TWO], source[start + np.uint64(3)]
    start += np.uint64(4)
    i, j, k, m = source[start], source[start + ONE], source[start + TWO], source[start + np.uint64(3)]
    start += np.uint64(4)
    n, o, p, q = source[start], source[start + ONE], source[start + TWO], source[start + np.uint64(3)]
    target[first], target[first + ONE], target[first + TWO], target[first + np.uint64(3)] = a, b, c, d
    first += np.uint64(4)
    target[first], target[first + ONE], target[first + TWO], target[first + np.uint64(3)] = e, f, g, h
    first += np.uint64(4)
    target[first], target[first + ONE], target[first + TWO], target[first + np.uint64(3)] = i, j, k, m
    first += np.uint64(4)
    target[first], target[first + ONE], target[first + TWO], target[first + np.uint64(3)] = n, o, p, q


@loop
@no_type_check
def quantiles_by_concept(keys, tags, starts, truth, q, n_positive, values, first_unit):
    """Fill [concepts + 1, units] and [concepts + 1 · units · fractions], from a unit on, of the units of a block;
    returns whether their values are positive and ascend, so that quantiles do.

    The values of a unit, ascending, are dealt out to the concepts of their rows, so that those of each ascend too.

    Args:
        truth: at twice its tag, how many concepts the row has, and then these; ``AT_ONCE`` more at its end, of
            anything.
    """
    fractions, n_units, first_unit = np.uint64(len(q)), np.uint64(len(starts) - 1), np.uint64(first_unit)
    n_segments = np.uint64(len(n_positive))  # one of each concept, and the unit's own
    n_concepts, per_segment, led = n_segments - ONE, np.uint64(n_positive.shape[1]) * fractions, np.uint64(lead(values))
    some_units = max(ONE, min(UNITS_AT_ONCE, CELLS_AT_ONCE // max(ONE, n_segments * fractions)))
    n_columns = some_units * fractions
    staged = np.empty(n_segments * n_columns, np.float64)
    nearer, other = np.zeros((FEW, len(q)), np.uint64), np.zeros((FEW, len(q)), np.uint64)
    weight = np.zeros((FEW, len(q)), np.float64)
    for n in range(1, FEW):
        for fraction in range(fractions):
            nearer[n, fraction], other[n, fraction], weight[n, fraction] = _rank(np.uint64(n), q[fraction])
    stops = np.zeros(n_segments, np.uint32)
    dealt = np.zeros(1 << 14, np.float32)  # by concept, and behind them all
    value, concept = np.empty_like(dealt), np.empty(len(dealt), truth.dtype)  # as they come
    outside = 0
    for unit in range(n_units):
        start, n = np.uint64(starts[unit]), np.uint64(starts[unit + 1] - starts[unit])
        total = np.uint64(0)
        for entry in range(start, start + n):
            total += np.uint64(truth[np.uint64(tags[entry]) << ONE])
        if n > 0:
            outside += keys[start] & LAST == 0
            for entry in range(start, start + n - ONE):
                outside += keys[entry + ONE] < keys[entry]
        needed = total + n + WIDTH
        if needed > np.uint64(len(dealt)):
            dealt = np.empty(needed + (needed >> TWO), np.float32)
            value, concept = np.empty_like(dealt), np.empty(len(dealt), truth.dtype)
        filled = np.uint64(0)
        for entry in range(n):
            head = np.uint64(tags[start + entry]) << ONE
            own, members = np.int32(keys[start + entry] & LAST).view(np.float32), np.uint64(truth[head])
            dealt[total + entry] = own
            for member in range(WIDTH):  # all at once, most rows having fewer; what is too many is overwritten
                value[filled + member] = own
            _copy(truth, head + ONE, concept, filled)
            for member in range(WIDTH, members):
                value[filled + member], concept[filled + member] = own, truth[head + ONE + member]
            filled += members
        stops[:] = 0
        for entry in range(total):
            stops[np.uint64(concept[entry])] += np.uint32(1)
        stops[n_concepts] = np.uint32(n)
        before = np.uint32(0)
        for segment in range(n_segments):
            count = stops[segment]
            n_positive[segment, first_unit + unit], stops[segment] = count, before
            before += count
        for entry in range(total):
            segment = np.uint64(concept[entry])
            dealt[np.uint64(stops[segment])] = value[entry]
            stops[segment] += np.uint32(1)
        stops[n_concepts] = before
        first, column = np.uint64(0), unit % some_units * fractions
        for segment in range(n_segments):
            stop = np.uint64(stops[segment])
            count = stop - first
            if count == 0:
                staged[column : column + fractions] = np.nan
            elif count < np.uint64(FEW):
                for fraction in range(fractions):
                    near = np.float64(dealt[first + nearer[count, fraction]])
                    far = np.float64(dealt[first + other[count, fraction]])
                    staged[column + fraction] = _between(near, far, weight[count, fraction])
            else:
                for fraction in range(fractions):
                    index, beside, share = _rank(count, q[fraction])
                    near, far = np.float64(dealt[first + index]), np.float64(dealt[first + beside])
                    staged[column + fraction] = _between(near, far, share)
            first = stop
            column += n_columns
        if (unit + ONE) % some_units == 0 or unit + ONE == n_units:
            filled = (unit % some_units + ONE) * fractions
            position = (first_unit + unit + ONE) * fractions - filled
            for segment in range(n_segments):
                write(values, led, segment * per_segment + position, staged, segment * n_columns, filled, WORDS)
    return outside == 0
