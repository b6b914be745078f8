"""Splits, labels and hashes of regions of a chunk's examples."""

import pyarrow as pa
import torch

from sae_assets.artifacts import SPLITS, Labels
from sae_assets.storage.columns import EXAMPLES, Scalars, example_columns

COLUMNS = EXAMPLES | {
    "split": "train, cal or test",
    "region_hashes": "JSON, by true concept: sha256 of its mask or spans, or how it is located without",
    "label": "example-level truth of one concept",
}


def encode(artifact: Labels) -> tuple[pa.Table, Scalars]:
    columns = {
        **example_columns(artifact),
        "split": list(artifact.splits),
        "region_hashes": list(artifact.region_hashes),
    }
    for position, concept in enumerate(artifact.concepts):
        columns[f"label:{concept}"] = artifact.labels[:, position].numpy()
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        "first_index": artifact.first_index,
        # Readable without the table:
        "n_by_split": {split: artifact.splits.count(split) for split in SPLITS},
    }


def decode(table: pa.Table, scalars: Scalars) -> Labels:
    concepts = tuple(scalars["concepts"])
    labels = [torch.from_numpy(table[f"label:{concept}"].to_numpy().astype(bool)) for concept in concepts]
    return Labels(
        concepts=concepts,
        first_index=scalars["first_index"],
        example_ids=tuple(table["example_id"].to_pylist()),
        splits=tuple(table["split"].to_pylist()),
        labels=torch.stack(labels, 1) if labels else torch.zeros(len(table), 0, dtype=torch.bool, device="cpu"),
        region_hashes=tuple(table["region_hashes"].to_pylist()),
    )
