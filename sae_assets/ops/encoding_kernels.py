"""Loops of encoding: exact products of candidates, the largest of a row, and what its code reconstructs.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import any_order, loop
from sae_assets.ops.segments import BITS, FEW, LARGEST, LEAST, REACH

ONE, TWO = np.uint64(1), np.uint64(2)
FOUR = np.uint64(4)  # products that are taken together


@loop
@no_type_check
def _halves_added(terms, width):
    """The sum of the first terms as ``segments.tree_sums`` adds them up."""
    while width > 1:
        left = (width + 1) // 2
        for index in range(width - left):
            terms[index] += terms[left + index]
        width = left
    return terms[0]


@loop
@no_type_check
def _product(weights, values, terms):
    """``weights · values`` as ``dot_products.dot_products`` adds it up; ``terms`` holds half of them."""
    d, half = len(weights), len(terms)
    for index in range(d - half):
        high = np.float64(weights[half + index]) * values[half + index]
        terms[index] = np.float64(weights[index]) * values[index] + high
    if half > d - half:
        terms[half - 1] = np.float64(weights[half - 1]) * values[half - 1]
    return _halves_added(terms, half)


@any_order
@no_type_check
def _quick_products(first, second, third, fourth, values):
    """Products of four units with a row, added up in whatever order is fast."""
    a = b = c = d = 0.0
    for index in range(len(values)):
        value = values[index]
        a += np.float64(first[index]) * value
        b += np.float64(second[index]) * value
        c += np.float64(third[index]) * value
        d += np.float64(fourth[index]) * value
    return a, b, c, d


@loop
@no_type_check
def _rounded(quick, bias, reach, weights, values, terms):
    """One of ``dot_products.rounded_products`` from a product in any order."""
    total = quick + bias
    reach += FEW * abs(total) + LEAST
    value = np.float32(total - reach)
    if value == np.float32(total + reach):
        return value
    return np.float32(_product(weights, values, terms) + bias)


@loop
@no_type_check
def _round_some(columns, norms, bias, values, norm, units, terms, out):
    """Fill ``out`` with the rounded products of these units with a row of this norm."""
    last = np.uint64(len(units) - 1)
    scale = len(values) * REACH * norm
    for start in range(np.uint64(0), np.uint64(len(units)), FOUR):
        a, b = np.uint64(units[start]), np.uint64(units[min(start + ONE, last)])
        c, d = np.uint64(units[min(start + TWO, last)]), np.uint64(units[min(start + TWO + ONE, last)])
        quick = _quick_products(columns[a], columns[b], columns[c], columns[d], values)
        for number in range(min(FOUR, last + ONE - start)):
            unit = np.uint64(units[start + number])
            out[start + number] = _rounded(quick[number], bias[unit], scale * norms[unit], columns[unit], values, terms)


@loop
@no_type_check
def _fill_largest(keys, units, values):
    """Fill both with the largest of (value, unit), of equal ones the lower unit first, as many as there is room for;
    returns how many, and the sum of their values. Keys are values descending, then units, and are sorted here."""
    keys.sort()
    n, total, bits = min(len(keys), len(units)), 0.0, values.view(np.int32)
    for index in range(n):
        bits[index], units[index] = LARGEST - (keys[index] >> BITS), keys[index] & LARGEST
        total += np.float64(values[index])
    return n, total


@loop
@no_type_check
def choose(starts, stops, candidates, least, columns, norms, bias, rows, norm, room, units, values, l0, mass):
    """Fill ``units`` and ``values`` from each row's start on with its candidates whose exact values lie above their
    unit's ``least``, the largest first and of equal ones the lower unit, as many as there is room for; ``l0`` with how
    many that are, and ``mass`` with their sums.

    Args:
        starts, stops: of each row, where its candidates stand; least: float32, 0 at least.
        columns, norms, bias, rows, norm: of exact values, as ``dot_products.rounded_products`` takes them.
    """
    terms, most = np.empty((columns.shape[1] + 1) // 2, np.float64), np.int64(0)
    for row in range(len(rows)):
        most = max(most, stops[row] - starts[row])
    exact, keys = np.empty(most, np.float32), np.empty(most, np.int64)
    bits = exact.view(np.int32)
    for row in range(len(rows)):
        start, stop, n = starts[row], stops[row], 0
        if stop > start:
            _round_some(columns, norms, bias, rows[row], norm[row], candidates[start:stop], terms, exact)
        for candidate in range(stop - start):
            unit = np.uint64(candidates[start + candidate])
            if exact[candidate] > least[unit]:
                keys[n] = np.int64(LARGEST - bits[candidate]) << BITS | np.int64(unit)
                n += 1
        places = slice(start, min(stop, start + room))
        l0[row], mass[row] = _fill_largest(keys[:n], units[places], values[places])


@loop
@no_type_check
def choose_largest(
    screened, largest, floor, columns, norms, bias, rows, norm, units, values, l0, mass, tile_step, unit_step
):
    """Fill the first places of each row of ``units`` and ``values`` with its largest positive values, as many as there
    is room for, ``l0`` with their numbers and ``mass`` with their sums; returns how many products it took.

    Args:
        screened: [rows, units at least]; what is below the row's ``floor`` is not among them.
        largest: screened value of each tile, [rows, tiles]: unit ``t * tile_step + i * unit_step`` is in tile t.
        columns, norms, bias, rows, norm: of exact values, as ``dot_products.rounded_products`` takes them.
    """
    n_places, n_tiles = screened.shape[1], largest.shape[1]
    terms = np.empty((columns.shape[1] + 1) // 2, np.float64)
    candidates, exact = np.empty(n_places, np.int64), np.empty(n_places, np.float32)
    keys, bits = np.empty(n_places, np.int64), exact.view(np.int32)
    n_products = 0
    for row in range(len(rows)):
        least, n_candidates = floor[row], 0
        for tile in range(n_tiles):
            if largest[row, tile] < least:
                continue
            for index in range(n_places // n_tiles):
                unit = tile * tile_step + index * unit_step
                if screened[row, unit] >= least:
                    candidates[n_candidates] = unit
                    n_candidates += 1
        if n_candidates > 0:
            _round_some(columns, norms, bias, rows[row], norm[row], candidates[:n_candidates], terms, exact)
        n_products += n_candidates
        n = 0
        for candidate in range(n_candidates):
            if exact[candidate] > 0:
                keys[n] = np.int64(LARGEST - bits[candidate]) << BITS | candidates[candidate]
                n += 1
        l0[row], mass[row] = _fill_largest(keys[:n], units[row], values[row])
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
            for column in range(d):
                decoded[column] += np.float64(weights[column]) * value
        for column in range(d):
            rest = decoded[column] + bias[column] - np.float64(rows[row, column])
            terms[column] = rest * rest
        residuals[row] = _halves_added(terms, d)
        for column in range(d):
            terms[column] = np.float64(rows[row, column]) * np.float64(rows[row, column])
        squares[row] = _halves_added(terms, d)
        bits = rows[row].view(np.int32)
        for column in range(d):
            exponent, whole = np.int64(bits[column] >> 23 & 0xFF), np.int64(bits[column] & 0x7FFFFF)
            if exponent > 0:
                whole |= 1 << 23
            index = max(exponent, 1) - least
            whole <<= index & (1 << shift) - 1
            bins[np.uint64(index >> shift), column] += whole if bits[column] >= 0 else -whole
