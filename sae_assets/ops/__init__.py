"""Numerics on torch: one module per stage, one code path for CPU and GPU.

Nothing here opens a file or imports Dagster; tensors come in, artifacts come out, on the CPU. Formulas follow
``docs/numerics.md``. Readers of files live in ``storage``, ``datasets`` and ``saes``.
"""
