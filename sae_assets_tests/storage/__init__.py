"""Tests of stored files: formats, headers, atomic writes, provenance and chunk readers."""
