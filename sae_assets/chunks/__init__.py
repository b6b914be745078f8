"""Chunks: cutting arrived examples into immutable runs, their manifests on disk, and what their contents were.

Nothing is computed here; reading examples is ``datasets``' business, Dagster's partitions are ``orchestration``'s."""
