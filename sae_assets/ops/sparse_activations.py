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
from sae_assets.ops.chosen_units import ChosenUnits, starts_of, where
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.error_bounds import ErrorBounds
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.scratch import contiguous
from sae_assets.ops.screens import Screen, upper_float32
from sae_assets.ops.segments import cut_blocks, kth_largest
from sae_assets.ops.sieve import Sieve
from sae_assets.ops.sparse_code import SparseCode, joined, truncated
from sae_assets.ops.tiles import Tiles
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
TERMS_PER_STEP = 8  # of exact products, which gain some five nanoseconds each by compiled loops


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
        self.columns = contiguous(weight.T.to(device), torch.float32)  # [n_units, d_model]: a unit's weights together
        self.on_cpu = self.columns.device.type == "cpu"
        self.shift = shift.double().to(device)
        self.bias = bias.double().to(device)
        self.memory_budget = memory_budget
        size = self._tile()
        # Units of a tile lie together where a processor finds their largest as fast so: its caches fetch them together.
        self.tiles = Tiles(self.n_units, size, together=self.on_cpu and size == TILE)
        self.screen = Screen(self.columns, self.tiles.n_places)
        norms = torch.linalg.vector_norm(self.columns, dim=1, dtype=torch.float64)
        self.largest_norm = float(norms.max())
        self.largest_bias = float(self.bias.abs().max())
        self.choice = ChosenUnits(
            self.columns, norms, self.bias, self._least(), self._most() or self.n_units, memory_budget // 4
        )
        level = self._level()
        # No unit stands in the places that fill up the tiles: nothing that is screened there is ever a candidate.
        lifted = self.tiles.padded(level, -torch.inf).float()
        self.level = lifted if bool((lifted != 0).any()) else None
        self.bounds = ErrorBounds.of_tiles(self.screen, norms, self.bias, level, self.tiles)
        of_pair = self.screen.bytes + SCREEN_BYTES
        self.row_bytes = of_pair * self.n_units + TILE_BYTES * self.tiles.number + 24 * self.d_model
        sifted_bytes = self.row_bytes + SIEVE_BYTES * self.n_units
        self.ways = Ways(self.n_units, self.d_model, memory_budget // sifted_bytes)

    def _sieve(self, loops: Loops, sample: Tensor, most: int) -> Sieve:
        """Return what rows on a CPU can be screened by in bytes."""
        return Sieve(loops, self.columns, self.bias, self._level(), self._most(), self.tiles.size, sample, most)

    def _most(self) -> int:
        """Return how many units a row stores at most; 0: any number."""
        return 0

    def _least(self) -> Float[Tensor, " units"]:
        """Return what each unit's stored values exceed: float32, 0 at least."""
        return torch.zeros(self.n_units, dtype=torch.float32, device=self.columns.device)

    def _tile(self) -> int:
        """Return units per tile."""
        return min(TILE, self.n_units)

    def _level(self) -> Float[Tensor, " units"]:
        """Return what is added to each unit's product before it is held against the floor."""
        return self.bias

    @property
    def held_bytes(self) -> int:
        """Return what its directions come to hold at most, in all forms that they are multiplied in."""
        return self.columns.nbytes + self.screen.held_bytes + (self.ways.most_held if self.on_cpu else 0)

    @property
    def rows_at_once(self) -> int:
        """Return rows that are encoded together within the memory budget; the result does not depend on it."""
        return max(1, self.memory_budget // self.row_bytes)

    def _rows_screened(self) -> int:
        """Return rows of one product: on a CPU hardly more than its caches hold products of while they are looked
        through."""
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
        """Return which candidates, by row, can still be stored when those of all tiles are known; None: all of them.

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
            counts, units = candidates
            yield self._code(centred, norm[:, 0], offsets_of(counts), units.long())
            return
        screened, stray, scale = self.screen.product(centred, norm)
        if self.level is not None:
            torch.addcmul(self.level, screened, scale, out=screened)
            scale = torch.ones_like(scale)
        tiles = self.tiles.in_columns(screened)
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
        limit = max(1, self.memory_budget // (2 * CANDIDATE_BYTES * self.tiles.size))
        for start, stop in cut_blocks(holds.sum(1), limit):
            row, tile = holds[start:stop].nonzero(as_tuple=True)
            values = tiles[start:stop][row, :, tile] * scale
            index, inside = (values >= floor[start:stop][row, tile, None]).nonzero(as_tuple=True)
            reaching = self.narrowed(row[index], values[index, inside], stray[start:stop], norm[start:stop])
            if reaching is not None:
                index, inside = where(reaching, index, inside)
            of_tiles, of_units = self.tiles.steps
            pairs = row[index] * self.n_units + inside * of_units + tile[index] * of_tiles
            if not self.tiles.together:
                pairs = pairs.sort().values
            starts = starts_of(pairs // self.n_units, stop - start)
            yield self._code(centred[start:stop], norm[start:stop, 0], starts, pairs % self.n_units)

    def _loops(self) -> Loops | None:
        """Compiled loops, once so much was computed exactly that they pay."""
        return loops_for(Encoder.n_terms // TERMS_PER_STEP, self.columns.device)

    def _code(self, centred: Tensor, norm: Tensor, starts: Tensor, units: Tensor) -> SparseCode:
        """Return the code of a block's rows from their candidates."""
        Encoder.n_terms += len(units) * self.d_model
        return self.choice.among(self._loops(), centred, norm, starts, units)

    def chosen_by(
        self, loops: Loops, screened: Tensor, largest: Tensor, floor: Tensor, centred: Tensor, norm: Tensor
    ) -> SparseCode | None:
        """Return what :meth:`_code` gives of all candidates of a block, by compiled loops; None where it has to be
        asked.

        Args:
            screened: [rows, places] of the block; largest, floor: as :meth:`floor` has and gives them.
            norm: of each row of ``centred``.
        """
        return None


class TopKEncoder(Encoder):
    """The k largest pre-activations, then ReLU (Gao et al. 2024, arXiv:2406.04093)."""

    @plain_arithmetic()
    def __init__(self, weight: Float[Tensor, "d units"], k: int, **kwargs):
        if not 1 <= k <= weight.shape[1]:
            raise ArtifactError(f"k is {k}, expected 1..{weight.shape[1]} (the SAE's number of units).")
        self.k = k
        super().__init__(weight, **kwargs)
        self.row_bytes += 12 * k  # the k largest and their places
        self.largest_bounds = self.bounds.largest()

    def _most(self):
        return self.k

    def _tile(self):
        return max(1, min(TILE, self.n_units // (4 * self.k)))  # few of the k largest then share a tile

    def floor(self, largest, stray, norm):
        # At least k units are screened at or above the k-th largest tile's value: the exact k-th is at most one error
        # below it, and what is screened another error below that is not among them. Negatives are never stored.
        error = self.largest_bounds.error(stray, norm)
        kth = kth_largest(largest, self.k)
        return torch.maximum(kth - 2 * (error + self.screen.share * kth.abs()), -error)

    def narrowed(self, rows, screened, stray, norm):
        # Of the k largest screened values some share a tile, so the k-th largest of all is larger than that of tiles.
        starts = starts_of(rows, len(stray))
        width = max(self.k, int(starts.diff().max()))
        if rows.device.type != "cpu" or len(stray) * width > SPARE_PLACES * len(rows):
            return None
        by_row = torch.full((len(stray), width), -FLOAT32_LIMIT, dtype=torch.float32, device="cpu")
        by_row[rows, torch.arange(len(rows), device="cpu") - starts[rows]] = screened
        return screened >= self.floor(by_row, upper_float32(stray), upper_float32(norm + stray))[rows, 0]

    def chosen_by(self, loops, screened, largest, floor, centred, norm):
        steps = self.tiles.steps
        code, n_products = self.choice.largest_by(loops, screened, largest, floor[:, 0], steps, centred, norm)
        Encoder.n_terms += n_products * self.d_model
        return code
