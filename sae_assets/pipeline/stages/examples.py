"""``examples``: which examples a registered chunk holds, and hashes of their contents."""

from typing import Any

from sae_assets.chunks.contents import WHAT_TO_DO, changed_contents, describe_examples, examples_hash
from sae_assets.pipeline.checks import Check, Expected, Outcome, contents_outcome
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target


def _make(work: Pass) -> Made:
    manifest, reader = work.sources.manifest(work.target), work.sources.reader(work.target.dataset)
    artifact = describe_examples(manifest, reader)
    what_to_do = WHAT_TO_DO.format(dataset=work.target.address.dataset, chunk=manifest.key)
    expected = Expected(changes=changed_contents(manifest, reader), what_to_do=what_to_do)
    return EXAMPLES.only(work, Result(artifact, expected))


def _outside(target: Target, sources: Sources, _options: Options) -> dict[str, str]:
    return {"manifest": examples_hash(sources.manifest(target), sources.reader(target.dataset))}


def _as_registered(_artifact: Any, expected: Expected) -> Outcome:
    return contents_outcome(expected.changes, expected.what_to_do)


EXAMPLES = Stage(
    name="examples",
    level="dataset-chunk",
    description="The immutable manifest of a chunk: example ids, paths and hashes of their contents.",
    make=_make,
    code_version="3",
    outside=_outside,
    checks=(
        Check(
            "contents_as_registered",
            "Every example's image or text is what it was when the chunk was registered.",
            _as_registered,
        ),
    ),
    counts=lambda artifact: {"examples": len(artifact)},
)
