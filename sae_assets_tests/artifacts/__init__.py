"""Artifacts: invariants and content hashes."""
