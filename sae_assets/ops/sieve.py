"""Two screens on the CPU, of bytes: most of the products are made once, in a fraction of float32's time.

Rows and directions become whole numbers of at most eight bits, times a scale of each; products of these are added up
exactly in 32 bits. That moves a row by a hundredth of its length, so many times the units that are stored may be among
them: their products are refined by further bytes, of what the first ones left, until hardly more than are stored
remain. For the k largest, it is guessed what the k-th exceeds; that refined products certainly reach it proves the
guess. Compiled loops do what torch has no operation for (``sieve_kernels``); ``byte_products`` are what is multiplied.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.byte_products import AT_ONCE, SUMMED, ZERO, byte_product, packed_weights
from sae_assets.ops.compiled import Loops, in_threads
from sae_assets.ops.scratch import zeros
from sae_assets.ops.screens import SMALLEST_NORMAL, UNIT_ROUNDOFF
from sae_assets.ops.segments import kth_largest

MOST = 127  # the largest code of rows
LEAST_SCALE, MOST_SCALE = 2.0**-60, 2.0**60
MOST_FACTOR = 2.0**12
LARGEST = 2.0**120  # of products, so that no step of theirs leaves float32
# One in so many units may be a candidate, each of which took some five times as long as a product in float32, and one
# of bytes a quarter (`benchmarks/bench_encoding.py` under a profiler, 3,584 to 16,384 with VNNI).
SHARE = 6
DEVIATIONS = 2.0  # of the first screen's error, by which the k-th largest is guessed to be smaller, as of random rows
TRIES = 2  # a guess that does not hold is mended once
UPPER = 1 + 2.0**-20  # what bounds are times, for their own roundings

Candidates = tuple[Int[Tensor, " rows"], Int[Tensor, " n"]]  # how many each row has, and their units, ascending


class Sieve:
    """A sieve tells which units can be among those that rows store.

    A row x is ``x̃ + s q + r`` and a direction w is ``w̃ + t p + v``, where x̃ and w̃ are its bytes, q and p those of what
    is left, and r and v what is left then. By Cauchy–Schwarz, with all distances measured::

        |x·w - x̃·w̃|                         <= |x - x̃| |w| + |x̃| |w - w̃|
        |x·w - x̃·w̃ - s q·w̃|                 <= |r| |w| + |x̃ + s q| |w - w̃|
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
        n_places, width = -(-n_units // tile) * tile, -(-d // AT_ONCE) * AT_ONCE
        self.level, self.k, self.tile = level, k, tile
        self.factors = _factors(sample, columns)
        inverse, finest = 1 / self.factors, loops.sieve.LARGEST
        most = min(most, finest)
        codes = zeros(n_places, width, dtype=torch.int8)  # in large pages, as they are gone through again and again
        self.scales = torch.full((n_places,), LEAST_SCALE, dtype=torch.float32, device="cpu")
        self.rests = zeros(n_units, width, dtype=torch.int8)
        left, lengths = torch.zeros((n_units, 2), dtype=torch.float64, device="cpu"), torch.zeros_like(level)
        self.codes = codes[:n_units]
        filled = self.codes, self.rests, self.scales[:n_units], left, lengths
        loops.sieve.to_bytes(
            columns.numpy(), inverse.numpy(), LEAST_SCALE, 0, most, finest, *(each.numpy() for each in filled)
        )
        self.packed = packed_weights(codes)
        steps = self.scales[:n_units].double()
        self.steps = torch.stack([steps, steps / (2 * finest)])
        self.sums = torch.stack([each.sum(1, dtype=torch.int64) for each in (self.codes, self.rests)])
        self.lift = torch.zeros_like(self.scales)
        self.lift[:n_units] = -ZERO * steps * self.sums[0]
        self.lifted = level.float() if bool((level != 0).any()) else None
        # For each screen, what a row's strays and its length are times in the error, and an offset: a few roundings of
        # rows, the level and the sum, and the underflow of any of them.
        few, lost = 8 * UNIT_ROUNDOFF, 8 * d * SMALLEST_NORMAL
        stray, last_stray = left.T
        nothing, offset = torch.zeros_like(stray), few * (bias.abs() + level.abs()) + lost
        of_length, of_length_at_last = (each + few * lengths for each in (stray, last_stray))
        self.errors = UPPER * torch.stack(
            [
                torch.stack([lengths, nothing, of_length, offset]),
                torch.stack([nothing, lengths, of_length, offset]),
                torch.stack([stray + last_stray, lengths + stray, of_length_at_last, offset]),
            ]
        )
        padded = torch.nn.functional.pad(self.errors[0], (0, n_places - n_units))
        self.errors_of_tiles = padded.unflatten(1, (-1, tile)).amax(2).contiguous()
        self.longest = max(1.0, float(lengths.max()))
        self.fits = bool(self.errors.isfinite().all()) and float(self.scales.max()) < MOST_SCALE

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
        screened = byte_product(codes, self.packed, self.scales, self.lift)
        n_units = len(self.level)
        screened[:, n_units:] = -torch.inf  # no unit stands there
        if self.lifted is not None:
            places = screened[:, :n_units]
            torch.addcmul(self.lifted, places, scale[:, None], out=places)
            scale = torch.ones_like(scale)
        largest = screened.unflatten(1, (-1, self.tile)).amax(2).mul_(scale[:, None])
        least = torch.zeros(n_rows, dtype=torch.float64, device="cpu")
        if self.k:
            error = errors[:, 0] * self.errors[0, 0].max() + errors[:, 2] * self.errors[0, 2].max()
            least = (kth_largest(largest, self.k)[:, 0].double() - DEVIATIONS / d**0.5 * error).clamp_(min=0)
        shares: dict[int, Candidates | None] = {}

        def sift(row: Tensor, *by_row: Tensor) -> None:
            if len(row):
                shares[int(row[0])] = self._sift(loops, *by_row)

        row = torch.arange(n_rows, device="cpu")
        in_threads(sift, screened.numel(), row, codes, rests, steps, errors, screened, largest, scale, least)
        in_order = [shares[first] for first in sorted(shares)]
        whole = [share for share in in_order if share is not None]
        if len(whole) < len(in_order):
            return None
        counts, units = (torch.cat(each) for each in zip(*whole, strict=True))
        return counts, units

    def _sift(self, loops: Loops, codes: Tensor, rests: Tensor, steps: Tensor, errors: Tensor, screened: Tensor,
              largest: Tensor, scale: Tensor, least: Tensor) -> Candidates | None:  # fmt: skip
        n_rows, n_units = len(codes), len(self.level)
        starts, stops = torch.empty((2, n_rows + 1), dtype=torch.int64, device="cpu")
        first = torch.empty(n_units + 1, dtype=torch.int64, device="cpu")
        units = torch.empty(n_rows * (n_units // SHARE), dtype=torch.int32, device="cpu")
        values = torch.empty_like(units, dtype=torch.float32)
        row_bytes, weight_bytes = (rests, codes), (self.codes, self.rests)
        for _ in range(TRIES):
            by_row = screened, largest, scale, least, errors, self.errors[0], self.errors_of_tiles
            if not loops.sieve.collect(*(each.numpy() for each in (*by_row, starts, units, values))):
                return None
            n = int(starts[-1])
            row_of = torch.empty(n, dtype=torch.int32, device="cpu")
            value_of, error_of = torch.empty((2, n), dtype=torch.float64, device="cpu")
            loops.sieve.by_unit(*(each.numpy() for each in (starts, units, values, first, row_of, value_of)))
            for rows, weights, row_steps, *of_units in zip(
                row_bytes, weight_bytes, steps.T, self.steps, self.sums, self.errors[1:], strict=True
            ):
                of_rows = rows, row_steps.contiguous(), errors, least, weights
                of_pairs = first, row_of, value_of, error_of
                loops.sieve.refine(*(each.numpy() for each in (*of_rows, *of_units, *of_pairs)))
            if loops.sieve.narrow(
                *(each.numpy() for each in of_pairs), self.k, least.numpy(), stops.numpy(), units.numpy()
            ):
                return stops.diff(), units[: int(stops[-1])].clone()
        return None


def _factors(sample: Float[Tensor, "n d"], columns: Float[Tensor, "units d"]) -> Float[Tensor, " d"]:
    """Return powers of two, float64, that make dimensions of rows and of weights alike in size."""
    of_rows, of_weights = (
        each.double().square().mean(0).sqrt().clamp(min=SMALLEST_NORMAL) for each in (sample, columns[:1024])
    )
    ratio = ((of_weights / of_rows).log2() / 2).nan_to_num()
    return (ratio - ratio.mean()).round().exp2().clamp(1 / MOST_FACTOR, MOST_FACTOR)
