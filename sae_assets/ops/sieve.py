"""Two screens on the CPU, of bytes: most of the products are made once, in a fraction of float32's time.

Rows and directions become whole numbers of at most eight bits, times a scale of each; products of these are added up
exactly in 32 bits. That moves a row by a hundredth of its length, so many times the units that are stored may be among
them: their products are refined by further bytes, of what the first ones left, until hardly more than are stored
remain. For the k largest, it is guessed what the k-th exceeds; that refined products certainly reach it proves the
guess. Compiled loops do what torch has no operation for (``sieve_kernels``); ``byte_products`` are what is multiplied.
"""

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.byte_products import AT_ONCE, SUMMED, ZERO, byte_product, packed_weights
from sae_assets.ops.compiled import Loops, in_threads
from sae_assets.ops.scratch import zeros
from sae_assets.ops.screens import SMALLEST_NORMAL, UNIT_ROUNDOFF

MOST = 127  # the largest code of rows
LEAST_SCALE, MOST_SCALE = 2.0**-60, 2.0**60
MOST_FACTOR = 2.0**12
LARGEST = 2.0**120  # of products, so that no step of theirs leaves float32
SHARE = 4  # one in so many units may be a candidate: for these there is room, and of more little would be gained
DEVIATIONS = 2.0  # of the first screen's error, by which the k-th largest is guessed to be smaller, as of random rows
UNITS_AT_ONCE = 2**14  # whose products lie in caches while they are looked through, and in memory that is used again
TRIES = 2  # a guess that does not hold is mended once
UPPER = 1 + 2.0**-20  # what bounds are times, for their own roundings

Candidates = tuple[Int[Tensor, " rows"], Int[Tensor, " n"]]  # how many each row has, and their units, ascending


class Sieve:
    """A sieve tells which units can be among those that rows store.

    A row x is ``x̃ + s q + r`` and a direction w is ``w̃ + t p + v``, where x̃ and w̃ are its bytes, q and p those of what
    is left, and r and v what is left then. By Cauchy–Schwarz, with all distances measured::

        |x·w - x̃·w̃|                         <= |x - x̃| |w| + |x̃| |w - w̃|
        |x·w - x̃·w̃ - s q·w̃|                 <= |r| |w| + |x̃ + s q| |w - w̃|
        |x·w - x̃·w̃ - t p·x̃|                 <= |x - x̃| |w| + |x̃| |v|
        |x·w - x̃·w̃ - s q·w̃ - t p·x̃|         <= |r| |w̃| + |x - x̃| |t p| + |x| |v|

    Dimensions of rows are multiplied by powers of two beforehand and those of weights divided by them, so that a few
    large ones do not leave the others few steps.

    Args:
        loops: compiled ones.
        columns: float32 [units, d].
        bias, level: float64 [units], what is added to each product, and that before it is held against 0 or the k-th
            largest.
        k: how many are stored at most; 0: all above 0.
        tile: units of which the largest value is looked at first, more than ``k`` times as many units as that.
        sample: float64 [rows, d], as rows come.
        most: the largest code of weights (``byte_products.largest_code``).
    """

    def __init__(self, loops: Loops, columns: Float[Tensor, "units d"], bias: Float[Tensor, " units"],
                 level: Float[Tensor, " units"], k: int, tile: int, sample: Float[Tensor, "n d"], most: int,
                 ):  # fmt: skip
        n_units, d = columns.shape
        width = -(-d // AT_ONCE) * AT_ONCE
        self.k, self.tile = k, tile
        self.factors = _factors(sample, columns)
        inverse, finest = 1 / self.factors, loops.sieve.LARGEST
        most = min(most, finest)
        # In large pages, as they are gone through again and again.
        self.codes, self.rests = (zeros(n_units, width, dtype=torch.int8) for _ in range(2))
        scales = torch.empty(n_units, dtype=torch.float32, device="cpu")
        left, lengths = torch.zeros((n_units, 2), dtype=torch.float64, device="cpu"), torch.zeros_like(level)
        filled = self.codes, self.rests, scales, left, lengths
        loops.sieve.to_bytes(
            columns.numpy(), inverse.numpy(), LEAST_SCALE, 0, most, finest, *(each.numpy() for each in filled)
        )
        steps = scales.double()
        self.steps = torch.stack([steps, steps / (2 * finest)])
        self.sums = torch.stack([each.sum(1, dtype=torch.int64) for each in (self.codes, self.rests)])
        # For each screen, what a row's strays and its length are times in the error, and an offset: a few roundings of
        # rows, the level and the sum, and the underflow of any of them.
        few, lost = 8 * UNIT_ROUNDOFF, 8 * d * SMALLEST_NORMAL
        stray, last_stray = left.T
        nothing, offset = torch.zeros_like(stray), few * (bias.abs() + level.abs()) + lost
        of_length, of_length_at_last = (each + few * lengths for each in (stray, last_stray))
        screened, of_row_rests, of_weight_rests, of_both = UPPER * torch.stack(
            [
                torch.stack([lengths, nothing, of_length, offset]),
                torch.stack([nothing, lengths, of_length, offset]),
                torch.stack([lengths, nothing, of_length_at_last, offset]),
                torch.stack([stray + last_stray, lengths + stray, of_length_at_last, offset]),
            ]
        )
        self.errors, self.refined_errors = screened, ((of_row_rests, of_both), (of_weight_rests, of_both))
        self.relative_stray = float(stray.sum() / lengths.sum().clamp(min=SMALLEST_NORMAL))
        levels = level.float() if bool((level != 0).any()) else level.float()[:0]
        size = -(-UNITS_AT_ONCE // tile) * tile
        lift = (-ZERO * steps * self.sums[0]).float()
        self.parts = [
            _Part(tile, start, packed_weights(self.codes[start : start + size]),
                  screened[:, start : start + size].contiguous(),
                  *(each[start : start + size].contiguous() for each in (scales, lift, levels)))
            for start in range(0, n_units, size)
        ]  # fmt: skip
        self.longest = max(1.0, float(lengths.max()))
        self.fits = bool(of_both.isfinite().all() & screened.isfinite().all()) and float(scales.max()) < MOST_SCALE

    def candidates(self, loops: Loops, centred: Float[Tensor, "rows d"]) -> Candidates | None:
        """Return candidates of rows; None: they are too many, or rows too large for the first screen.

        Args:
            centred: float64.
        """
        n_rows, d = centred.shape
        scale = torch.empty(n_rows, dtype=torch.float32, device="cpu")
        codes, rests = torch.full((2, n_rows, self.codes.shape[1]), ZERO, dtype=torch.uint8, device="cpu")
        left = torch.empty((n_rows, 2), dtype=torch.float64, device="cpu")
        length = torch.empty(n_rows, dtype=torch.float64, device="cpu")
        filled = codes, rests, scale, left, length
        loops.sieve.to_bytes(
            centred.numpy(), self.factors.numpy(), LEAST_SCALE, ZERO, MOST, MOST, *(each.numpy() for each in filled)
        )
        step = scale.double()[:, None]
        steps = torch.cat([step / (2 * MOST), step], dim=1)  # of what is left, then of codes
        left += SUMMED * d**0.5 * step
        errors = torch.cat([left, length[:, None] + left[:, :1]], dim=1)
        if not (self.fits and float(errors.max()) * self.longest < LARGEST and float(scale.max()) < MOST_SCALE):
            return None
        largest = torch.full((n_rows, self.k), -torch.inf, dtype=torch.float32, device="cpu")
        least = torch.zeros(n_rows, dtype=torch.float64, device="cpu")
        error = errors[:, 0] * self.errors[0].max() + errors[:, 2] * self.errors[2].max()
        below = DEVIATIONS / d**0.5 * error
        for _ in range(TRIES):
            pairs = self._collected(loops, codes, scale, errors, below, least, largest)
            if pairs is None:
                return None
            if largest.shape[1]:
                least = (largest[:, 0].double() - below).clamp_(min=0)
            candidates = self._refined(loops, pairs, codes, rests, steps, errors, least)
            if candidates is not None:
                return candidates
            largest = largest[:, :0]  # what is certain is not guessed again
        return None

    def _collected(self, loops: Loops, codes: Tensor, scale: Tensor, errors: Tensor, below: Tensor, least: Tensor,
                   largest: Tensor) -> dict[int, tuple[Tensor, ...]] | None:  # fmt: skip
        """Return, by the first row of each thread's share, what ``collect`` fills; None: there are too many.

        Args:
            below: of each row, by how much its guess is less than the k-th largest.
            largest: [rows, k], to be filled; of no columns: ``least`` is no guess.
        """
        pairs: dict[int, tuple[Tensor, ...]] = {}
        rooms: list[bool] = []
        row = torch.arange(len(codes), device="cpu")
        for number, part in enumerate(self.parts):
            collect = partial(self._collect, loops, number, pairs, rooms)
            screened = byte_product(codes, part.packed, part.scales, part.lift)
            in_threads(collect, len(codes) * len(self.codes), row, screened, scale, errors, below, least, largest)
            del screened  # before the next takes memory
            if not all(rooms):
                return None
        return pairs

    def _collect(self, loops: Loops, number: int, pairs: dict[int, tuple[Tensor, ...]], rooms: list[bool], row: Tensor,
                 *by_row: Tensor) -> None:  # fmt: skip
        """Add those of one part and of a thread's share of rows."""
        n_rows = len(row)
        if not n_rows:
            return
        if number == 0:
            starts = torch.zeros((len(self.parts), n_rows + 1), dtype=torch.int64, device="cpu")
            units = torch.empty(n_rows * (len(self.codes) // SHARE), dtype=torch.int32, device="cpu")
            pairs[int(row[0])] = starts, units, torch.empty_like(units, dtype=torch.float32)
        starts, units, values = pairs[int(row[0])]
        if number:
            starts[number, 0] = starts[number - 1, -1]
        part = self.parts[number]
        columns = *by_row, part.level, part.errors, part.errors_of_tiles, starts[number], units, values
        rooms.append(loops.sieve.collect(*(each.numpy() for each in columns), part.start))

    def _refined(self, loops: Loops, pairs: dict[int, tuple[Tensor, ...]], *by_row: Tensor) -> Candidates | None:
        """Return candidates of all rows; None: a row's ``least`` was a guess that does not hold, and is lower now."""
        shares: dict[int, Candidates | None] = {}

        def sift(row: Tensor, *by_row: Tensor) -> None:
            if len(row):
                shares[int(row[0])] = self._sift(loops, pairs[int(row[0])], *by_row)

        row = torch.arange(len(by_row[0]), device="cpu")
        in_threads(sift, len(row) * len(self.codes), row, *by_row)
        in_order = [shares[first] for first in sorted(shares)]
        whole = [share for share in in_order if share is not None]
        if len(whole) < len(in_order):
            return None
        counts, units = (torch.cat(each) for each in zip(*whole, strict=True))
        return counts, units

    def _sift(self, loops: Loops, pairs: tuple[Tensor, ...], codes: Tensor, rests: Tensor, steps: Tensor,
              errors: Tensor, least: Tensor) -> Candidates | None:  # fmt: skip
        n_rows, n_units = len(codes), len(self.codes)
        starts, units, values = pairs
        stops = torch.empty(n_rows + 1, dtype=torch.int64, device="cpu")
        first = torch.empty(n_units + 1, dtype=torch.int64, device="cpu")
        row_of = torch.empty(int(starts[-1, -1]), dtype=torch.int32, device="cpu")
        value_of, error_of = torch.empty((2, len(row_of)), dtype=torch.float64, device="cpu")
        of_pairs = first, row_of, value_of, error_of
        by_row = starts, units, values, least, errors, self.errors
        loops.sieve.by_unit(*(each.numpy() for each in (*by_row, first, row_of, value_of)))
        operands = [
            (rests, steps[:, 0], self.codes, self.steps[0], self.sums[0]),
            (codes, steps[:, 1], self.rests, self.steps[1], self.sums[1]),
        ]
        # First what moves products further, so that fewer are left for the other.
        weights_first = self.relative_stray > float(errors[:, 0].sum() / errors[:, 2].sum().clamp(min=SMALLEST_NORMAL))
        if weights_first:
            operands.reverse()
        for (rows, row_steps, *of_units), of_errors in zip(operands, self.refined_errors[weights_first], strict=True):
            of_rows = rows, row_steps.contiguous(), errors, least
            loops.sieve.refine(*(each.numpy() for each in (*of_rows, *of_units, of_errors, *of_pairs)))
        if not loops.sieve.narrow(
            *(each.numpy() for each in of_pairs), self.k, least.numpy(), stops.numpy(), units.numpy()
        ):
            return None
        return stops.diff(), units[: int(stops[-1])].clone()


class _Part:
    """Units that are screened together, from one on: their products lie in a cache while they are looked through."""

    def __init__(self, tile: int, start: int, packed: Tensor, errors: Tensor, scales: Tensor, lift: Tensor,
                 level: Tensor):  # fmt: skip
        self.start, self.packed, self.errors = start, packed, errors
        self.scales, self.lift, self.level = scales, lift, level
        padded = torch.nn.functional.pad(errors, (0, -len(scales) % tile))
        self.errors_of_tiles = padded.unflatten(1, (tile, -1)).amax(1)


def _factors(sample: Float[Tensor, "n d"], columns: Float[Tensor, "units d"]) -> Float[Tensor, " d"]:
    """Return powers of two, float64, that make dimensions of rows and of weights alike in size."""
    of_rows, of_weights = (
        each.double().square().mean(0).sqrt().clamp(min=SMALLEST_NORMAL) for each in (sample, columns[:1024])
    )
    ratio = ((of_weights / of_rows).log2() / 2).nan_to_num()
    return (ratio - ratio.mean()).round().exp2().clamp(1 / MOST_FACTOR, MOST_FACTOR)
