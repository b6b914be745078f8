"""``unit_rows``: the activations of all chunks by unit, so that a unit's rows are found without going through all.

Only data sets whose catalog entry has ``unit_rows`` have it.
"""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.options import AggregateOptions
from sae_assets.pipeline.stage import Made, Pass, Rereadable, Result, Stage
from sae_assets.storage.ahead import chunk_by_chunk


def _make(work: Pass) -> Made:
    chunks = work.inputs["sparse_activations"]
    n_units = int(chunks.header(next(iter(chunks))).scalars["n_units"])
    rows = Rereadable(lambda: (activations for (activations,) in chunk_by_chunk(chunks)))
    artifact, digest = ops.unit_rows.sort_by_unit(rows, n_units)
    expected = Expected(limits={"entries": artifact.n_entries, "digest": digest})
    return UNIT_ROWS.only(work, Result(artifact, expected))


def _same_entries(artifact: Any, expected: Expected) -> Outcome:
    """Compare by number and by a digest that does not depend on order; that of other files was taken as they were
    read."""
    same = artifact.n_entries == expected.limits["entries"]
    same = same and ops.unit_rows.rows_digest(artifact) == expected.limits["digest"]
    return Outcome(same, {"entries": artifact.n_entries, "entries_by_row": expected.limits["entries"]})


def _counts(artifact: Any) -> dict[str, Any]:
    counts = artifact.unit_offsets.diff()
    return {
        "rows": artifact.n_rows,
        "units": artifact.n_units,
        "entries": artifact.n_entries,
        "active_units": int((counts > 0).sum()),
        "most_rows_of_a_unit": int(counts.max()),
    }


UNIT_ROWS = Stage(
    name="unit_rows",
    level="model",
    description="On which rows each unit fires and how strongly: the activations once more, by unit.",
    make=_make,
    chunk_inputs=("sparse_activations", "labels"),
    options=AggregateOptions,
    file_offset=0,  # it holds every row
    splits=("train", "cal", "test"),
    applies=lambda dataset: dataset.unit_rows,
    checks=(
        Check("same_entries", "It holds the entries of `sparse_activations`, each once and no others.", _same_entries),
    ),
    counts=_counts,
    glance=glances.glance_at_unit_rows,
)
