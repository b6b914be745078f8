"""The units that stand for each concept together."""

from typing import Any

import pyarrow as pa
import torch

from sae_assets.artifacts.coalitions import CoalitionChoice
from sae_assets.storage.columns import CELLS, Scalars, flat, floats, integers, lists, nullable

PARTS = {"fit": "where it was grown", "cal": "where rule and size were chosen", "test": "test"}
COLUMNS = {
    "concept": "the concept",
    "rule": "`or` detects where any unit does, `and` where all do; null of fewer than two units",
    "unit_ids": "original ids of the units, in the order in which they joined; empty where none was found",
    "thresholds": "example score from which each detects",
    **{
        f"{part}_{name}": f"{text}, {where}"
        for part, where in PARTS.items()
        for name, text in (CELLS | {"f1": "F1"}).items()
    },
    "test_f1_low": "lower end of the 95 % interval of the test F1",
    "test_f1_high": "upper end of the 95 % interval of the test F1",
    "test_difference": "test F1 above that of the concept's single unit in `best_pairs`",
    "test_difference_low": "lower end of its 95 % interval",
    "test_difference_high": "upper end of its 95 % interval",
}


def encode(artifact: CoalitionChoice) -> tuple[pa.Table, Scalars]:
    n = len(artifact.concepts)
    columns: dict[str, Any] = {
        "concept": pa.array(artifact.concepts, pa.string()),
        "rule": pa.array([artifact.rule(concept) for concept in range(n)], pa.string()),
        "unit_ids": lists(artifact.member_offsets, artifact.unit_ids.int().numpy()),
        "thresholds": lists(artifact.member_offsets, artifact.thresholds.numpy()),
    }
    for index, part in enumerate(PARTS):
        for cell, name in enumerate(CELLS):
            columns[f"{part}_{name}"] = artifact.counts[index, :, cell].contiguous().numpy()
        columns[f"{part}_f1"] = nullable(artifact.f1[index])
    for end, name in enumerate(("test_f1_low", "test_f1_high")):
        columns[name] = nullable(artifact.intervals[:, end])
    for end, name in enumerate(("test_difference", "test_difference_low", "test_difference_high")):
        columns[name] = nullable(artifact.differences[:, end])
    return pa.table(columns), {"n_units": artifact.n_units, "halved": artifact.halved}


def decode(table: pa.Table, scalars: Scalars) -> CoalitionChoice:
    offsets, units = flat(table["unit_ids"])
    _, thresholds = flat(table["thresholds"])
    rules = table["rule"].to_pylist()
    names = ("test_difference", "test_difference_low", "test_difference_high")
    return CoalitionChoice(
        concepts=tuple(table["concept"].to_pylist()),
        n_units=scalars["n_units"],
        halved=scalars["halved"],
        anded=torch.tensor([rule == "and" for rule in rules], dtype=torch.bool, device="cpu"),
        member_offsets=offsets,
        unit_ids=torch.tensor(units.to_pylist(), dtype=torch.int64, device="cpu"),
        thresholds=torch.tensor(thresholds.to_pylist(), dtype=torch.float64, device="cpu"),
        counts=torch.stack([torch.stack([integers(table[f"{part}_{name}"]) for name in CELLS], -1) for part in PARTS]),
        intervals=torch.stack([floats(table[name]) for name in ("test_f1_low", "test_f1_high")], -1),
        differences=torch.stack([floats(table[name]) for name in names], -1),
    )
