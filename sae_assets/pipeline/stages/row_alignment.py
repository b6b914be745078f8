"""``row_alignment``: how well every unit falls on the rows of every concept, where the data set locates them."""

from typing import Any

from sae_assets import ops
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.options import AggregateOptions
from sae_assets.pipeline.plots import plot_row_alignment
from sae_assets.pipeline.scoring import Unlocated, read_rows
from sae_assets.pipeline.stage import Made, Pass, Result, Stage

SPLITS = ("cal", "test")


def _make(work: Pass) -> Made:
    chunks, labels, unlocated = work.inputs["sparse_activations"], work.inputs["labels"], Unlocated(work)
    first = next(iter(chunks))
    concepts = tuple(labels.header(first).scalars["concepts"])
    rows = read_rows(work, concepts, unlocated)
    figures = ops.row_alignment.align_rows(
        rows,
        concepts=concepts,
        n_units=int(chunks.header(first).scalars["n_units"]),
        device=work.device,
        memory_budget=work.memory_budget,
    )
    artifact = ops.row_alignment.rank_pairs(figures, rows, concepts=concepts, n_unlocated=unlocated.total)
    return ROW_ALIGNMENT.only(work, Result(artifact, plot=lambda: plot_row_alignment(artifact)))


def _located(artifact: Any, _expected: Expected) -> Outcome:
    names = [name for name, n in zip(artifact.concepts, artifact.n_unlocated.sum(0).tolist(), strict=True) if n]
    shown = {"concepts": len(artifact.concepts), "not_located": len(names)}
    return Outcome(not names, {**shown, "names": ", ".join(names[:MOST_NAMED])} if names else shown)


def _counts(artifact: Any) -> dict[str, Any]:
    f1, ap = artifact.rate("f1")[1], artifact.average_precision[1]
    best = [(name, pair) for name, pair in zip(artifact.concepts, artifact.best.tolist(), strict=True) if pair >= 0]
    figures: dict[str, Any] = {
        "pairs": len(artifact.unit_ids),
        "cal_rows": int(artifact.n_rows[0]),
        "test_rows": int(artifact.n_rows[1]),
    }
    figures |= artifact.summary
    figures |= {f"test_row_f1[{name}]": float(f1[pair]) for name, pair in best}
    figures |= {f"test_row_ap[{name}]": float(ap[pair]) for name, pair in best}
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


ROW_ALIGNMENT = Stage(
    name="row_alignment",
    level="model",
    description="Row figures of every (concept, unit) over all thresholds: F1, IoU, average precision, AUROC, purity.",
    make=_make,
    code_version="5",
    chunk_inputs=("sparse_activations", "ground_truth", "labels"),
    options=AggregateOptions,
    file_offset=400,
    splits=SPLITS,
    after="thresholds",
    checks=(
        Check(
            "concepts_located",
            "Every concept says where it is in each positive example; others have no row figures.",
            _located,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_row_alignment,
)
