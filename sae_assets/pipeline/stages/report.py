"""``report``: a page about a data set, token kind and model: which unit detects which concept, how sure, and where."""

from collections.abc import Sequence
from math import inf
from typing import Any

from sae_assets.artifacts.report import Report
from sae_assets.datasets.records import Record
from sae_assets.pages.report import plain_headline, report_page
from sae_assets.pipeline.checks import Check, Expected, Outcome
from sae_assets.pipeline.options import ScoringOptions
from sae_assets.pipeline.report_examples import PAGE_BYTES
from sae_assets.pipeline.reporting import about, gather
from sae_assets.pipeline.scoring import found_concepts, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target


def _make(work: Pass) -> Made:
    content = gather(work)
    artifact = Report(report_page(content))
    return REPORT.only(work, Result(artifact, plot=lambda: plain_headline(content)))


def _settings(target: Target, options: ScoringOptions) -> dict[str, Any]:
    return {**scoring_settings(target, options), "about": about(target)}


def _small_enough(artifact: Any, _expected: Expected) -> Outcome:
    size = len(artifact.html.encode())
    return Outcome(size <= PAGE_BYTES, {"bytes": size, "most_bytes": PAGE_BYTES})


def _counts(artifact: Any) -> dict[str, Any]:
    return {"bytes": len(artifact.html.encode()), "pictures": artifact.html.count("<img ")}


def _effort(target: Target, records: Sequence[Record]) -> float:
    """Each concept that has a unit is shown, below what is said of all."""
    return 1 + found_concepts(target.dataset, records)


REPORT = Stage(
    name="report",
    level="model",
    description="A page for people: which unit detects which concept, how sure, and where, with examples.",
    make=_make,
    code_version="11",
    chunk_inputs=("sparse_activations", "ground_truth", "row_locations", "labels", "examples"),
    model_inputs=(
        "unit_stats",
        "unit_mapping",
        "pruning_audit",
        "row_alignment",
        "chosen_pairs",
        "best_pairs",
        "coalitions",
        "localization",
    ),
    optional_inputs=("controls",),
    settings=_settings,
    options=ScoringOptions,
    seconds_offset=1400,  # it shows as many examples whatever is read
    effort=_effort,
    file_offset=inf,
    splits=("train", "cal", "test"),
    checks=(Check("small_enough", "The page has at most 10 MB.", _small_enough, blocking=False),),
    counts=_counts,
)
