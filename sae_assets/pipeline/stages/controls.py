"""``controls``: the unit of each concept beside random SAEs and detectors that need no SAE, on the same test."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts.controls import LARGEST, LEVELS, UNIT
from sae_assets.chunks.contents import expect_contents
from sae_assets.datasets.reader import WEAK
from sae_assets.datasets.records import Record
from sae_assets.errors import MismatchError
from sae_assets.pipeline import glances
from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome
from sae_assets.pipeline.measuring import READING, Meter
from sae_assets.pipeline.options import ScoringOptions
from sae_assets.pipeline.plots import plot_controls
from sae_assets.pipeline.scoring import found_concepts, pooling_of, scoring_settings
from sae_assets.pipeline.stage import Made, Pass, Result, Stage, Target
from sae_assets.rows.second_pass import largest_scores
from sae_assets.rows.source import is_pooled, precomputed_kinds
from sae_assets.storage.ahead import chunk_by_chunk

if TYPE_CHECKING:
    from sae_assets.ops.control_data import ControlData
    from sae_assets.ops.items import LargestScores

NAMES = {
    "random_sae": "random SAEs",
    "diffmean": "difference of means",
    LARGEST: "DiffMean by the largest row",
    "logistic": "logistic regression on embeddings",
    "logistic_units": "logistic regression on all units",
    "k_sparse": "k-sparse probes",
    "embedding_dims": "single dimensions",
}
MORE_CHUNKS = 1.5  # that take as long as what is done whatever their number
BESIDE = 4  # concepts that take as long to fit as what is done whatever their number
# Of examples, where it is of their mean embeddings.
OF_MEANS = {"diffmean": "difference of mean embeddings"}
# Of rows, where it is by the direction that labels of examples give.
OF_ROWS = {LARGEST: "DiffMean of examples' labels"}


def _settings(target: Target, options: ScoringOptions) -> dict[str, Any]:
    assert target.dataset.controls is not None  # else the data set has no such stage
    detection, controls = target.dataset.detection, target.dataset.controls
    settings = {"min_support": detection.min_support, "second_pass": controls.second_pass}
    return {**scoring_settings(target, options), **settings}


def _make(work: Pass) -> Made:
    assert isinstance(work.options, ScoringOptions)
    least = work.target.dataset.detection.min_support
    inputs, sparse, truth, labels, _ = (work.inputs[name] for name in CONTROLS.chunk_inputs)
    best, meter = work.artifact("best_pairs"), Meter(work.device)
    concepts = labels.header(next(iter(labels))).scalars["concepts"]
    if best.concepts != tuple(concepts):
        what = f"Labels are of concepts {concepts}, best pairs of {list(best.concepts)}"
        raise MismatchError(f"{what}. Materialize the best pairs again.")
    by_rows = work.target.token_kind != "cls"  # whose one row is the example

    def read() -> Iterator[ops.control_data.ControlChunk]:
        for control_inputs, activations, chunk_labels, *positive in chunk_by_chunk(
            inputs, sparse, labels, *([truth] if by_rows else [])
        ):
            yield ops.control_data.ControlChunk(control_inputs, activations, chunk_labels, *(positive or [None]))

    with meter.step(READING):
        data = ops.control_data.collect(read(), work.device, pooling_of(work.target, work.options))
    unit = ops.unit_detectors.given_units(data.examples, best.unit_ids, best.thresholds)
    if ops.controls.counts_on_test(data.examples, unit).tolist() != best.counts[1].tolist():
        raise MismatchError("The best pairs find other test examples than they did. Materialize the best pairs again.")
    with meter.step(UNIT):  # what it takes to find a unit among all; the best pair itself was chosen earlier
        ops.unit_detectors.searched_units(data.examples, min_support=least)
    with meter.step("random_sae"):
        random = ops.controls.random_units(data, least, best.by_rows)
    fitted = {}
    for name, fit in ops.controls.FITTED.items():
        with meter.step(name):
            if name == LARGEST:
                data = replace(data, largest=_largest(work, data))
                if data.largest is None:
                    continue
            fitted[name] = fit(data, least)
    rows = None
    if data.rows is not None:
        of_rows = {}
        with meter.step(f"rows: {UNIT}"):
            row_unit = ops.unit_detectors.searched_units(data.rows, min_support=least)
        with meter.step("rows: random_sae"):
            row_random = ops.controls.random_row_units(data, least)
        for name, fit_rows in ops.controls.ROW_FITTED.items():
            with meter.step(f"rows: {name}"):
                of_rows[name] = fit_rows(data, least)
        unlocated = ops.row_alignment.count_unlocated((labels[key].artifact for key in labels), WEAK)
        rows = ops.controls.RowDetectors(row_unit, of_rows, unlocated.sum(0) == 0, row_random)
    with meter.step("comparing"):
        artifact = ops.controls.compare(best.concepts, data, unit, random, fitted, rows)
    read_bytes = {UNIT: unit.n_bytes, "random_sae": sum(each.n_bytes for each in random)}
    read_bytes |= {name: detector.n_bytes for name, detector in fitted.items()}
    if rows is not None:
        read_bytes |= {f"rows: {UNIT}": rows.unit.n_bytes, "rows: random_sae": sum(each.n_bytes for each in row_random)}
        read_bytes |= {f"rows: {name}": detector.n_bytes for name, detector in rows.fitted.items()}
    measured = {**meter.figures, **{f"bytes[{name}]": float(value) for name, value in read_bytes.items()}}
    return CONTROLS.only(work, Result(artifact, plot=lambda: plot_controls(artifact), measured=measured))


def _largest(work: Pass, data: "ControlData") -> "LargestScores | None":
    """Return the largest scores of rows in the directions of DiffMean, which the labels of all chunks decide.

    The directions follow from what is stored. Rows are not, so those of cal and test go through the model once more,
    where examples have more than one; None where the catalog does not want that.

    Raises:
        MismatchError: rows are others than those that were encoded; DatasetError: contents changed since.
    """
    target, items = work.target, data.examples
    directions = ops.detectors.row_mean_difference(items, data.n_rows)
    if not is_pooled(target.dataset, target.model, target.token_kind) and int(data.n_rows.max()) <= 1:
        scores = ops.detectors.projected(items.embeddings, directions)
        return ops.items.LargestScores(scores, 4 * items.embeddings.numel())
    assert target.dataset.controls is not None
    if not target.dataset.controls.second_pass:
        return None
    inputs, examples = work.inputs["control_inputs"], work.inputs["examples"]
    reader, asked = work.sources.reader(target.dataset), items.chooses | items.tests
    from_files = target.token_kind in precomputed_kinds(target.dataset, target.model)
    scores = directions.new_full((len(asked), directions.shape[1]), float("nan"))
    first, n_rows = 0, 0
    for key in examples:
        chunk = examples[key].artifact
        if not from_files:
            expect_contents(chunk, key, reader)
        ids = chunk.example_ids
        places = (asked[first : first + len(ids)].nonzero().flatten() + first).tolist()
        made_with = inputs.header(key).provenance.config
        scores[places], count = largest_scores(
            [ids[index - first] for index in places],
            items.embeddings[places],
            directions,
            target.token_kind,
            dataset=target.dataset,
            model=target.model,
            reader=reader,
            device=work.device,
            precision=made_with["precision"],
            forward_batch=made_with["forward_batch"],
        )
        first, n_rows = first + len(ids), n_rows + count
        work.log(f"rows of {len(places)} examples of chunk {key} scored")
    return ops.items.LargestScores(scores, 4 * n_rows * len(directions))


def beaten(artifact: Any) -> dict[str, list[tuple[str, float]]]:
    """Return by concept the controls of examples that detect it better than its unit, with an interval that excludes
    0."""
    worse: dict[str, list[tuple[str, float]]] = {}
    for (level, control), figures in zip(artifact.comparisons, artifact.differences.tolist(), strict=True):
        if level == LEVELS[0]:
            for concept, (difference, _, high) in zip(artifact.concepts, figures, strict=True):
                if high < 0:
                    worse.setdefault(concept, []).append((control, difference))
    return worse


def verdict(artifact: Any, level: str = LEVELS[0]) -> str:
    """Return who wins on test examples or rows, by the weighted mean of F1 over concepts, in one sentence."""
    names = NAMES | (OF_MEANS if level == LEVELS[0] else OF_ROWS)
    groups: dict[str, list[str]] = {"beat": [], "are beaten by": [], "cannot be told from": []}
    for (of, control), (unit, other, low, high) in zip(artifact.comparisons, artifact.weighted.tolist(), strict=True):
        if of == level and low == low and high == high:
            how = "beat" if low > 0 else "are beaten by" if high < 0 else "cannot be told from"
            groups[how].append(f"{names[control]} ({unit:.3f} to {other:.3f})")
    parts = [f"{how} {', '.join(named)}" for how, named in groups.items() if named]
    if not parts:
        return f"On {level}, nothing could be compared."
    return f"On {level}, by weighted test F1, the SAE's units {'; '.join(parts)}."


def _better_than_controls(artifact: Any, _expected: Expected) -> Outcome:
    """A difference is large enough to name where its 95 % interval excludes 0."""
    worse = beaten(artifact)
    shown: dict[str, Any] = {"concepts": len(artifact.concepts), "beaten": len(worse)}
    if not worse:
        return Outcome(True, shown)
    named = [
        f"{concept} ({', '.join(f'{control} by {-difference:.3g}' for control, difference in controls)})"
        for concept, controls in list(worse.items())[:MOST_NAMED]
    ]
    return Outcome(False, {**shown, "names": "; ".join(named)})


def _counts(artifact: Any) -> dict[str, Any]:
    figures: dict[str, Any] = {"verdict": verdict(artifact)}
    if artifact.row_figures:
        figures["row_verdict"] = verdict(artifact, LEVELS[1])
    names = ("fitted", "chosen", "tested")
    for level, numbers in zip(LEVELS, artifact.n_items.tolist(), strict=True):
        figures |= {f"{level}_{name}": number for name, number in zip(names, numbers, strict=True)}
    figures["fitted_on"] = "half of cal, chosen on the other half" if artifact.fitted_on_cal else "train"
    for (level, control), (unit, other, _, _) in zip(artifact.comparisons, artifact.weighted.tolist(), strict=True):
        prefix = "row_" if level == LEVELS[1] else ""
        figures.setdefault(f"weighted_{prefix}f1[{UNIT}]", unit)
        figures[f"weighted_{prefix}f1[{control}]"] = other
    return {name: value for name, value in figures.items() if value == value}  # one that does not exist is not shown


def _effort(target: Target, records: Sequence[Record]) -> float:
    """Fits are of every concept that can have a threshold; the rest takes as long as ``BESIDE`` of them.

    Of each chunk as many rows are drawn, and what is done whatever there is takes as long as ``MORE_CHUNKS`` of them.
    """
    share = 1 + MORE_CHUNKS * target.dataset.chunk_size / max(1, len(records))
    return (BESIDE + found_concepts(target.dataset, records)) * share


CONTROLS = Stage(
    name="controls",
    level="model",
    description="The unit of each concept beside random SAEs, DiffMean, logistic regressions and k-sparse probes.",
    make=_make,
    code_version="9",
    chunk_inputs=("control_inputs", "sparse_activations", "ground_truth", "labels", "examples"),
    model_inputs=("best_pairs",),
    settings=_settings,
    options=ScoringOptions,
    effort=_effort,
    splits=("train", "cal", "test"),
    applies=lambda dataset: dataset.controls is not None,
    of_encoded=True,
    pool="gpu",
    checks=(
        Check(
            "better_than_controls",
            "No control detects a concept better than its unit does, by a paired interval that excludes 0.",
            _better_than_controls,
            blocking=False,
        ),
    ),
    counts=_counts,
    glance=glances.glance_at_controls,
)
