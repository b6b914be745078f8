"""Files: where they lie, how they are written whole or not at all, and what stands in them.

Storage knows artifacts and bytes; it knows no Dagster and computes no statistics. The normative description of every
file is ``docs/storage-format.md``.
"""
