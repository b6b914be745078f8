"""Loops over scores and values that torch has no operation for, compiled by Numba (``ops.compiled`` says when).

Each gives what the torch code beside its call gives, bit for bit. Whole numbers are unsigned where they are positions:
Numba would test each for being negative, and count from the end. Compiled code is kept beside this file or in the
user's cache, and made anew when this file changes.
"""

from typing import Any, no_type_check

import numpy as np

from sae_assets.ops.segments import AT_ONCE, BITS, FAN, LARGEST

try:
    import numba
except ImportError:  # not installed, or not of this NumPy: interpreted they are right, and of no use but to tests
    COMPILED = False

    def loop(function: Any) -> Any:
        return function
else:
    COMPILED = not numba.config.DISABLE_JIT
    loop = numba.njit(cache=True, nogil=True)

LAST, ABOVE = np.int64(LARGEST), np.int64(np.iinfo(np.int64).max)
ONE, TWO, WIDTH = np.uint64(1), np.uint64(2), np.uint64(AT_ONCE)
LEVELS = 3  # of sums of sums of FAN values: for as many as 32 bits count
FINE = 8  # places of a table of scores for each of them: with fewer more is left to compare, with more caches hold less


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


@loop
@no_type_check
def gather_largest(example_offsets, row_offsets, unit_ids, bits, tag_of_example, keys, tags, counts):
    """Fill ``keys`` (unit, largest value descending) and ``tags`` of examples that have one; count them by split and
    unit. Returns how many."""
    slot = np.full(counts.shape[1], -1, np.int64)  # where the score of a unit stands, in the example or one before
    keys[:] = ABOVE
    filled = np.int64(0)
    for example in range(len(tag_of_example)):
        tag, begin = tag_of_example[example], filled
        if tag < 0:
            continue
        for entry in range(row_offsets[example_offsets[example]], row_offsets[example_offsets[example + 1]]):
            unit = np.int64(unit_ids[entry])
            key = unit << BITS | LAST - np.int64(bits[entry])
            place = slot[np.uint64(unit)]
            fresh = place < begin  # which a processor guesses badly, so that both do the same
            place = filled if fresh else place
            slot[np.uint64(unit)] = place
            keys[np.uint64(place)] = min(keys[np.uint64(place)], key)
            filled += np.int64(fresh)
        for place in range(np.uint64(begin), np.uint64(filled)):
            tags[place] = tag
            counts[tag & 1, np.uint64(keys[place] >> BITS)] += 1
    return filled


@loop
@no_type_check
def count_detected(scores, truths, thresholds, true, false):
    """Fill [splits, concepts, units, fractions] with true and false positives at thresholds (null: none).

    A table says for the first bits of a threshold how many scores are surely above it, and few are left to compare.
    Both splits come together, as to fetch thresholds, which do not lie side by side, takes the longest.

    Args:
        scores: of each split keys, starts and examples.
        truths: of each split [examples, at least the concepts], of a type that counts the examples.
    """
    n_splits, n_concepts, n_units, n_fractions = true.shape
    width = truths[0].shape[1]
    concepts, fractions = np.uint64(n_concepts), np.uint64(n_fractions)
    longest = np.int64(0)
    for split in range(n_splits):
        starts = scores[split][1]
        for unit in range(n_units):
            longest = max(longest, starts[unit + 1] - starts[unit])
    score = np.empty(longest + 1, np.float64)
    bits = score.view(np.int64)
    positive = np.zeros((longest + 1, width), truths[0].dtype)  # among the first scores, of each concept
    above = np.empty(FINE * longest + 2, np.uint32)
    threshold = np.empty(n_concepts * n_fractions, np.float64)
    wanted, cell = threshold.view(np.int64), np.empty(len(threshold), np.int64)
    for unit in range(n_units):
        for concept in range(concepts):
            for fraction in range(fractions):
                threshold[concept * fractions + fraction] = thresholds[concept, unit, fraction]
        for split in range(n_splits):
            keys, starts, example = scores[split]
            truth = truths[split]
            start, n = np.uint64(starts[unit]), np.uint64(starts[unit + 1] - starts[unit])
            if n == 0:
                true[split, :, unit], false[split, :, unit] = 0, 0
                continue
            for place in range(n):
                score[place] = np.int32(LAST - (keys[start + place] & LAST)).view(np.float32)
                row, last, now = truth[example[start + place]], positive[place], positive[place + ONE]
                for concept in range(width):
                    now[concept] = last[concept] + row[concept]
            score[n] = -np.inf
            least = bits[n - ONE]
            shift = 0
            while (bits[0] - least >> shift) >= FINE * n:
                shift += 1
            n_places = (bits[0] - least >> shift) + 1
            above[: n_places + 1] = 0
            for place in range(n):
                above[np.uint64(bits[place] - least >> shift)] += np.uint32(1)
            total = np.uint32(0)
            for place in range(n_places, -1, -1):
                total += above[np.uint64(place)]
                above[np.uint64(place)] = total
            for place in range(len(cell)):
                surely = min(max((wanted[place] - least >> shift) + 1, 0), n_places)
                cell[place] = surely if threshold[place] == threshold[place] else n_places  # NaN has either sign
            place = np.uint64(0)
            for concept in range(concepts):
                for fraction in range(fractions):
                    detected = np.uint64(above[np.uint64(cell[place])])
                    detected += np.uint64(score[detected] >= threshold[place])  # often one more; guesses cost more
                    while score[detected] >= threshold[place]:
                        detected += ONE
                    hits = np.int32(positive[detected, concept])
                    true[split, concept, unit, fraction] = hits
                    false[split, concept, unit, fraction] = np.int32(detected) - hits
                    place += ONE


@loop
@no_type_check
def _halves_added(terms, width):
    """The sum of the first terms as ``segments.tree_sums`` adds them up."""
    while width > 1:
        left = (width + 1) // 2
        for place in range(width - left):
            terms[place] += terms[left + place]
        width = left
    return terms[0]


@loop
@no_type_check
def _product(weights, values, terms):
    """``weights · values`` as ``dot_products.dot_products`` adds it up; ``terms`` holds half of them."""
    d, half = len(weights), len(terms)
    for place in range(d - half):
        high = np.float64(weights[half + place]) * values[half + place]
        terms[place] = np.float64(weights[place]) * values[place] + high
    if half > d - half:
        terms[half - 1] = np.float64(weights[half - 1]) * values[half - 1]
    return _halves_added(terms, half)


@loop
@no_type_check
def fold(columns, rows, unit, row, out):
    """Fill ``out`` with ``columns[unit] · rows[row]`` of each pair."""
    terms = np.empty((columns.shape[1] + 1) // 2, np.float64)
    for pair in range(len(out)):
        out[pair] = _product(columns[np.uint64(unit[pair])], rows[np.uint64(row[pair])], terms)


@loop
@no_type_check
def choose_largest(screened, largest, floor, columns, rows, bias, units, values, l0, mass):
    """Fill the first places of each row of ``units`` and ``values`` with its largest positive values, as many as there
    is room for, ``l0`` with their numbers and ``mass`` with their sums; returns how many products it took.

    Args:
        screened: [rows, units at least]; what is below the row's ``floor`` is not among them.
        largest: screened value of each tile, [rows, tiles]: unit u is in tile ``u % tiles``.
        columns, rows, bias: of exact values.
    """
    n_places, n_tiles, room = screened.shape[1], largest.shape[1], units.shape[1]
    terms = np.empty((columns.shape[1] + 1) // 2, np.float64)
    n_products = 0
    for row in range(len(rows)):
        least, n = floor[row], 0
        for tile in range(n_tiles):
            if largest[row, tile] < least:
                continue
            for unit in range(tile, n_places, n_tiles):
                if screened[row, unit] < least:
                    continue
                n_products += 1
                value = np.float32(_product(columns[np.uint64(unit)], rows[row], terms) + bias[np.uint64(unit)])
                if not value > 0:
                    continue
                place = n
                while place > 0 and (
                    values[row, place - 1] < value or (values[row, place - 1] == value and units[row, place - 1] > unit)
                ):
                    place -= 1
                if place == room:
                    continue
                n = min(n + 1, room)
                for other in range(n - 1, place, -1):
                    values[row, other], units[row, other] = values[row, other - 1], units[row, other - 1]
                values[row, place], units[row, place] = value, unit
        total = 0.0
        for place in range(n):
            total += np.float64(values[row, place])
        l0[row], mass[row] = n, total
    return n_products


@loop
@no_type_check
def reconstruct(rows, weight, bias, starts, stops, unit_ids, values, squares, residuals, bins, least, shift):
    """Fill the sums of squares of rows and of what their code leaves of them, and add the rows to ``bins``: all as
    ``reconstruction.Fit`` does.

    Args:
        bins: int64 [bins, d], of ``1 << shift`` exponents each, as float32 encodes them, from ``least`` on.
    """
    d = rows.shape[1]
    decoded, terms = np.empty(d, np.float64), np.empty(d, np.float64)
    for row in range(len(rows)):
        decoded[:] = 0.0
        for entry in range(starts[row], stops[row]):
            weights, value = weight[np.uint64(unit_ids[entry])], np.float64(values[entry])
            for place in range(d):
                decoded[place] += np.float64(weights[place]) * value
        for place in range(d):
            rest = decoded[place] + bias[place] - np.float64(rows[row, place])
            terms[place] = rest * rest
        residuals[row] = _halves_added(terms, d)
        for place in range(d):
            terms[place] = np.float64(rows[row, place]) * np.float64(rows[row, place])
        squares[row] = _halves_added(terms, d)
        bits = rows[row].view(np.int32)
        for place in range(d):
            exponent, whole = np.int64(bits[place] >> 23 & 0xFF), np.int64(bits[place] & 0x7FFFFF)
            if exponent > 0:
                whole |= 1 << 23
            index = max(exponent, 1) - least
            whole <<= index & (1 << shift) - 1
            bins[np.uint64(index >> shift), place] += whole if bits[place] >= 0 else -whole
