"""Stages make artifacts: frozen containers of tensors that check themselves when built.

Artifacts hold counts and values; rates are derived. They know neither files (``storage``) nor Dagster, and compute
nothing beyond their own derived columns (``ops`` does). All tensors are on the CPU. torch is imported only when one
is built, so that definitions can name these classes without it.
"""

from sae_assets.artifacts.base import Artifact, offsets_of
from sae_assets.artifacts.detection import BestPairs, DetectionStats, Thresholds
from sae_assets.artifacts.examples import SPLITS, Examples, Labels
from sae_assets.artifacts.ground_truth import GroundTruth
from sae_assets.artifacts.rows import FilteredActivations, SparseActivations, SparseRows
from sae_assets.artifacts.units import REASONS, UnitMapping, UnitStats

__all__ = [
    "REASONS",
    "SPLITS",
    "Artifact",
    "BestPairs",
    "DetectionStats",
    "Examples",
    "FilteredActivations",
    "GroundTruth",
    "Labels",
    "SparseActivations",
    "SparseRows",
    "Thresholds",
    "UnitMapping",
    "UnitStats",
    "offsets_of",
]
