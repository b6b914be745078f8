"""Orchestrated, sparse, exact statistics of sparse-autoencoder activations.

This package's head imports nothing, so that ``sae_assets.ops`` works on a bare machine with torch alone and
``sae_assets.definitions`` loads without torch. Start with ``sae_assets.definitions`` (Dagster), ``sae_assets.cli``
(command line) or ``sae_assets.ops`` (numerics).
"""

__version__ = "0.1.0"
