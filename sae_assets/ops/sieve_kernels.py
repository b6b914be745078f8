"""Loops of ``ops.sieve``, compiled by Numba: rows to bytes, candidates of rows, and their products in float32."""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import any_order, loop

ONE, TWO, THREE, FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


@any_order
@no_type_check
def to_bytes(rows, factors, scales, zero, codes, strays, lengths):
    """Fill ``codes`` with ``rows * factors`` in steps of each row's scale, counted from ``zero``, and the norms of what
    that moved and of what it was."""
    for row in range(len(rows)):
        step = np.float64(scales[row])
        inverse, moved, length = 1 / step, 0.0, 0.0
        for place in range(rows.shape[1]):
            value = np.float64(rows[row, place]) * factors[place]
            code = np.rint(value * inverse)
            rest = value - code * step
            moved += rest * rest
            length += value * value
            codes[row, place] = np.int32(code) + zero
        strays[row], lengths[row] = np.sqrt(moved), np.sqrt(length)


@loop
@no_type_check
def collect(screened, largest, scale, least, stray, norm, of_units, of_tiles, starts, units):
    """Fill ``units`` with those that may reach each row's ``least``, by row and unit, and ``starts``; returns whether
    there was room.

    Args:
        screened: [rows, places], times each row's ``scale``; largest: of each tile of places, so multiplied.
        of_units, of_tiles: width, slope and offset of the error, and their largest in each tile.
    """
    n_tiles, n_units = largest.shape[1], of_units.shape[1]
    tile_size = screened.shape[1] // n_tiles
    n = 0
    for row in range(len(screened)):
        starts[row] = n
        limit, first, second, factor = least[row], stray[row], norm[row], scale[row]
        for tile in range(n_tiles):
            error = first * of_tiles[0, tile] + second * of_tiles[1, tile] + of_tiles[2, tile]
            if np.float64(largest[row, tile]) + error < limit:
                continue
            start = tile * tile_size
            stop = min(start + tile_size, n_units)
            if n + stop - start > len(units):
                return False
            for unit in range(start, stop):
                error = first * of_units[0, unit] + second * of_units[1, unit] + of_units[2, unit]
                units[n] = unit
                n += np.float64(screened[row, unit] * factor) + error >= limit
    starts[len(screened)] = n
    return True


@loop
@no_type_check
def by_unit(starts, units, first, row_of, place_of):
    """The pairs by unit: where each unit's begin (``first``), and of each the row, and its place among pairs by row."""
    first[:] = 0
    for pair in range(starts[-1]):
        first[np.uint64(units[pair]) + ONE] += 1
    for unit in range(1, len(first)):
        first[unit] += first[unit - 1]
    free = first.copy()
    for row in range(len(starts) - 1):
        for pair in range(starts[row], starts[row + 1]):
            unit = np.uint64(units[pair])
            place = np.uint64(free[unit])
            row_of[place], place_of[place] = row, pair
            free[unit] += 1


@any_order
@no_type_check
def _four(weights, first, second, third, fourth):
    """Products of one unit with four rows."""
    a = b = c = d = np.float32(0)
    for place in range(len(weights)):
        weight = weights[place]
        a += weight * first[place]
        b += weight * second[place]
        c += weight * third[place]
        d += weight * fourth[place]
    return a, b, c, d


@any_order
@no_type_check
def _one(weights, values):
    total = np.float32(0)
    for place in range(len(weights)):
        total += weights[place] * values[place]
    return total


@loop
@no_type_check
def multiply(columns, rows, first, row_of, place_of, out):
    """Fill ``out`` with the products of the pairs, at their places.

    Args:
        rows: [parts, rows, width] of the dimensions, a part of all rows being what a cache holds.
    """
    width, d = rows.shape[2], columns.shape[1]
    out[:] = 0
    for part in range(rows.shape[0]):
        start = part * width
        stop = min(start + width, d)
        for unit in range(columns.shape[0]):
            weights = columns[unit, start:stop]
            pair, last = np.uint64(first[unit]), np.uint64(first[unit + 1])
            while pair + FOUR <= last:
                four = _four(
                    weights,
                    rows[part, np.uint64(row_of[pair])],
                    rows[part, np.uint64(row_of[pair + ONE])],
                    rows[part, np.uint64(row_of[pair + TWO])],
                    rows[part, np.uint64(row_of[pair + THREE])],
                )
                out[np.uint64(place_of[pair])] += four[0]
                out[np.uint64(place_of[pair + ONE])] += four[1]
                out[np.uint64(place_of[pair + TWO])] += four[2]
                out[np.uint64(place_of[pair + THREE])] += four[3]
                pair += FOUR
            while pair < last:
                out[np.uint64(place_of[pair])] += _one(weights, rows[part, np.uint64(row_of[pair])])
                pair += ONE


@loop
@no_type_check
def narrow(starts, units, values, level, norm, slope, offset, k, least, kept):
    """Keep the pairs that can still be stored, in place; ``kept`` says how many each row has.

    With ``k`` > 0 they are those that reach what the row's k-th largest value certainly does. Returns whether that is
    the row's ``least`` at least, of every row; where it is not, ``least`` becomes what it will be.

    Args:
        values: products of the pairs, in float32, to which the units' ``level`` is added.
        slope, offset: of each unit, the error of a value being norm * slope + offset.
    """
    lower, holds, n = np.empty(len(slope), np.float64), True, 0
    for row in range(len(starts) - 1):
        first, last, limit, widest = starts[row], starts[row + 1], 0.0, 0.0
        for pair in range(first, last):
            unit = np.uint64(units[pair])
            error = norm[row] * slope[unit] + offset[unit]
            lower[pair - first] = np.float64(values[pair]) + level[unit] - error
            widest = max(widest, error)
        if k > 0:
            if last - first >= k:
                limit = max(0.0, np.partition(lower[: last - first], last - first - k)[last - first - k])
            if limit < least[row]:
                # Another order of sums can move the k-th largest by two errors.
                holds, least[row] = False, max(0.0, limit - 4 * widest)
        kept[row] = 0
        for pair in range(first, last):
            unit = np.uint64(units[pair])
            units[n] = unit
            reaches = lower[pair - first] + 2 * (norm[row] * slope[unit] + offset[unit]) >= limit
            n += reaches
            kept[row] += reaches
    return holds
