"""``labels``: split and example-level labels of a chunk's examples, and where each concept is that is true of them.

Labels may be corrected and concepts added: what depends on them reads this, and activations do not.
"""

from typing import Any

from sae_assets.chunks.contents import WHAT_TO_DO, changed_regions, describe_labels, labels_hash
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import Check, Expected, Outcome, contents_outcome
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target


def _make(work: Pass) -> Made:
    manifest, reader = work.sources.manifest(work.target), work.sources.reader(work.target.dataset)
    artifact = describe_labels(manifest, reader)
    what_to_do = WHAT_TO_DO.format(dataset=work.target.address.dataset, chunk=manifest.key)
    expected = Expected(changes=changed_regions(manifest, reader), what_to_do=what_to_do)
    return LABELS.only(work, Result(artifact, expected))


def _outside(target: Target, sources: Sources, _options: Options) -> dict[str, str]:
    return {"manifest": labels_hash(sources.manifest(target), sources.reader(target.dataset))}


def _as_registered(_artifact: Any, expected: Expected) -> Outcome:
    return contents_outcome(expected.changes, expected.what_to_do)


def _counts(artifact: Any) -> dict[str, Any]:
    splits = {f"examples_{split}": artifact.splits.count(split) for split in ("train", "cal", "test")}
    return {"examples": len(artifact), "concepts": len(artifact.concepts), **splits}


LABELS = Stage(
    name="labels",
    level="dataset-chunk",
    description="Split and labels of a chunk's examples, and hashes of their masks or spans.",
    make=_make,
    chunk_inputs=("examples",),
    settings=lambda target, _options: {"concepts": list(target.dataset.concepts)},
    outside=_outside,
    checks=(
        Check(
            "regions_as_registered",
            "Every example's masks or spans are what they were when the chunk was registered.",
            _as_registered,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_labels,
)
