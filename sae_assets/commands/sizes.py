"""The files of a chunk are measured to tell how large they will be over other numbers of examples."""

from collections.abc import Collection

from upath import UPath

from sae_assets import storage
from sae_assets.artifacts import Artifact
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.catalog import Dataset
from sae_assets.pipeline.forecast import Cost


def sized(artifact: Artifact, path: UPath, examples: int, sizes: Collection[int], dataset: Dataset) -> list[Cost]:
    """Return rows and bytes of a chunk's artifact over the smallest and the largest of these numbers of examples.

    Columns grow with the examples, those of sampled rows with the rows that are drawn, and what stands around columns
    (header and footer) does not grow; in ``.pt`` everything is taken to grow.

    Args:
        path: the artifact's file, over ``examples``.
    """
    rows, fixed, of_sample, n_bytes = len(storage.parquet.to_table(artifact)[0]), 0, 0, int(path.stat().st_size)
    if path.suffix == ".parquet":
        columns = storage.parquet.column_bytes(path)
        fixed = n_bytes - sum(columns.values())
        drawn_columns = getattr(storage.tables.table_of(artifact.kind), "OF_SAMPLE", ())
        of_sample = sum(columns[name] for name in drawn_columns)
    costs = []
    for size in sorted({min(sizes), max(sizes)}):
        times = drawn = size / examples
        if isinstance(artifact, ControlInputs) and dataset.controls is not None and len(artifact.row_ids):
            drawn = min(dataset.controls.rows_per_chunk, artifact.n_rows * times) / len(artifact.row_ids)
        n_bytes_then = fixed + (n_bytes - fixed - of_sample) * times + of_sample * drawn
        costs.append(Cost(size, rows * times, n_bytes_then))
    return costs
