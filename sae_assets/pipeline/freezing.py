"""Choices that `calibration: freeze` keeps within an artifact whose figures are counted again.

A stage that is ``frozen`` keeps its whole file. Others choose on cal and count on test in one artifact: what they chose
stands in the file of before, and is taken from there.
"""

from typing import Any

from sae_assets.errors import StoredFileError
from sae_assets.pipeline.stage import Pass, Stage, Target

CALIBRATION = "calibration"


def frozen_settings(target: Target) -> dict[str, Any]:
    """Return a setting of such a stage, so that what was kept is chosen anew once the data set is no longer frozen."""
    return {CALIBRATION: "freeze"} if target.dataset.calibration == "freeze" else {}


def kept_choice(work: Pass, stage: Stage) -> Any | None:
    """Return the artifact that is there, if its choice is to be kept: of the same code, settings, encoder and concepts.

    None where the data set is not frozen, or where there is no such file.
    """
    target, chunks = work.target, work.inputs["sparse_activations"]
    if target.dataset.calibration != "freeze" or work.store.find(target.address) is None:
        return None
    try:
        item = work.store.read(target.address)
    except StoredFileError:  # nothing can be kept of a damaged file
        return None
    provenance, now = item.provenance, stage.settings(target, work.options)
    encoder = chunks.header(next(iter(chunks))).provenance.identity.get("encoder")
    fits = (
        provenance.code_version == stage.code_version
        and {**provenance.config, CALIBRATION: ""} == {**now, CALIBRATION: ""}
        and provenance.identity.get("encoder") == encoder
        and item.artifact.concepts == tuple(target.dataset.concepts)
    )
    return item.artifact if fits else None
