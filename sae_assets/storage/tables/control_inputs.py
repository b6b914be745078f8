"""Controls need of each example pooled embeddings, sampled rows, and what random SAEs say of it."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sae_assets.artifacts import offsets_of
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.storage.columns import Scalars, flat, lists, plain_numbers

COLUMNS = {
    "example_index": "position of the example in the data set",
    "n_rows": "rows of the example",
    "mean_embedding": "mean of the embeddings of its rows",
    "max_embedding": "largest value of each dimension over its rows",
    "positions": "positions of the sampled rows in the example",
    "row_embeddings": "embeddings of the sampled rows, one behind the other",
    "random_counts": "how many units of each random SAE fire on the example",
    "random_units": "these units, one SAE behind the other",
    "random_values": "the score of each, pooled over the rows; header: `pooling` if it is not the maximum",
    "row_random_counts": "how many units of each random SAE fire on each sampled row, row after row; this and the next "
    "two are null of rows that are pooled",
    "row_random_units": "these units, row after row, one SAE behind the other",
    "row_random_values": "the value of each",
}
# of sampled rows, which do not grow with the examples
OF_SAMPLE = ("positions", "row_embeddings", "row_random_counts", "row_random_units", "row_random_values")


def encode(artifact: ControlInputs) -> tuple[pa.Table, Scalars]:
    n, d, seeds = artifact.n_examples, artifact.d_model, artifact.n_seeds
    offsets = artifact.example_offsets
    example = torch.searchsorted(offsets, artifact.row_ids, right=True) - 1
    sampled = offsets_of(torch.bincount(example, minlength=n))
    counts = artifact.random_offsets.diff().view(seeds, n)
    order = _order(counts)  # examples first: one row of the table holds all that is said of one
    columns = {
        "example_index": pa.array(range(artifact.first_example, artifact.first_example + n), pa.int32()),
        "n_rows": pa.array(offsets.diff().int().numpy()),
        "mean_embedding": lists(torch.arange(n + 1, device="cpu") * d, artifact.mean_embeddings.flatten().numpy()),
        "max_embedding": lists(torch.arange(n + 1, device="cpu") * d, artifact.max_embeddings.flatten().numpy()),
        "positions": lists(sampled, (artifact.row_ids - offsets[example]).int().numpy()),
        "row_embeddings": lists(sampled * d, artifact.row_embeddings.flatten().numpy()),
        "random_counts": lists(torch.arange(n + 1, device="cpu") * seeds, counts.T.flatten().int().numpy()),
        "random_units": lists(offsets_of(counts.sum(0)), artifact.random_units[order].numpy()),
        "random_values": lists(offsets_of(counts.sum(0)), artifact.random_values[order].numpy()),
        **_row_columns(artifact, sampled),
    }
    scalars = {name: getattr(artifact, name) for name in ("first_example", "n_seeds", "n_units", "d_model")}
    return pa.table(columns), scalars if artifact.pooling is None else {**scalars, "pooling": artifact.pooling}


def decode(table: pa.Table, scalars: Scalars) -> ControlInputs:
    n, d, seeds = len(table), scalars["d_model"], scalars["n_seeds"]
    offsets = offsets_of(torch.from_numpy(plain_numbers(table["n_rows"], np.int64)))
    sampled, positions = flat(table["positions"])
    example = torch.repeat_interleave(torch.arange(n, device="cpu"), sampled.diff())
    counts = torch.from_numpy(plain_numbers(flat(table["random_counts"])[1], np.int64)).view(n, seeds).T
    order = _order(counts)
    units, values = _numbers(table, "random_units", np.int32), _numbers(table, "random_values", np.float32)
    of_rows: dict[str, Any] = {}
    if "row_random_counts" in table.column_names and not table["row_random_counts"].null_count:
        row_counts = torch.from_numpy(plain_numbers(flat(table["row_random_counts"])[1], np.int64))
        row_counts = row_counts.view(len(example), seeds).T
        row_order = _order(row_counts)
        row_units, row_values = (
            _numbers(table, f"row_random_{name}", dtype)
            for name, dtype in (("units", np.int32), ("values", np.float32))
        )
        of_rows = {
            "row_random_offsets": offsets_of(row_counts.flatten()),
            "row_random_units": torch.empty_like(row_units).index_copy_(0, row_order, row_units),
            "row_random_values": torch.empty_like(row_values).index_copy_(0, row_order, row_values),
        }
    return ControlInputs(
        example_offsets=offsets,
        mean_embeddings=_numbers(table, "mean_embedding", np.float32).view(n, d),
        max_embeddings=_numbers(table, "max_embedding", np.float32).view(n, d),
        row_ids=torch.from_numpy(plain_numbers(positions, np.int64)) + offsets[example],
        row_embeddings=_numbers(table, "row_embeddings", np.float32).view(len(example), d),
        random_offsets=offsets_of(counts.flatten()),
        random_units=torch.empty_like(units).index_copy_(0, order, units),
        random_values=torch.empty_like(values).index_copy_(0, order, values),
        **of_rows,
        **scalars,
    )


def _row_columns(artifact: ControlInputs, sampled: Tensor) -> dict[str, pa.Array]:
    """Return what random SAEs say of the sampled rows of each example; ``sampled`` int64 [n + 1], where its rows
    stand."""
    n, types = len(sampled) - 1, {"counts": pa.int32(), "units": pa.int32(), "values": pa.float32()}
    if "row_random" not in artifact.random_codes:
        return {f"row_random_{name}": pa.nulls(n, pa.list_(kind)) for name, kind in types.items()}
    offsets, units, values = artifact.random_codes["row_random"]
    seeds = artifact.n_seeds
    counts = offsets.diff().view(seeds, len(artifact.row_ids))
    order, per_example = _order(counts), offsets_of(counts.sum(0))[sampled]
    return {
        "row_random_counts": lists(sampled * seeds, counts.T.flatten().int().numpy()),
        "row_random_units": lists(per_example, units[order].numpy()),
        "row_random_values": lists(per_example, values[order].numpy()),
    }


def _numbers(table: pa.Table, name: str, dtype: type) -> Tensor:
    return torch.from_numpy(plain_numbers(flat(table[name])[1], dtype))


def _order(counts: Tensor) -> Tensor:
    """Return where scores that stand by seed, then example are found by example, then seed; counts int64 [n_seeds,
    n]."""
    segments = torch.arange(counts.numel(), device="cpu").view(counts.shape)
    by_example = segments.T.flatten()
    starts, lengths = offsets_of(counts.flatten())[:-1][by_example], counts.flatten()[by_example]
    within = torch.arange(int(lengths.sum()), device="cpu") - offsets_of(lengths)[:-1].repeat_interleave(lengths)
    return starts.repeat_interleave(lengths) + within
