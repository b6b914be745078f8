"""Pieces of a table are written as a plain loop writes them, in whole lines past caches where loops are compiled."""

import numpy as np
import pytest

from sae_assets.ops import jit
from sae_assets.ops.streams import LINE, lead, write
from sae_assets_tests.helpers.compiled_loops import expect_compiled

pytestmark = pytest.mark.xdist_group("compiled")
WORDS = np.uint64(LINE // 8)
NARROW = np.uint64(LINE // 4)


@jit.loop
def _write_doubles(target, first, source, start, n):
    write(target, lead(target), first, source, start, n, WORDS)


@jit.loop
def _write_integers(target, first, source, start, n):
    write(target, lead(target), first, source, start, n, NARROW)


@pytest.mark.parametrize("shift", [0, 1, 5])
@pytest.mark.parametrize(("writer", "dtype"), [(_write_doubles, np.float64), (_write_integers, np.int32)])
def test_a_piece_is_written_wherever_it_begins_and_ends(writer, dtype, shift):
    """Within a line, over several, and nothing beside it."""
    source = np.arange(1, 200, dtype=dtype)
    for first in range(20):
        for n in (0, 1, 3, 7, 8, 9, 15, 16, 17, 33, 150):
            target = np.zeros(200 + shift, dtype)[shift:]
            writer(target, np.uint64(first), source, np.uint64(4), np.uint64(n))
            expected = np.zeros(200, dtype)
            expected[first : first + n] = source[4 : 4 + n]
            assert np.array_equal(target, expected)


def test_compiled_loops_write_past_caches():
    expect_compiled()
    compiled = jit.numba.njit(_write_doubles.py_func)  # anew: of what was kept Numba does not tell
    compiled(np.zeros(9), np.uint64(0), np.ones(9), np.uint64(0), np.uint64(9))
    (code,) = compiled.inspect_llvm().values()
    assert "!nontemporal" in code
