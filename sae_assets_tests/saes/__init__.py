"""Tests of SAE checkpoints: reading, refusing and finding them."""
