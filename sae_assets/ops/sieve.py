"""Two screens on the CPU, of bytes and of float32: most of the products are then made in a fraction of float32's time.

Rows and directions become whole numbers of at most eight bits, times a scale of each; products of these are added up
exactly in 32 bits. That moves a row by a hundredth of its length, so many times the units that are stored may be among
them: their products are made again in float32, which leaves hardly more than are stored. For the k largest, it is
guessed what the k-th exceeds; that products in float32 certainly reach it proves the guess. Compiled loops do what
torch has no operation for (``sieve_kernels``); ``byte_products`` are what is multiplied.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sae_assets.ops.byte_products import SUMMED, ZERO, byte_product, packed_weights
from sae_assets.ops.compiled import Loops, in_threads
from sae_assets.ops.screens import SMALLEST_NORMAL, UNIT_ROUNDOFF

MOST = 127  # the largest code of rows
LEAST_SCALE, MOST_SCALE = 2.0**-60, 2.0**60
MOST_FACTOR = 2.0**12
LARGEST = 2.0**120  # of products, so that no step of theirs leaves float32
SHARE = 6  # one in so many units may be a candidate: of more, a plain product in float32 is no slower
PART_BYTES, LEAST_WIDTH = 2**20, 128  # of rows, while they are multiplied: what a processor's own cache holds
DEVIATIONS = 2.0  # of the first screen's error, by which the k-th largest is guessed to be smaller
TRIES = 2  # a guess that does not hold is mended once
UPPER = 1 + 2.0**-20  # what bounds are times, for their own roundings

Candidates = tuple[Int[Tensor, " rows"], Int[Tensor, " n"]]  # how many each row has, and their units, ascending


class Sieve:
    """Which units can be among those that rows store.

    With x̃ and w̃ as they are multiplied, ``|x·w - x̃·w̃| <= |x - x̃| |w| + |x̃| |w - w̃|`` (Cauchy–Schwarz), where both
    distances are measured. Dimensions of rows are multiplied by powers of two beforehand and those of weights divided
    by them, so that a few large ones do not leave the others few steps.

    Args:
        loops: compiled ones.
        columns: float32 [units, d]; norms: theirs, float64.
        bias, level: float64 [units], what is added to each product, and that before it is held against 0 or the k-th
            largest.
        k: how many are stored at most; 0: all above 0.
        tile: units of which the largest value is looked at first, more than ``k`` times as many units as that.
        sample: float64 [rows, d], as rows come.
        most: the largest code of weights (``byte_products.largest_code``).
    """

    def __init__(self, loops: Loops, columns: Float[Tensor, "units d"], norms: Float[Tensor, " units"],
                 bias: Float[Tensor, " units"], level: Float[Tensor, " units"], k: int, tile: int,
                 sample: Float[Tensor, "n d"], most: int):  # fmt: skip
        n_units, d = columns.shape
        n_places = -(-n_units // tile) * tile
        self.columns, self.level, self.k, self.tile = columns, level, k, tile
        self.factors = _factors(sample, columns)
        inverse = 1 / self.factors
        codes = torch.zeros((n_places, d), dtype=torch.int8, device="cpu")
        self.scales = torch.full((n_places,), LEAST_SCALE, dtype=torch.float32, device="cpu")
        moved, lengths = torch.zeros((2, n_units), dtype=torch.float64, device="cpu")
        of_units = columns, self.scales[:n_units], codes[:n_units], moved, lengths
        for some, scales, *filled in zip(*(each.split(4096) for each in of_units), strict=True):
            scales.copy_(_scales(some * inverse.float(), most))
            loops.sieve.to_bytes(some.numpy(), inverse.numpy(), scales.numpy(), 0, *(each.numpy() for each in filled))
        self.packed = packed_weights(codes)
        self.lift = (-ZERO * self.scales.double() * codes.sum(1, dtype=torch.int64)).float()
        self.lifted = level.float() if bool((level != 0).any()) else None
        # |value - exact| <= norm * slope + offset in float32: of the product, in any order (Higham 2002, eq. 3.5), and
        # of a few roundings of rows, the level and the sum; the underflow of any of them.
        few, lost = 8 * UNIT_ROUNDOFF, 4 * d * SMALLEST_NORMAL
        self.slope = (norms * UNIT_ROUNDOFF * (1.01 * d + 8) + lost) * UPPER
        self.offset = (few * (bias.abs() + level.abs()) + lost * (1 + norms)) * UPPER
        # And of bytes <= stray * |w| + length * (|w - w̃| and roundings) + offset, of each unit and of each tile.
        self.errors = torch.stack([lengths, moved + few * lengths, self.offset]) * UPPER
        padded = torch.nn.functional.pad(self.errors, (0, n_places - n_units))
        self.errors_of_tiles = padded.unflatten(1, (-1, tile)).amax(2).contiguous()
        self.longest = max(1.0, float(lengths.max()))
        self.fits = bool(self.errors.isfinite().all()) and float(self.scales.max()) < MOST_SCALE

    def candidates(self, loops: Loops, centred: Float[Tensor, "rows d"], norm: Float[Tensor, " rows"]
                   ) -> Candidates | None:  # fmt: skip
        """Candidates of rows; None: they are too many, or rows too large for the first screen.

        Args:
            centred: float64; norm: of each row, float64.
        """
        n_rows, d = centred.shape
        scale = _scales(centred * self.factors, MOST)
        codes = torch.empty((n_rows, d), dtype=torch.uint8, device="cpu")
        stray, length = torch.empty((2, n_rows), dtype=torch.float64, device="cpu")
        of_rows = centred, self.factors, scale
        loops.sieve.to_bytes(
            *(each.numpy() for each in of_rows), ZERO, *(each.numpy() for each in (codes, stray, length))
        )
        stray += SUMMED * d**0.5 * scale.double()
        length += stray
        if not (self.fits and float(length.max()) * self.longest < LARGEST and float(scale.max()) < MOST_SCALE):
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
            error = stray * self.errors[0].max() + length * self.errors[1].max()
            least = (_kth_largest(largest, self.k).double() - DEVIATIONS / d**0.5 * error).clamp_(min=0)
        found: dict[int, Candidates | None] = {}

        def sift(row: Tensor, *by_row: Tensor) -> None:
            if len(row):
                found[int(row[0])] = self._sift(loops, *by_row)

        row = torch.arange(n_rows, device="cpu")
        in_threads(sift, screened.numel(), row, centred, norm, screened, largest, scale, least, stray, length)
        shares = [found[row] for row in sorted(found)]
        whole = [share for share in shares if share is not None]
        if len(whole) < len(shares):
            return None
        kept, units = (torch.cat(each) for each in zip(*whole, strict=True))
        return kept, units

    def _sift(self, loops: Loops, centred: Tensor, norm: Tensor, screened: Tensor, largest: Tensor, scale: Tensor,
              least: Tensor, stray: Tensor, length: Tensor) -> Candidates | None:  # fmt: skip
        n_rows, n_units = len(centred), len(self.level)
        starts = torch.empty(n_rows + 1, dtype=torch.int64, device="cpu")
        units = torch.empty(n_rows * (n_units // SHARE), dtype=torch.int32, device="cpu")
        first, kept = torch.empty(n_units + 1, dtype=torch.int64, device="cpu"), torch.empty_like(starts[1:])
        rows = _in_parts(centred.float())
        for _ in range(TRIES):
            by_row = screened, largest, scale, least, stray, length
            errors = self.errors, self.errors_of_tiles
            if not loops.sieve.collect(*(each.numpy() for each in (*by_row, *errors, starts, units))):
                return None
            n = int(starts[-1])
            row_of, place_of = torch.empty((2, n), dtype=torch.int32, device="cpu")
            values = torch.empty(n, dtype=torch.float32, device="cpu")
            loops.sieve.by_unit(*(each.numpy() for each in (starts, units, first, row_of, place_of)))
            loops.sieve.multiply(*(each.numpy() for each in (self.columns, rows, first, row_of, place_of, values)))
            of_pairs = starts, units, values, self.level, norm, self.slope, self.offset
            if loops.sieve.narrow(*(each.numpy() for each in of_pairs), self.k, least.numpy(), kept.numpy()):
                return kept, units[: int(kept.sum())].clone()
        return None


def _in_parts(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "parts rows width"]:
    """Rows cut by dimension, so that a part of all of them stays in a processor's own cache."""
    n_rows, d = rows.shape
    width = min(d, max(1, PART_BYTES // (4 * n_rows * LEAST_WIDTH)) * LEAST_WIDTH)
    n_parts = -(-d // width)
    padded = torch.nn.functional.pad(rows, (0, n_parts * width - d))
    return padded.unflatten(1, (n_parts, width)).transpose(0, 1).contiguous()


def _kth_largest(values: Float[Tensor, "rows n"], k: int) -> Float[Tensor, " rows"]:
    place, parted = values.shape[1] - k, values.clone()
    parted.numpy().partition(place, axis=1)
    return parted[:, place]


def _scales(rows: Float[Tensor, "n d"], most: int) -> Float[Tensor, " n"]:
    """What a step of each row's codes is."""
    return (rows.abs().amax(1).double() / most).clamp(LEAST_SCALE).float()


def _factors(sample: Float[Tensor, "n d"], columns: Float[Tensor, "units d"]) -> Float[Tensor, " d"]:
    """Powers of two, float64, that make dimensions of rows and of weights alike in size."""
    of_rows, of_weights = (
        each.double().square().mean(0).sqrt().clamp(min=SMALLEST_NORMAL) for each in (sample, columns[:1024])
    )
    ratio = ((of_weights / of_rows).log2() / 2).nan_to_num()
    return (ratio - ratio.mean()).round().exp2().clamp(1 / MOST_FACTOR, MOST_FACTOR)
