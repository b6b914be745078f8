"""The unit of each concept and its controls: one row per detector and concept."""

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sae_assets.artifacts.controls import Controls
from sae_assets.storage.columns import CELLS, Scalars, floats, integers, nullable

INTERVAL = ("test_f1_low", "test_f1_high")
AUROC_INTERVAL = ("test_auroc_low", "test_auroc_high")
DIFFERENCE = ("difference", "difference_low", "difference_high")
SCALARS_IF_GIVEN = ("n_row_seeds", "second_pass", "row_controls")
COLUMNS = {
    "level": "what is classified: `examples` or `rows`",
    "detector": "`unit`, or a control",
    "seed": "number of the random SAE; null of other detectors",
    "concept": "the concept",
    "choice": "what was chosen beside the threshold: a unit, a dimension (`d_model` + i is −xᵢ), a k, the number of a "
    "penalty; null where the concept has no such detector",
    **{f"test_{name}": f"{text} on test" for name, text in CELLS.items()},
    "test_f1": "F1 on test",
    "test_f1_low": "lower end of its 95 % interval",
    "test_f1_high": "upper end",
    "test_auroc": "area under the ROC curve over all thresholds, on test",
    "test_auroc_low": "lower end of its 95 % interval; null of rows, which depend on each other; files of earlier "
    "versions have none",
    "test_auroc_high": "upper end",
    "test_ap": "average precision over all thresholds, on test",
    "difference": "F1 of the unit minus that of this control; of random SAEs minus their mean, in the line of each",
    "difference_low": "lower end of its paired 95 % interval",
    "difference_high": "upper end",
}


def encode(artifact: Controls) -> tuple[pa.Table, Scalars]:
    n, detectors = len(artifact.concepts), artifact.detectors
    choices = artifact.choices.flatten().numpy()
    columns: dict[str, Any] = {
        "level": pa.array([level for level, _, _ in detectors for _ in range(n)], pa.string()),
        "detector": pa.array([name for _, name, _ in detectors for _ in range(n)], pa.string()),
        "seed": pa.array([seed for _, _, seed in detectors for _ in range(n)], pa.int32()),
        "concept": pa.array([name for _ in detectors for name in artifact.concepts], pa.string()),
        "choice": pa.array(choices, mask=choices < 0),
    }
    for cell, name in enumerate(CELLS):
        columns[f"test_{name}"] = artifact.counts[..., cell].flatten().numpy()
    columns["test_f1"] = nullable(artifact.f1)
    for end, name in enumerate(INTERVAL):
        columns[name] = nullable(artifact.intervals[..., end])
    columns["test_auroc"] = nullable(artifact.auroc)
    if artifact.auroc_intervals is not None:
        for end, name in enumerate(AUROC_INTERVAL):
            columns[name] = nullable(artifact.auroc_intervals[..., end])
    columns["test_ap"] = nullable(artifact.average_precision)
    nothing = torch.full((n, len(DIFFERENCE)), torch.nan, dtype=torch.float64, device="cpu")
    comparisons = dict(zip(artifact.comparisons, artifact.differences, strict=True))
    differences = torch.stack([comparisons.get((level, name), nothing) for level, name, _ in detectors])
    for part, name in enumerate(DIFFERENCE):
        columns[name] = nullable(differences[..., part])
    return pa.table(columns), {
        "concepts": list(artifact.concepts),
        **{name: getattr(artifact, name) for name in ("n_seeds", "n_units", "d_model")},
        **{name: getattr(artifact, name) for name in ("fitted_on_cal", "row_figures")},
        **{name: value for name in SCALARS_IF_GIVEN if (value := getattr(artifact, name)) is not None},
        "n_items": artifact.n_items.tolist(),
        "weighted": [[None if part != part else part for part in figures] for figures in artifact.weighted.tolist()],
    }


def decode(table: pa.Table, scalars: Scalars) -> Controls:
    n = len(scalars["concepts"])

    def shaped(values: Tensor) -> Tensor:
        return values.view(-1, n)

    levels, names = table["level"].to_pylist()[::n], table["detector"].to_pylist()[::n]
    first = {pair: number for number, pair in reversed(list(enumerate(zip(levels, names, strict=True))))}
    weighted = [[float("nan") if part is None else part for part in figures] for figures in scalars["weighted"]]
    fields: dict[str, Any] = {
        "concepts": tuple(scalars["concepts"]),
        **{name: scalars[name] for name in ("n_seeds", "n_units", "d_model", "fitted_on_cal", "row_figures")},
        "n_items": torch.tensor(scalars["n_items"], dtype=torch.int64, device="cpu"),
        "choices": shaped(integers(table["choice"].fill_null(-1))),
        "counts": torch.stack([shaped(integers(table[f"test_{name}"], np.int64)) for name in CELLS], -1),
        "intervals": torch.stack([shaped(floats(table[name])) for name in INTERVAL], -1),
        "auroc": shaped(floats(table["test_auroc"])),
        "average_precision": shaped(floats(table["test_ap"])),
        "weighted": torch.tensor(weighted, dtype=torch.float64, device="cpu"),
        **{name: scalars.get(name) for name in SCALARS_IF_GIVEN},
    }
    if fields["row_controls"] is not None:
        fields["row_controls"] = tuple(fields["row_controls"])
    if AUROC_INTERVAL[0] in table.column_names:
        fields["auroc_intervals"] = torch.stack([shaped(floats(table[name])) for name in AUROC_INTERVAL], -1)
    of_lines = torch.stack([shaped(floats(table[name])) for name in DIFFERENCE], -1)
    nothing = torch.full((n, len(DIFFERENCE)), torch.nan, dtype=torch.float64, device="cpu")
    extras = (fields[name] for name in SCALARS_IF_GIVEN)
    compared = Controls.comparisons_of(scalars["row_figures"], *extras)
    lines = [of_lines[first[pair]] if pair in first else nothing for pair in compared]
    return Controls(**fields, differences=torch.stack(lines))
