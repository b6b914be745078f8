"""Ids, paths and hashes of a chunk's examples."""

import pyarrow as pa

from sae_assets.artifacts import Examples
from sae_assets.storage.columns import EXAMPLES, Scalars, example_columns
from sae_assets.storage.provenance import digest

COLUMNS = EXAMPLES | {
    "path": "where the example lies, relative to the data set's root",
    "file_hash": "sha256 of the image or text",
}


def encode(artifact: Examples) -> tuple[pa.Table, Scalars]:
    columns = {**example_columns(artifact), "path": list(artifact.paths), "file_hash": list(artifact.file_hashes)}
    return pa.table(columns), {"first_index": artifact.first_index, "paths_hash": digest(artifact.paths)}


def decode(table: pa.Table, scalars: Scalars) -> Examples:
    if "concepts" in scalars:
        raise ValueError("it is of an earlier version, which kept splits and labels in it")
    paths = tuple(table["path"].to_pylist())
    if digest(paths) != scalars["paths_hash"]:  # no part of the content hash
        raise ValueError("the paths are not those that were written")
    return Examples(
        first_index=scalars["first_index"],
        example_ids=tuple(table["example_id"].to_pylist()),
        paths=paths,
        file_hashes=tuple(table["file_hash"].to_pylist()),
    )
