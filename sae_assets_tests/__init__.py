"""Tests of sae_assets, mirroring its modules."""
