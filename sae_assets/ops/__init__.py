"""Numerics on torch: one module per stage, one code path for CPU and GPU.

Nothing here opens a file or imports Dagster; tensors come in, artifacts come out, on the CPU. Formulas follow
``docs/numerics.md``. Readers of files live in ``storage``, ``datasets`` and ``saes``.
"""

from types import ModuleType
from typing import TYPE_CHECKING

from sae_assets.package import submodule

if TYPE_CHECKING:
    from sae_assets.ops import adjusted_p as adjusted_p
    from sae_assets.ops import best_pairs as best_pairs
    from sae_assets.ops import beta as beta
    from sae_assets.ops import chance as chance
    from sae_assets.ops import choice as choice
    from sae_assets.ops import chosen_pairs as chosen_pairs
    from sae_assets.ops import chunk_spool as chunk_spool
    from sae_assets.ops import coalitions as coalitions
    from sae_assets.ops import comparison as comparison
    from sae_assets.ops import concept_pairs as concept_pairs
    from sae_assets.ops import control_data as control_data
    from sae_assets.ops import control_inputs as control_inputs
    from sae_assets.ops import controls as controls
    from sae_assets.ops import detection_stats as detection_stats
    from sae_assets.ops import detectors as detectors
    from sae_assets.ops import device as device
    from sae_assets.ops import exact_search as exact_search
    from sae_assets.ops import example_figures as example_figures
    from sae_assets.ops import example_scores as example_scores
    from sae_assets.ops import filtered_activations as filtered_activations
    from sae_assets.ops import ground_truth as ground_truth
    from sae_assets.ops import held_out_null as held_out_null
    from sae_assets.ops import incidences as incidences
    from sae_assets.ops import intervals as intervals
    from sae_assets.ops import items as items
    from sae_assets.ops import jumprelu as jumprelu
    from sae_assets.ops import key_runs as key_runs
    from sae_assets.ops import localization as localization
    from sae_assets.ops import logistic as logistic
    from sae_assets.ops import plain as plain
    from sae_assets.ops import pooling as pooling
    from sae_assets.ops import prevalence_free as prevalence_free
    from sae_assets.ops import process_state as process_state
    from sae_assets.ops import protocols as protocols
    from sae_assets.ops import pruning_audit as pruning_audit
    from sae_assets.ops import random_saes as random_saes
    from sae_assets.ops import rank_sums as rank_sums
    from sae_assets.ops import rarefaction as rarefaction
    from sae_assets.ops import reconstruction as reconstruction
    from sae_assets.ops import row_alignment as row_alignment
    from sae_assets.ops import row_chance as row_chance
    from sae_assets.ops import row_chunks as row_chunks
    from sae_assets.ops import row_marks as row_marks
    from sae_assets.ops import scratch as scratch
    from sae_assets.ops import segments as segments
    from sae_assets.ops import shuffled_search as shuffled_search
    from sae_assets.ops import significance as significance
    from sae_assets.ops import sorted_scores as sorted_scores
    from sae_assets.ops import sparse_activations as sparse_activations
    from sae_assets.ops import sparse_code as sparse_code
    from sae_assets.ops import thresholds as thresholds
    from sae_assets.ops import truth_sets as truth_sets
    from sae_assets.ops import unit_detectors as unit_detectors
    from sae_assets.ops import unit_mapping as unit_mapping
    from sae_assets.ops import unit_rows as unit_rows
    from sae_assets.ops import unit_stats as unit_stats


def __getattr__(name: str) -> ModuleType:
    """Return a module of this package, imported when it is first asked for: most of them load torch."""
    return submodule(__name__, name)
