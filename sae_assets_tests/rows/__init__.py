"""Tests of transformers, image geometry and row-level truth."""
