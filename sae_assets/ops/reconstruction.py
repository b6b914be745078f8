"""Does an SAE fit these rows? What its decoder makes of their sparse code, against the rows, as sums to be merged.

The decoder's rows of the active units are gathered, one of each row at a time: no dense code is ever made. Sums do not
depend on batches, blocks, threads or the device. How rows are encoded lives in ``sparse_activations``.
"""

import math
from collections.abc import Iterable
from threading import Lock

import torch
from jaxtyping import Float
from torch import Tensor

from sae_assets.artifacts.fit import FitSums
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import Loops, in_threads, loops_for
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import tree_sums
from sae_assets.ops.sparse_code import SparseCode

ROW_BYTES = 48  # per row and dimension: the row, what is decoded of it, a decoder's row, their product and difference
NUMBERS_AT_ONCE = 2**18  # of rows that are decoded together on a CPU, whose cache holds them
SMALLEST_EXPONENT, LARGEST_EXPONENT = -148, 128  # of float32, as frexp gives them
MANTISSA_BITS = 24
BIN_SHIFT = 3
BIN_BITS = 1 << BIN_SHIFT  # exponents of one bin
TERMS_PER_STEP = 16  # of decoded rows, which gain more than two nanoseconds each by compiled loops
# The exponent as float32 encodes it of what is a whole number of the first bin.
LEAST_ENCODED = SMALLEST_EXPONENT + 126
N_BINS = (LARGEST_EXPONENT - SMALLEST_EXPONENT) // BIN_BITS + 1


def merge_fits(parts: Iterable[FitSums]) -> FitSums:
    """Return sums over the rows of all parts, of one SAE; their order does not matter, not even in the last bit.

    Raises:
        ArtifactError: no parts, or parts of other numbers of dimensions.
    """
    fits = list(parts)
    widths = sorted({len(fit.row_sum) for fit in fits})
    if len(widths) != 1:
        raise ArtifactError(f"Fits to merge are of rows of width {widths}, expected one and the same of all.")
    columns = zip(*(fit.row_sum for fit in fits), strict=True)
    return FitSums(
        n_rows=sum(fit.n_rows for fit in fits),
        row_sum=tuple(math.fsum(column) for column in columns),
        square_sum=math.fsum(fit.square_sum for fit in fits),
        residual_sum=math.fsum(fit.residual_sum for fit in fits),
    )


class Decoder:
    """``code @ weight + bias``, which every format's SAE reconstructs its input by.

    Args:
        weight: float [n_units, d_model]; bias: float [d_model]; both are held in float32.
        device: where sums are computed.
        memory_budget: bytes held at once beside the weights, input and result; a single row always fits.

    Raises:
        ArtifactError: weights that are not finite, or shapes that do not fit each other.
    """

    @plain_arithmetic()
    def __init__(
        self,
        weight: Float[Tensor, "units d"],
        bias: Float[Tensor, " d"],
        *,
        device: torch.device | str = "cpu",
        memory_budget: int = 256 * 2**20,
    ):
        self.n_units, self.d_model = weight.shape
        if bias.shape != (self.d_model,):
            raise ArtifactError(
                f"The decoder's bias has shape {tuple(bias.shape)}, but its weight {tuple(weight.shape)} asks for "
                f"({self.d_model},)."
            )
        for name, tensor in (("weight", weight), ("bias", bias)):
            if not bool(torch.isfinite(tensor).all()):
                raise ArtifactError(f"The decoder's {name} holds values that are not finite.")
        self.weight = weight.detach().float().to(device).contiguous()
        self.bias = bias.detach().double().to(device)
        most = memory_budget // (ROW_BYTES * self.d_model)
        if self.weight.device.type == "cpu":
            most = min(most, NUMBERS_AT_ONCE // self.d_model)
        self.rows_at_once = max(1, most)
        self.n_terms = 0  # of all rows that were decoded

    @plain_arithmetic()
    def decode(self, code: SparseCode) -> Float[Tensor, "rows d"]:
        """Return x̂ of each row, float64 [n_rows, d_model] on the device: a unit's share is added after those of larger
        values.

        Raises:
            ArtifactError: a code of an SAE with more units.
        """
        self._expect(code, len(code.l0))
        counts = code.row_offsets.diff()
        order = counts.sort(descending=True, stable=True).indices  # rows that go on longest come first
        starts = code.row_offsets[:-1][order]
        units, values = code.unit_ids.to(self.weight.device), code.values.double().to(self.weight.device)
        decoded = torch.zeros(len(counts), self.d_model, dtype=torch.float64, device=self.weight.device)
        # Of how many rows there is a first, a second, … entry.
        lasting = len(counts) - torch.bincount(counts, minlength=1).cumsum(0)[:-1]
        for rank, n_rows in enumerate(lasting.tolist()):
            entry = (starts[:n_rows] + rank).to(self.weight.device)
            # A product of two float32 is exact in float64, so that it does not matter whether it is fused with the sum.
            rows = self.weight.index_select(0, units.index_select(0, entry)).double()
            decoded[:n_rows].addcmul_(rows, values.index_select(0, entry)[:, None])
        decoded += self.bias
        if len(counts) and int(counts.min()) == int(counts.max()):  # they are in their order
            return decoded
        return torch.empty_like(decoded).index_copy_(0, order.to(self.weight.device), decoded)

    def _expect(self, code: SparseCode, n_rows: int) -> None:
        if len(code.l0) != n_rows:
            raise ArtifactError(f"The code is of {len(code.l0)} rows, expected {n_rows}.")
        if len(code.unit_ids) and int(code.unit_ids.max()) >= self.n_units:
            raise ArtifactError(
                f"The code names unit {int(code.unit_ids.max())}, but the decoder has {self.n_units} units: they are "
                "of different SAEs."
            )


class Fit:
    """Collects the sums of :class:`FitSums` over the rows of a chunk, a batch at a time.

    It holds two numbers per row, and ``35 · d_model`` integers by which Σ x is exact.
    """

    @plain_arithmetic()
    def __init__(self, decoder: Decoder):
        self._decoder, self._device = decoder, decoder.weight.device
        self._squares: list[float] = []
        self._residuals: list[float] = []
        self._bins = torch.zeros(N_BINS * decoder.d_model, dtype=torch.int64, device=self._device)

    @plain_arithmetic()
    def add(self, x: Float[Tensor, "rows d"], code: SparseCode) -> None:
        """Count rows and their code.

        Args:
            x: [n_rows, d_model], as they were encoded; float64 is rounded to float32.
            code: of these rows; what ``k_stored`` left out of it is missing from x̂.

        Raises:
            ArtifactError: rows of another width than the decoder's or not finite, or a code of other rows or units.
        """
        if x.ndim != 2 or x.shape[1] != self._decoder.d_model:
            raise ArtifactError(
                f"Rows have shape {tuple(x.shape)}, but the SAE's decoder makes rows of width {self._decoder.d_model}."
            )
        self._decoder._expect(code, len(x))
        if not bool(torch.isfinite(x).all()):
            raise ArtifactError(f"Row {int((~torch.isfinite(x).all(1)).nonzero()[0])} is not finite.")
        decoder = self._decoder
        decoder.n_terms += len(code.values) * decoder.d_model
        loops = loops_for(decoder.n_terms // TERMS_PER_STEP, self._device)
        if loops is not None:
            self._add_by(loops, x.to(self._device, torch.float32).contiguous(), code)
            return
        for start in range(0, len(x), decoder.rows_at_once):
            block = slice(start, start + decoder.rows_at_once)
            self._add_block(x[block].to(self._device, torch.float32), _rows_of(code, block))

    def _add_by(self, loops: Loops, x: Tensor, code: SparseCode) -> None:
        """:meth:`_add_block` by compiled loops."""
        sums = torch.empty(2, len(x), dtype=torch.float64, device="cpu")
        decoder, lock = self._decoder, Lock()
        weight, bias, unit_ids, values = (
            each.numpy() for each in (decoder.weight, decoder.bias, code.unit_ids, code.values)
        )

        def add(x: Tensor, *arrays: Tensor) -> None:
            starts, stops, squares, residuals = (each.numpy() for each in arrays)
            bins = torch.zeros_like(self._bins).view(N_BINS, -1)
            loops.encoding.reconstruct(
                x.numpy(), weight, bias, starts, stops, unit_ids, values, squares, residuals, bins.numpy(),
                LEAST_ENCODED, BIN_SHIFT,
            )  # fmt: skip
            with lock:
                self._bins += bins.flatten()

        in_threads(add, len(values) * decoder.d_model, x, code.row_offsets[:-1], code.row_offsets[1:], *sums)
        self._squares += sums[0].tolist()
        self._residuals += sums[1].tolist()

    def _add_block(self, x: Tensor, code: SparseCode) -> None:
        wide = x.double()
        self._residuals += tree_sums(self._decoder.decode(code).sub_(wide).square_()).tolist()
        self._squares += tree_sums(wide.square_()).tolist()
        # A float32 is a whole number of 24 bits times a power of 2, and whole numbers add up exactly in any order.
        mantissa, exponent = torch.frexp(x)
        index = exponent.long() - SMALLEST_EXPONENT
        whole = (mantissa * 2.0**MANTISSA_BITS).long() << (index & (BIN_BITS - 1))
        column = torch.arange(x.shape[1], device=x.device)
        self._bins.index_add_(0, (index >> BIN_SHIFT).mul_(x.shape[1]).add_(column).flatten(), whole.flatten())

    def sums(self) -> FitSums:
        """Return the sums so far; each is rounded once, but for what the sums of squares within a row err by."""
        bins = self._bins.view(N_BINS, -1).T.tolist()
        unit = 2 ** (MANTISSA_BITS - SMALLEST_EXPONENT)
        exact = (sum(count << BIN_BITS * number for number, count in enumerate(column)) / unit for column in bins)
        return FitSums(
            n_rows=len(self._squares),
            row_sum=tuple(exact),
            square_sum=math.fsum(self._squares),
            residual_sum=math.fsum(self._residuals),
        )


def _rows_of(code: SparseCode, rows: slice) -> SparseCode:
    """Return the code of a segment of rows."""
    offsets = code.row_offsets[rows.start : rows.stop + 1]
    entries = slice(int(offsets[0]), int(offsets[-1]))
    return SparseCode(
        row_offsets=offsets - offsets[0],
        unit_ids=code.unit_ids[entries],
        values=code.values[entries],
        l0=code.l0[rows],
        row_mass=code.row_mass[rows],
        row_dropped=code.row_dropped[rows],
    )
