"""Blocks of rows are screened on the CPU through a sieve where the clock says so, else by one product.

What it decides cannot be seen in any bit. Time is what passes: the process's seconds of CPU count other threads' work
too, and a thread's own leave out the threads that share a block. The least of some blocks is what load disturbs least.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor

from sae_assets.ops.byte_products import largest_code
from sae_assets.ops.compiled import Loops, loops_for
from sae_assets.ops.sieve import Candidates, Sieve

FEWEST_ROWS, FEWEST_UNITS = 64, 2**11  # of a block, for which a sieve can pay
ROWS_BEFORE = 256  # that are encoded before a sieve is made, which takes as long as some hundred
PRODUCTS_PER_STEP = 2**11  # of which a sieve saves some
SIEVE_BYTES = 8  # held per row and unit beside the product
DIRECTION_BYTES = 3  # held per weight: twice as they are multiplied, in another order and in this, and what is left
REMEMBERED, TRIED = 8, 3  # blocks of each way whose time counts, and that are needed to compare
AGAIN = 32  # blocks after which the slower way is tried once more

Build = Callable[[Loops, Tensor, int], Sieve]  # loops, rows as they come, largest code of weights


class Ways:
    """Remembers what blocks took, and gives the candidates of those that go through the sieve.

    Args:
        n_units, d: of the encoder.
        most_rows: of a block that the memory budget lets pass a sieve.
    """

    def __init__(self, n_units: int, d: int, most_rows: int):
        self.products, self.most_rows = n_units * d, most_rows
        self.d, self.large = d, n_units >= FEWEST_UNITS
        self.sieve: Sieve | None = None
        self.rows = self.blocks = self.waits = 0
        self.patience = 1  # blocks that are not tried after one that had too many candidates
        self.sifted = False  # the last block was
        self.seconds: dict[bool, deque[float]] = {way: deque(maxlen=REMEMBERED) for way in (True, False)}

    @property
    def most_held(self) -> int:
        """Return bytes of a sieve; 0 where there will be none, which is known for large encoders once loops are
        there."""
        may_sift = self.large and self.most_rows >= FEWEST_ROWS
        return DIRECTION_BYTES * self.products if may_sift else 0

    @contextmanager
    def timed(self, n_rows: int) -> Iterator[None]:
        """Around the encoding of a block."""
        self.sifted, start = False, time.perf_counter()
        yield
        self.rows, self.blocks = self.rows + n_rows, self.blocks + 1
        if n_rows >= FEWEST_ROWS:
            self.seconds[self.sifted].append((time.perf_counter() - start) / n_rows)

    def candidates(self, centred: Float[Tensor, "rows d"], build: Build) -> Candidates | None:
        """Return a block's candidates by row (``Sieve.candidates``); None: it is to be screened by one product.

        Args:
            build: makes the sieve, once it is worth that.
        """
        if not self.large or not FEWEST_ROWS <= len(centred) <= self.most_rows or self.rows < ROWS_BEFORE:
            return None
        loops = loops_for(self.rows * self.products // PRODUCTS_PER_STEP, centred.device)
        most = largest_code(self.d) if loops is not None else None
        if loops is None or most is None:
            self.large = most is not None or loops is None
            return None
        if self.sieve is None:
            self.sieve = build(loops, centred, most)
            self.seconds[False].clear()  # before there were compiled loops
        if not self._is_due():
            return None
        candidates = self.sieve.candidates(loops, centred)
        self.sifted = candidates is not None
        if candidates is None:
            self.waits, self.patience = self.patience, 2 * self.patience
        return candidates

    def _is_due(self) -> bool:
        """Return whether the next block is to be tried."""
        if self.waits:
            self.waits -= 1
            return False
        for way, times in self.seconds.items():
            if len(times) < TRIED and self.blocks % 2 == way:
                return way
        sifted, plain = (min(self.seconds[way], default=0.0) for way in (True, False))
        return (sifted <= plain) != (self.blocks % AGAIN == 0)
