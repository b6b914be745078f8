"""Encode: embeddings through an SAE's encoder to sparse activations, exactly and without a dense result.

A row's pre-activations are defined as float64 dot products, rounded once to float32. A matrix product of lower
precision (``screens``) screens them block by block; a certified error bound says which units can possibly be among the
chosen, and only those are computed again, as a fixed binary tree of float64 additions gives them (``dot_products``). So
ids and values do not depend on the batch, on the block of rows, on threads or on the device. Units are screened in
tiles: the largest value of each says where candidates can be, so that the whole matrix is passed over once. ReLU and
JumpReLU live in ``jumprelu``, reading checkpoints in ``saes``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.errors import ArtifactError
from sae_assets.ops.compiled import Loops, in_threads, loops_for
from sae_assets.ops.dot_products import Pairs, rounded_products
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.screens import SMALLEST_NORMAL, UNIT_ROUNDOFF, Screen, upper_float32
from sae_assets.ops.segments import added_up, pack_descending, plan_blocks
from sae_assets.ops.sieve import Sieve
from sae_assets.ops.sparse_code import SparseCode, joined, truncated
from sae_assets.ops.ways import SIEVE_BYTES, Ways

FLOAT32_LIMIT = 2.0**127
TILE = 32  # units of which the largest screened value is looked at first
CACHED_BYTES, FEWEST_ROWS = 2**24, 256  # of products on a CPU, and rows for which a product is no slower
# The most that is held at once, in bytes: per screened pair beside the product, and what is found of its tile; per
# candidate its row, unit, value and sort key, with the sort's copies of them.
SCREEN_BYTES = 1
TILE_BYTES = 32
CANDIDATE_BYTES = 128
SPARE_PLACES = 4  # in which candidates stand by row, for each of them
TERMS_PER_STEP = 32  # of exact products, which gain less than a nanosecond each by compiled loops


class Encoder(ABC):
    """``x -> activation((x - shift) @ weight + bias)``, stored sparsely.

    Args:
        weight: float32 [d_model, n_units].
        shift: float32 [d_model], subtracted from the input; bias: float32 [n_units], added to the product.
        device: where the products run.
        memory_budget: bytes that encoding may hold beside weights, input and result; a single row always fits.

    Raises:
        ArtifactError: weights that are not finite, or shapes that do not fit each other.
    """

    n_terms: ClassVar[int] = 0  # of all products that were computed exactly here: loading loops pays once for them all

    @plain_arithmetic()
    def __init__(
        self,
        weight: Float[Tensor, "d units"],
        *,
        shift: Float[Tensor, " d"] | None = None,
        bias: Float[Tensor, " units"] | None = None,
        device: torch.device | str = "cpu",
        memory_budget: int = 256 * 2**20,
    ):
        self.d_model, self.n_units = weight.shape
        shift = torch.zeros(self.d_model, dtype=torch.float32, device="cpu") if shift is None else shift
        bias = torch.zeros(self.n_units, dtype=torch.float32, device="cpu") if bias is None else bias
        for name, tensor, width in (("shift", shift, self.d_model), ("bias", bias, self.n_units)):
            if tensor.shape != (width,):
                raise ArtifactError(
                    f"The encoder's {name} has shape {tuple(tensor.shape)}, but its weight {tuple(weight.shape)} "
                    f"asks for ({width},)."
                )
        for name, tensor in (("weight", weight), ("shift", shift), ("bias", bias)):
            if not bool(torch.isfinite(tensor).all()):
                raise ArtifactError(f"The encoder's {name} holds values that are not finite.")
        self.columns = weight.T.float().to(device).contiguous()  # [n_units, d_model]: a unit's weights lie together
        self.on_cpu = self.columns.device.type == "cpu"
        self.shift = shift.double().to(device)
        self.bias = bias.double().to(device)
        self.memory_budget = memory_budget
        self.tile = self._tile()
        self.n_tiles = -(-self.n_units // self.tile)
        # Units of a tile lie together where a processor finds their largest as fast so: its caches fetch them together.
        self.together = self.on_cpu and self.tile == TILE
        self.tile_step, self.unit_step = (self.tile, 1) if self.together else (1, self.n_tiles)
        self.screen = Screen(self.columns, self.n_tiles * self.tile)
        self.norms = norms = torch.linalg.vector_norm(self.columns, dim=1, dtype=torch.float64)
        self.largest_norm = float(norms.max())
        self.largest_bias = float(self.bias.abs().max())
        self.least = self._least()
        level = self._level()
        # No unit stands in the places that fill up the tiles: nothing that is screened there is ever a candidate.
        lifted = self._padded(level, -torch.inf).float()
        self.level = lifted if bool((lifted != 0).any()) else None
        # |screened + level - exact| <= stray * width + norm * slope + offset + share * |screened + level|, for each
        # unit the largest of its tile: the product's error (``Screen``); a few roundings, of the level, the sum, the
        # stored float32 and the floor; the underflow of any of them. All are a little larger, since what lies below a
        # limit by an error is screened below it by (1 + share) / (1 - share) of that.
        d, few, share = self.d_model, 8 * UNIT_ROUNDOFF, self.screen.share
        slope = self.screen.slope + few * norms + d * SMALLEST_NORMAL
        offset = (few + share) * (self.bias.abs() + level.abs()) + d * SMALLEST_NORMAL * (1 + norms)
        self.width, self.slope, self.offset = (
            upper_float32(self._by_tile(self._padded(bound * (1 + 2 * share), 0.0)).amax(0))
            for bound in (norms, slope, offset)
        )
        of_pair = self.screen.bytes + SCREEN_BYTES
        self.row_bytes = of_pair * self.n_units + TILE_BYTES * self.n_tiles + 24 * self.d_model
        sifted_bytes = self.row_bytes + SIEVE_BYTES * self.n_units
        self.ways = Ways(self.n_units, d, memory_budget // sifted_bytes)

    def _sieve(self, loops: Loops, sample: Tensor, most: int) -> Sieve:
        """What rows on a CPU can be screened by in bytes."""
        return Sieve(loops, self.columns, self.bias, self._level(), self._most(), self.tile, sample, most)

    def _most(self) -> int:
        """How many units a row stores at most; 0: any number."""
        return 0

    def _least(self) -> Float[Tensor, " units"]:
        """What each unit's stored values exceed: float32, 0 at least."""
        return torch.zeros(self.n_units, dtype=torch.float32, device=self.columns.device)

    def _tile(self) -> int:
        """Units per tile."""
        return min(TILE, self.n_units)

    def _level(self) -> Float[Tensor, " units"]:
        """What is added to each unit's product before it is held against the floor."""
        return self.bias

    def _padded(self, values: Float[Tensor, " units"], filling: float) -> Float[Tensor, " places"]:
        """Values of units, and as many more as fill up the tiles."""
        return torch.nn.functional.pad(values, (0, self.tile * self.n_tiles - self.n_units), value=filling)

    def _by_tile(self, values: Float[Tensor, "*rows places"]) -> Float[Tensor, "*rows tile tiles"]:
        """Values of units as tiles, in columns: unit ``t * tile_step + i * unit_step`` is the i-th of tile t."""
        if self.together:
            return values.unflatten(-1, (self.n_tiles, self.tile)).transpose(-1, -2)
        return values.unflatten(-1, (self.tile, self.n_tiles))

    @property
    def rows_at_once(self) -> int:
        """Rows that are encoded together within the memory budget; the result does not depend on it."""
        return max(1, self.memory_budget // self.row_bytes)

    def _rows_screened(self) -> int:
        """Rows of one product: on a CPU hardly more than its caches hold products of while they are looked through."""
        if not self.on_cpu:
            return self.rows_at_once
        return min(self.rows_at_once, max(FEWEST_ROWS, CACHED_BYTES // (4 * self.n_units)))

    @abstractmethod
    def floor(
        self, largest: Float[Tensor, "rows tiles"], stray: Float[Tensor, "rows 1"], norm: Float[Tensor, "rows 1"]
    ) -> Float[Tensor, "rows _"]:
        """Screened values below this cannot be stored, whatever the error of the screen was; per row, or row and tile.

        Args:
            largest: screened value of each tile.
            stray, norm: of each row, how far rounding moved it and how long it is at most, before and after that.
        """

    def narrowed(
        self,
        rows: Int[Tensor, " n"],
        screened: Float[Tensor, " n"],
        stray: Float[Tensor, "rows 1"],
        norm: Float[Tensor, "rows 1"],
    ) -> Bool[Tensor, " n"] | None:
        """Which candidates, by row, can still be stored when those of all tiles are known; None: all of them.

        Args:
            stray, norm: as :meth:`floor` has them, before they are rounded up.
        """
        return None

    @plain_arithmetic()
    def encode(self, x: Float[Tensor, "rows d"], k_stored: int | None = None) -> SparseCode:
        """Encode rows.

        Args:
            x: float [n_rows, d_model], on any device.
            k_stored: keep at most this many entries per row, the largest; None keeps all.

        Raises:
            ArtifactError: another width than the encoder's, or a row that is not finite (its number is named).
        """
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise ArtifactError(
                f"Embeddings have shape {tuple(x.shape)}, but the SAE's encoder takes rows of width {self.d_model}."
            )
        size = self._rows_screened()
        codes = []
        for number, block in enumerate(x.split(size)):
            with self.ways.timed(len(block)):
                codes += [truncated(code, k_stored) for code in self._encode_block(block, number * size)]
        return joined(codes)

    def _encode_block(self, block: Tensor, first_row: int) -> Iterator[SparseCode]:
        centred = block.to(self.shift.device, torch.float64, copy=True)
        centred -= self.shift
        norm = centred.norm(dim=1, keepdim=True)
        # Partial sums are at most |x| |w| + |bias|: beyond float32 the screen could overflow and miss units. NaN is
        # below no limit.
        fits = norm * max(self.largest_norm, 1.0) + self.largest_bias < FLOAT32_LIMIT
        if not bool(fits.all()):
            bad = int((~fits).nonzero()[0, 0])
            if not bool(torch.isfinite(block[bad]).all()):
                raise ArtifactError(f"Embedding row {first_row + bad} is not finite.")
            raise ArtifactError(
                f"Embedding row {first_row + bad} is too large: its products with the encoder leave float32."
            )
        candidates = self.ways.candidates(centred, self._sieve) if self.on_cpu else None
        if candidates is not None:
            kept, units = candidates
            yield self._choose(centred, norm[:, 0], offsets_of(kept), units.long())
            return
        screened, stray, scale = self.screen.product(centred, norm)
        if self.level is not None:
            torch.addcmul(self.level, screened, scale, out=screened)
            scale = torch.ones_like(scale)
        tiles = self._by_tile(screened)
        largest_of_tile = tiles.amax(1) * scale
        floor = self.floor(largest_of_tile, upper_float32(stray), upper_float32(norm + stray))
        loops = self._loops()
        if loops is not None:
            code = self.chosen_by(loops, screened, largest_of_tile, floor, centred, norm[:, 0])
            if code is not None:
                yield code
                return
        holds = largest_of_tile >= floor
        floor = floor.expand_as(holds)
        # A row can have any number of candidates: where all units are positive, all of them are computed again.
        limit = max(1, self.memory_budget // (2 * CANDIDATE_BYTES * self.tile))
        for start, stop in plan_blocks(holds.sum(1), limit):
            row, tile = holds[start:stop].nonzero(as_tuple=True)
            values = tiles[start:stop][row, :, tile] * scale
            index, inside = (values >= floor[start:stop][row, tile, None]).nonzero(as_tuple=True)
            reaching = self.narrowed(row[index], values[index, inside], stray[start:stop], norm[start:stop])
            if reaching is not None:
                index, inside = _where(reaching, index, inside)
            pairs = row[index] * self.n_units + inside * self.unit_step + tile[index] * self.tile_step
            if not self.together:
                pairs = pairs.sort().values
            starts = _starts(pairs // self.n_units, stop - start)
            yield self._choose(centred[start:stop], norm[start:stop, 0], starts, pairs % self.n_units)

    def _loops(self) -> Loops | None:
        """Compiled loops, once so much was computed exactly that they pay."""
        return loops_for(Encoder.n_terms // TERMS_PER_STEP, self.columns.device)

    def chosen_by(
        self, loops: Loops, screened: Tensor, largest: Tensor, floor: Tensor, centred: Tensor, norm: Tensor
    ) -> SparseCode | None:
        """What :meth:`_choose` gives of all candidates of a block, by compiled loops; None where it has to be asked.

        Args:
            screened: [rows, places] of the block; largest, floor: as :meth:`floor` has and gives them.
            norm: of each row of ``centred``.
        """
        return None

    def _choose(self, centred: Tensor, norm: Tensor, starts: Tensor, units: Tensor) -> SparseCode:
        """The code of a block's rows from their candidates, which come by row, then unit; ``starts`` are of rows."""
        Encoder.n_terms += len(units) * self.d_model
        most, loops = self._most() or self.n_units, self._loops()
        if loops is not None:
            return self._choose_by(loops, centred, norm, starts, units, most)
        n_rows = len(centred)
        rows = torch.repeat_interleave(torch.arange(n_rows, device=starts.device), starts.diff())
        pairs = Pairs(self.columns, centred, units, rows)
        values = rounded_products(pairs, self.norms, self.bias, norm, self.memory_budget // 4)
        rows, units, values = _where(values > self.least[units], rows, units, values)
        # A stable sort by value leaves ties in the order of their units.
        order = pack_descending(rows, values).sort(stable=True).indices
        rows, units, values = rows[order], units[order], values[order]
        rank = torch.arange(len(rows), device=rows.device) - _starts(rows, n_rows)[rows]
        rows, units, values = _where(rank < most, rows, units, values)
        row_offsets, values = _starts(rows, n_rows).cpu(), values.cpu()
        l0 = row_offsets.diff()
        nothing = torch.zeros(n_rows, dtype=torch.float64, device="cpu")
        mass = added_up(values.double(), l0)
        return SparseCode(row_offsets, units.int().cpu(), values, l0.int(), mass, nothing)

    def _choose_by(
        self, loops: Loops, centred: Tensor, norm: Tensor, starts: Tensor, candidates: Tensor, most: int
    ) -> SparseCode:
        n_rows, counts = len(centred), starts.diff()
        units = torch.empty(len(candidates), dtype=torch.int32, device="cpu")
        values = torch.empty_like(units, dtype=torch.float32)
        l0 = torch.empty(n_rows, dtype=torch.int32, device="cpu")
        mass, nothing = torch.zeros((2, n_rows), dtype=torch.float64, device="cpu")
        encoder = candidates, self.least, self.columns, self.norms, self.bias

        def choose(starts: Tensor, stops: Tensor, centred: Tensor, norm: Tensor, *of_rows: Tensor) -> None:
            if len(starts):
                columns = [each.numpy() for each in (starts, stops, *encoder, centred, norm)]
                loops.encoding.choose(
                    *columns, most, units.numpy(), values.numpy(), *(each.numpy() for each in of_rows)
                )

        in_threads(choose, len(candidates) * self.d_model, starts[:-1], starts[1:], centred, norm, l0, mass)
        rank = torch.arange(len(candidates), device="cpu") - torch.repeat_interleave(starts[:-1], counts)
        stored = rank < torch.repeat_interleave(l0, counts)
        return SparseCode(offsets_of(l0), units[stored], values[stored], l0, mass, nothing)


def _where(chosen: Bool[Tensor, " n"], *columns: Tensor) -> tuple[Tensor, ...]:
    """Where ``chosen``, of each column; the device is asked once how many that are."""
    (index,) = chosen.nonzero(as_tuple=True)
    return tuple(column[index] for column in columns)


def _starts(rows: Int[Tensor, " n"], n_rows: int) -> Int[Tensor, " rows_plus_1"]:
    """Where each row begins among ascending ones, and where the last ends."""
    return torch.searchsorted(rows, torch.arange(n_rows + 1, device=rows.device))


def _kth_largest(values: Float[Tensor, "rows n"], k: int) -> Float[Tensor, "rows 1"]:
    """The k-th largest value of each row; on the CPU by numpy, which takes a tenth of torch's time."""
    if values.device.type != "cpu":
        return values.topk(k, dim=1).values[:, -1:]
    place, parted = values.shape[1] - k, values.clone()
    parted.numpy().partition(place, axis=1)
    return parted[:, place, None]


class TopKEncoder(Encoder):
    """The k largest pre-activations, then ReLU (Gao et al. 2024, arXiv:2406.04093)."""

    @plain_arithmetic()
    def __init__(self, weight: Float[Tensor, "d units"], k: int, **kwargs):
        if not 1 <= k <= weight.shape[1]:
            raise ArtifactError(f"k is {k}, expected 1..{weight.shape[1]} (the SAE's number of units).")
        self.k = k
        super().__init__(weight, **kwargs)
        self.row_bytes += 12 * k  # the k largest and their places
        self.largest_error = self.width.max(), self.slope.max(), self.offset.max()

    def _most(self):
        return self.k

    def _tile(self):
        return max(1, min(TILE, self.n_units // (4 * self.k)))  # few of the k largest then share a tile

    def floor(self, largest, stray, norm):
        # At least k units are screened at or above the k-th largest tile's value: the exact k-th is at most one error
        # below it, and what is screened another error below that is not among them. Negatives are never stored.
        width, slope, offset = self.largest_error
        error = stray * width + norm * slope + offset
        kth = _kth_largest(largest, self.k)
        return torch.maximum(kth - 2 * (error + self.screen.share * kth.abs()), -error)

    def narrowed(self, rows, screened, stray, norm):
        # Of the k largest screened values some share a tile, so the k-th largest of all is larger than that of tiles.
        starts = _starts(rows, len(stray))
        width = max(self.k, int(starts.diff().max()))
        if rows.device.type != "cpu" or len(stray) * width > SPARE_PLACES * len(rows):
            return None
        by_row = torch.full((len(stray), width), -FLOAT32_LIMIT, dtype=torch.float32, device="cpu")
        by_row[rows, torch.arange(len(rows), device="cpu") - starts[rows]] = screened
        return screened >= self.floor(by_row, upper_float32(stray), upper_float32(norm + stray))[rows, 0]

    def chosen_by(self, loops, screened, largest, floor, centred, norm):
        n_rows, d = centred.shape
        units = torch.empty(n_rows, self.k, dtype=torch.int32, device="cpu")
        values, mass = (
            torch.empty_like(units, dtype=torch.float32),
            torch.empty(n_rows, dtype=torch.float64, device="cpu"),
        )
        l0 = torch.empty(n_rows, dtype=torch.int32, device="cpu")
        weights, taken = (self.columns, self.norms, self.bias), []

        def choose(screened: Tensor, largest: Tensor, floor: Tensor, *by_row: Tensor) -> None:
            columns = screened, largest, floor, *weights, *by_row
            steps = self.tile_step, self.unit_step
            taken.append(loops.encoding.choose_largest(*(each.numpy() for each in columns), *steps))

        in_threads(choose, units.numel() * d, screened, largest, floor[:, 0], centred, norm, units, values, l0, mass)
        Encoder.n_terms += sum(taken) * d
        stored = torch.arange(self.k, device="cpu") < l0[:, None]
        nothing = torch.zeros(n_rows, dtype=torch.float64, device="cpu")
        return SparseCode(offsets_of(l0), units[stored], values[stored], l0, mass, nothing)
