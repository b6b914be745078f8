"""Loops over the values of units: gathered by unit, their sums and quantiles, those of each concept's rows.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import loop
from sae_assets.ops.segments import AT_ONCE, BITS, FAN, LARGEST

LAST = np.int64(LARGEST)
ONE, TWO, WIDTH = np.uint64(1), np.uint64(2), np.uint64(AT_ONCE)
LEVELS = 3  # of sums of sums of FAN values: for as many as 32 bits count


@loop
@no_type_check
def lay_out_truth(row_offsets, concept_ids, place, places, truth):
    """Fill ``truth`` with how many concepts a row has, and then these, from an even place on; half of that goes to
    ``places``, counted from ``place``, of rows that have some and are not below 0 there. Returns how much is filled."""
    filled = np.uint64(0)
    for row in range(len(places)):
        first, stop = np.uint64(row_offsets[row]), np.uint64(row_offsets[row + 1])
        if places[row] < 0 or first == stop:
            continue
        places[row] = np.int64(place) + np.int64(filled >> ONE)
        truth[filled] = stop - first
        for member in range(first, stop):
            truth[filled + ONE + member - first] = concept_ids[member]
        filled += ((stop - first >> ONE) + ONE) << ONE
    return np.int64(filled)


@loop
@no_type_check
def gather_values(row_offsets, unit_ids, bits, places, keys, tags, n_active):
    """Fill ``keys`` (unit, value) with entries of rows that have a place, and ``tags`` with that, unless it is empty;
    count units."""
    filled = np.uint64(0)
    for row in range(len(places)):
        if places[row] < 0:
            continue
        for entry in range(row_offsets[row], row_offsets[row + 1]):
            unit = np.int64(unit_ids[entry])
            keys[filled] = unit << BITS | np.int64(bits[entry])
            n_active[unit] += 1
            filled += ONE
        if len(tags):
            tags[filled - np.uint64(row_offsets[row + 1] - row_offsets[row]) : filled] = places[row]


@loop
@no_type_check
def _between(below, above, weight):
    """The point between two neighbours, from the nearer one."""
    step = above - below
    nearer_below, nearer_above = below + step * weight, above - step * (1.0 - weight)
    return nearer_below if weight < 0.5 else nearer_above


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
            some = more = 0.0
            for place in range(first, min(first + np.uint64(FAN), stop)):
                value = np.float64(np.int32(keys[place] & LAST).view(np.float32))
                some += value
                more += value * value
            level = 0
            while True:
                total[level], square[level], terms[level] = total[level] + some, square[level] + more, terms[level] + 1
                if terms[level] < FAN or level == LEVELS - 1:
                    break
                some, more = total[level], square[level]
                total[level], square[level], terms[level] = 0.0, 0.0, 0
                level += 1
        for level in range(LEVELS - 1):
            total[level + 1] += total[level]
            square[level + 1] += square[level]
        sums[0, group], sums[1, group] = total[LEVELS - 1], square[LEVELS - 1]
        for fraction in range(len(q)):
            rank = np.float64(stop - start - ONE) * q[fraction]
            whole = np.uint64(rank)
            weight = rank - np.float64(whole)
            low = np.float64(np.int32(keys[start + whole] & LAST).view(np.float32))
            high = np.float64(np.int32(keys[start + whole + np.uint64(weight > 0)] & LAST).view(np.float32))
            quantiles[group, fraction] = _between(low, high, weight)


@loop
@no_type_check
def _quantiles(ordered, first, last, q, work, out):
    """``segments.linear_quantiles`` of runs of ``ordered`` that begin at ``first`` and are ``last`` longer than one;
    fills ``out`` [fractions, runs], for an empty run with anything.

    In steps, so that a processor takes several runs at a time in all but the one that looks values up.

    Args:
        work: arrays [runs] of which two are of whole numbers, and three are not.
    """
    low, high, weight, below, above = work
    n = np.uint64(len(first))
    for fraction in range(np.uint64(len(q))):
        for run in range(n):
            rank = np.float64(last[run]) * q[fraction]
            whole = np.int64(rank)
            weight[run] = rank - np.float64(whole)
            low[run] = first[run] + whole
            high[run] = low[run] + np.int64(rank > np.float64(whole))
        for run in range(n):
            below[run], above[run] = ordered[np.uint64(low[run])], ordered[np.uint64(high[run])]
        for run in range(n):
            out[fraction, run] = _between(below[run], above[run], weight[run])


@loop
@no_type_check
def quantiles_by_concept(keys, tags, starts, truth, q, n_positive, values):
    """Fill [concepts + 1, units] and [concepts + 1, units, fractions] of the units of a block.

    The values of a unit, ascending, are dealt out to the concepts of their rows, so that those of each ascend too.

    Args:
        truth: at twice the place that a tag names, how many concepts the row has, and then these; ``AT_ONCE`` more at
            its end, of anything.
    """
    n_fractions, n_runs = np.uint64(len(q)), len(n_positive)  # a run of each concept, and the unit's own
    n_concepts = np.uint64(n_runs - 1)
    stops, first, last = np.zeros(n_runs, np.uint32), np.empty(n_runs, np.int64), np.empty(n_runs, np.int64)
    number, out = np.empty(n_runs, np.float64), np.empty((len(q), n_runs), np.float64)
    work = np.empty_like(first), np.empty_like(first), number, np.empty_like(number), np.empty_like(number)
    dealt = np.zeros(1 << 14, np.float32)  # by concept, and behind them all
    value, concept = np.empty_like(dealt), np.empty(len(dealt), truth.dtype)  # as they come
    for unit in range(len(starts) - 1):
        start, n = np.uint64(starts[unit]), np.uint64(starts[unit + 1] - starts[unit])
        total = np.uint64(0)
        for entry in range(start, start + n):
            total += np.uint64(truth[np.uint64(tags[entry]) << ONE])
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
            for member in range(WIDTH):
                concept[filled + member] = truth[head + ONE + member]
            for member in range(WIDTH, members):
                value[filled + member], concept[filled + member] = own, truth[head + ONE + member]
            filled += members
        stops[:] = 0
        for entry in range(total):
            stops[np.uint64(concept[entry])] += np.uint32(1)
        stops[n_concepts] = np.uint32(n)
        before = np.uint32(0)
        for run in range(np.uint64(n_runs)):
            count = stops[run]
            n_positive[run, unit], first[run], last[run] = count, before, max(np.int64(count), 1) - 1
            stops[run] = before
            before += count
        for entry in range(total):
            run = np.uint64(concept[entry])
            dealt[np.uint64(stops[run])] = value[entry]
            stops[run] += np.uint32(1)
        _quantiles(dealt, first, last, q, work, out)
        for run in range(np.uint64(n_runs)):
            if n_positive[run, unit] == 0:
                values[run, unit] = np.nan
                continue
            for fraction in range(n_fractions):
                values[run, unit, fraction] = out[fraction, run]
