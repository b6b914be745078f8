"""Large tables that compiled loops write piece by piece: whole lines of memory, past a processor's caches.

Otherwise a processor fetches each line that is to be overwritten. What is written is the same as by a plain loop.
"""

from typing import Any, no_type_check

import numpy as np

from sae_assets.ops import jit

LINE = 64  # bytes
ONE = np.uint64(1)


@no_type_check
def _line():
    """The function for loops that writes a line of ``target`` from a position on, which has to be a line's beginning:
    a processor ends the process otherwise."""
    from llvmlite import ir  # noqa: PLC0415 (with Numba)
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def line(typing, target, position, source, start):
        def code(context, builder, signature, arguments):
            size = signature.args[0].dtype.bitwidth // 8
            whole = ir.VectorType(ir.IntType(8 * size), LINE // size).as_pointer()
            to, origin = (
                builder.bitcast(
                    builder.gep(context.make_array(signature.args[n])(context, builder, arguments[n]).data, [at]), whole
                )
                for n, at in ((0, arguments[1]), (2, arguments[3]))
            )
            stored = builder.store(builder.load(origin, align=size), to, align=LINE)
            stored.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        return (types.void(target, position, source, start), code) if target.dtype == source.dtype else None

    return intrinsic(line)


def _plain_line(target: Any, position: Any, source: Any, start: Any) -> None:
    words = LINE // target.itemsize
    target[position : position + words] = source[start : start + words]


write_line = _line() if jit.COMPILED else _plain_line


@jit.loop
@no_type_check
def lead(target):
    """Return the place of the first element of a contiguous array within its line, in elements."""
    return np.uint64(target.ctypes.data % LINE // target.itemsize)


@no_type_check
def write(target, led, first, source, start, n, words):
    """Copy n elements of ``source`` from ``start`` on to ``target`` from ``first`` on, both of one dimension and type.

    Loops take it in whole: a call would count who holds the arrays, which waits for all that is being written.

    Args:
        led: :func:`lead` of ``target``.
        words: elements of a line, a constant.
    """
    head = min(n, words - (led + first & words - ONE) & words - ONE)
    whole = head + (n - head & ~(words - ONE))
    for index in range(head):
        target[first + index] = source[start + index]
    for index in range(head, whole, words):
        write_line(target, first + index, source, start + index)
    for index in range(whole, n):
        target[first + index] = source[start + index]


write = jit.loop(write, inline="always")
