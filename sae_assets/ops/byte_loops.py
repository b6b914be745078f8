"""Products of bytes in compiled loops, by a processor's own instructions for them: Numba uses none of its own accord.

What they give is whole numbers, and the same as a plain loop's.
"""

from collections.abc import Callable
from typing import Any, no_type_check

from sae_assets.ops import jit
from sae_assets.ops.byte_products import AT_ONCE, WEIGHTS


def products_of_bytes(otherwise: Callable[..., Any]) -> tuple[Callable[..., Any], int]:
    """Return what gives what ``otherwise`` does for loops, and the largest weight that it takes: of a larger one sums
    on the way could be cut.

    Args:
        otherwise: int32 products of int8 weights with four rows of uint8, all some times ``AT_ONCE`` long.
    """
    if jit.has("avx512vnni"):
        return _four_by(AT_ONCE, _added_by_vnni), WEIGHTS[0]
    if jit.has("avx2"):
        return _four_by(AT_ONCE // 2, _added_in_pairs), WEIGHTS[1]
    return otherwise, WEIGHTS[0]


@no_type_check
def _four_by(width, added):
    """The function for loops that adds so many bytes at once by ``added``, from the sum before, rows and weights."""
    from llvmlite import ir  # noqa: PLC0415 (with Numba)
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    sums = ir.VectorType(ir.IntType(32), width // 4)

    def four(typing, weights, first, second, third, fourth):
        def code(context, builder, signature, arguments):
            arrays = [
                context.make_array(t)(context, builder, a) for t, a in zip(signature.args, arguments, strict=True)
            ]
            pointers = [builder.bitcast(array.data, sums.as_pointer()) for array in arrays]
            totals = [cgutils.alloca_once_value(builder, ir.Constant(sums, [0] * sums.count)) for _ in pointers[1:]]
            (length,) = cgutils.unpack_tuple(builder, arrays[0].shape)
            with cgutils.for_range(builder, builder.udiv(length, length.type(width))) as step:
                loaded = [builder.load(builder.gep(pointer, [step.index]), align=1) for pointer in pointers]
                for total, row in zip(totals, loaded[1:], strict=True):
                    builder.store(added(ir, cgutils, builder, builder.load(total), row, loaded[0]), total)
            reduced = [ir.IntType(32), [sums], f"llvm.vector.reduce.add.v{sums.count}i32"]
            return context.make_tuple(
                builder,
                signature.return_type,
                [_called(ir, cgutils, builder, *reduced, builder.load(t)) for t in totals],
            )

        return types.UniTuple(types.int32, 4)(weights, first, second, third, fourth), code

    return intrinsic(four)


@no_type_check
def _called(ir, cgutils, builder, result, taken, name, *arguments):
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, taken), name)
    return builder.call(function, arguments)


@no_type_check
def _added_by_vnni(ir, cgutils, builder, total, row, weights):
    """Four products of bytes are added to each sum."""
    return _called(
        ir, cgutils, builder, total.type, [total.type] * 3, "llvm.x86.avx512.vpdpbusd.512", total, row, weights
    )


@no_type_check
def _added_in_pairs(ir, cgutils, builder, total, row, weights):
    """Two products are added up in 16 bits, and two of these sums in 32."""
    each, pairs = ir.VectorType(ir.IntType(8), 32), ir.VectorType(ir.IntType(16), 16)
    operands = (builder.bitcast(operand, each) for operand in (row, weights))
    added = _called(ir, cgutils, builder, pairs, [each, each], "llvm.x86.avx2.pmadd.ub.sw", *operands)
    ones = ir.Constant(pairs, [1] * pairs.count)
    wide = _called(ir, cgutils, builder, total.type, [pairs, pairs], "llvm.x86.avx2.pmadd.wd", added, ones)
    return builder.add(total, wide)
