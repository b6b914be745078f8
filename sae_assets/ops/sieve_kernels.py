"""Loops of ``ops.sieve``, compiled by Numba: rows to bytes, candidates of rows, and their products in more bits.

Products of bytes are whole numbers: they are the same by whatever instructions a processor has for them.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.byte_loops import products_of_bytes
from sae_assets.ops.byte_products import ZERO
from sae_assets.ops.jit import any_order, loop

ONE, TWO, THREE, FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
LOWER = 2.0**-20  # by how much of itself a limit is lowered, for its rounding to float32


@loop
@no_type_check
def _largest(row, factors):
    """The largest size of ``row * factors``, by four at a time: a processor waits for one maximum before the next."""
    a = b = c = d = 0.0
    n = np.uint64(len(row))
    stop = n // FOUR * FOUR
    for column in range(np.uint64(0), stop, FOUR):
        a = max(a, abs(np.float64(row[column]) * factors[column]))
        b = max(b, abs(np.float64(row[column + ONE]) * factors[column + ONE]))
        c = max(c, abs(np.float64(row[column + TWO]) * factors[column + TWO]))
        d = max(d, abs(np.float64(row[column + THREE]) * factors[column + THREE]))
    for column in range(stop, n):
        a = max(a, abs(np.float64(row[column]) * factors[column]))
    return max(max(a, b), max(c, d))


@any_order
@no_type_check
def to_bytes(rows, factors, least, zero, largest, most, codes, rests, scales, strays, lengths):
    """Fill ``codes`` with ``rows * factors`` in steps of each row's scale, ``rests`` with what is left in finer steps.

    Args:
        least: of scales; zero: what codes and rests are counted from.
        largest: of codes; most: of the numbers of finer steps.
        scales: float32, what a step of each row's codes is.
        strays: [rows, 2], the norm of what is left beside codes, and beside codes and rests.
        lengths: norms of ``rows * factors``.
    """
    for row in range(len(rows)):
        scales[row] = max(_largest(rows[row], factors) / largest, least)
        step = np.float64(scales[row])
        fine = step / (2 * most)
        inverse, inverse_of_fine, first, second, length = 1 / step, 1 / fine, 0.0, 0.0, 0.0
        for column in range(rows.shape[1]):
            value = np.float64(rows[row, column]) * factors[column]
            code = np.rint(value * inverse)
            rest = value - code * step
            number = np.rint(rest * inverse_of_fine)
            last = rest - number * fine
            first += rest * rest
            second += last * last
            length += value * value
            codes[row, column], rests[row, column] = np.int32(code) + zero, np.int32(number) + zero
        strays[row, 0], strays[row, 1], lengths[row] = np.sqrt(first), np.sqrt(second), np.sqrt(length)


@loop
@no_type_check
def kth_largest(values, k):
    """The k-th largest of values, k at least, which come to stand in another order (Hoare 1961, "Find").

    Of numpy's own, to compile takes ten times as long as of this.
    """
    first, last, target = 0, len(values) - 1, len(values) - k
    while first < last:
        middle, low, high = values[(first + last) // 2], first, last
        while low <= high:
            while values[low] < middle:
                low += 1
            while values[high] > middle:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low, high = low + 1, high - 1
        if target <= high:
            last = high
        elif target >= low:
            first = low
        else:
            break
    return values[target]


@loop
@no_type_check
def _largest_of_tiles(values, tiles):
    """Fill ``tiles`` with the largest value of each; unit ``t + i * len(tiles)`` is the i-th of tile t."""
    n_tiles = np.uint64(len(tiles))
    for tile in range(n_tiles):
        tiles[tile] = values[tile]
    for start in range(n_tiles, np.uint64(len(values)), n_tiles):
        for tile in range(min(n_tiles, np.uint64(len(values)) - start)):
            value = values[start + tile]
            tiles[tile] = value if value > tiles[tile] else tiles[tile]


@loop
@no_type_check
def _guess(tiles, below, largest, numbers):
    """Take the largest of these numbers, of tiles, into the row's ``largest``, and return what the row's limit is by
    these.

    Args:
        numbers: float32, as many as there are tiles and largest, for what is compared.
    """
    k = len(largest)
    numbers[:k] = largest
    n, least = k, largest[0]
    for tile in range(len(tiles)):
        numbers[n] = tiles[tile]
        n += tiles[tile] > least
    if n > k:
        kth_largest(numbers[:n], k)
        largest[:] = numbers[n - k : n]
    return np.float64(largest[0]) - below


@loop
@no_type_check
def collect(screened, scale, of_rows, below, least, largest, level, of_units, of_tiles, starts, units, values, first):
    """Fill ``units`` with those that may be stored, by row, from the first of ``starts`` on, ``values`` with what was
    screened, and ``starts``; returns whether there was room.

    Args:
        screened: [rows, units] from ``first`` on, times each row's ``scale``; level: added then; empty: nothing.
        of_rows, of_units: [rows, 3] and [4, units], the error is at most their product, and the last of a unit.
        of_tiles: the largest of units in each tile.
        below: what is ``below`` less than the k-th largest by so much may not be stored, nor what is less than
            ``least``.
        largest: [rows, k] of tiles, the least of them first; without columns ``least`` alone counts.
    """
    n_tiles, n_units, k = np.uint64(of_tiles.shape[1]), np.uint64(screened.shape[1]), largest.shape[1]
    n = np.uint64(starts[0])
    of_tile, numbers = np.empty(n_tiles, np.float32), np.empty(n_tiles + np.uint64(k), np.float32)
    for row in range(len(screened)):
        starts[row] = n
        limit, stray, length, factor = least[row], of_rows[row, 0], of_rows[row, 2], scale[row]
        values_of_row = screened[row]
        if len(level) > 0:
            for unit in range(n_units):
                values_of_row[unit] = level[unit] + values_of_row[unit] * factor
            factor = np.float32(1)
        _largest_of_tiles(values_of_row, of_tile)
        for tile in range(n_tiles):
            of_tile[tile] *= factor
        if k > 0:
            limit = max(limit, _guess(of_tile, below[row], largest[row], numbers))
        for tile in range(n_tiles):
            room = limit - (stray * of_tiles[0, tile] + length * of_tiles[2, tile] + of_tiles[3, tile])
            if np.float64(of_tile[tile]) < room:
                continue
            if n + (n_units - tile + n_tiles - ONE) // n_tiles > np.uint64(len(units)):
                return False
            # First by the tile's largest error, in float32.
            bound, last = np.float32((room - abs(room) * LOWER) / factor), n
            for unit in range(tile, n_units, n_tiles):
                units[last] = unit
                last += np.uint64(values_of_row[unit] >= bound)
            for pair in range(n, last):
                unit = np.uint64(units[pair])
                value = values_of_row[unit] * factor
                error = stray * of_units[0, unit] + length * of_units[2, unit] + of_units[3, unit]
                units[n], values[n] = first + np.int64(unit), value
                n += np.uint64(np.float64(value) + error >= limit)
    starts[len(screened)] = n
    return True


@loop
@no_type_check
def by_unit(starts, units, values, least, of_rows, of_units, first, row_of, value_of):
    """Pairs that may reach each row's ``least``, by unit: where each unit's begin (``first``), and of each its row and
    its value.

    Args:
        starts: [parts, rows + 1], of pairs by part and row; no longer theirs afterwards.
        of_rows, of_units: as :func:`collect` takes them, of all units.
    """
    first[:] = 0
    n, n_rows = np.uint64(0), np.uint64(len(least))
    for part in range(len(starts)):
        for row in range(n_rows):
            begin, end = np.uint64(starts[part, row]), np.uint64(starts[part, row + ONE])
            limit, stray, length = least[row], of_rows[row, 0], of_rows[row, 2]
            starts[part, row] = n
            for pair in range(begin, end):
                unit, value = np.uint64(units[pair]), values[pair]
                error = stray * of_units[0, unit] + length * of_units[2, unit] + of_units[3, unit]
                reaches = np.float64(value) + error >= limit
                units[n], values[n] = unit, value
                first[unit + ONE] += np.int64(reaches)
                n += np.uint64(reaches)
        starts[part, n_rows] = n
    for unit in range(1, len(first)):
        first[unit] += first[unit - 1]
    free = first.copy()
    for part in range(len(starts)):
        for row in range(n_rows):
            for pair in range(starts[part, row], starts[part, row + ONE]):
                unit = np.uint64(units[pair])
                index = np.uint64(free[unit])
                row_of[index], value_of[index] = row, values[pair]
                free[unit] += 1


@loop
@no_type_check
def _plain_four(weights, first, second, third, fourth):
    """Products of one unit's bytes, which have a sign, with those of four rows, which have none."""
    a = b = c = d = np.int32(0)
    for column in range(len(weights)):
        weight = np.int32(weights[column])
        a += weight * np.int32(first[column])
        b += weight * np.int32(second[column])
        c += weight * np.int32(third[column])
        d += weight * np.int32(fourth[column])
    return a, b, c, d


_four, LARGEST = products_of_bytes(_plain_four)


@loop
@no_type_check
def refine(codes, steps, of_rows, least, weights, weight_steps, sums, of_units, first, row_of, value_of, error_of):
    """Add the products of these bytes to the pairs' values, and leave those that may still reach their row's ``least``.

    Args:
        codes: uint8 [rows, width]; weights: int8 [units, width]; steps, weight_steps: float64, what one of each is.
        sums: int64, of each unit's bytes; of_rows, of_units: of the error (:func:`collect`) that then remains.
        first, row_of, value_of: as :func:`by_unit` gives them; error_of: float64, to be filled with their errors.
    """
    n = np.uint64(0)
    for unit in range(np.uint64(len(weights))):
        start, stop = np.uint64(first[unit]), np.uint64(first[unit + ONE])
        first[unit] = n
        if start == stop:
            continue
        last = stop - ONE
        bytes_of_unit, step, middle = weights[unit], weight_steps[unit], ZERO * sums[unit]
        of_first, of_second, of_length, offset = (
            of_units[0, unit],
            of_units[1, unit],
            of_units[2, unit],
            of_units[3, unit],
        )
        for pair in range(start, stop, FOUR):
            four = _four(
                bytes_of_unit,
                codes[np.uint64(row_of[pair])],
                codes[np.uint64(row_of[min(pair + ONE, last)])],
                codes[np.uint64(row_of[min(pair + TWO, last)])],
                codes[np.uint64(row_of[min(pair + THREE, last)])],
            )
            for number in range(min(FOUR, stop - pair)):
                row = np.uint64(row_of[pair + number])
                value = value_of[pair + number] + steps[row] * step * (four[number] - middle)
                error = of_rows[row, 0] * of_first + of_rows[row, 1] * of_second + of_rows[row, 2] * of_length + offset
                row_of[n], value_of[n], error_of[n] = row, value, error
                n += np.uint64(value + error >= least[row])
    first[len(weights)] = n


@loop
@no_type_check
def narrow(first, row_of, value_of, error_of, k, least, starts, units):
    """Fill ``units`` with those of pairs that can still be stored, by row and unit, and ``starts``.

    With ``k`` > 0 they are those that reach what the row's k-th largest value certainly does. Returns whether that is
    the row's ``least`` at least, of every row; where it is not, it becomes that.
    """
    n_rows, n_pairs = len(least), first[-1]
    starts[:] = 0
    for pair in range(n_pairs):
        starts[np.uint64(row_of[pair]) + ONE] += 1
    for row in range(n_rows):
        starts[row + 1] += starts[row]
    free = starts.copy()
    unit_of, lower, upper = np.empty(n_pairs, np.int32), np.empty(n_pairs, np.float64), np.empty(n_pairs, np.float64)
    for unit in range(len(first) - 1):
        for pair in range(first[unit], first[unit + 1]):
            row = np.uint64(row_of[pair])
            index = np.uint64(free[row])
            free[row] += 1
            unit_of[index], lower[index] = unit, value_of[pair] - error_of[pair]
            upper[index] = value_of[pair] + error_of[pair]
    holds, n = True, 0
    for row in range(n_rows):
        start, stop, limit = starts[row], starts[row + 1], 0.0
        if k > 0:
            if stop - start >= k:
                limit = max(0.0, kth_largest(lower[start:stop], k))
            if limit < least[row]:
                holds, least[row] = False, limit
        starts[row] = n
        for pair in range(start, stop):
            units[n] = unit_of[pair]
            n += upper[pair] >= limit
    starts[n_rows] = n
    return holds
