"""Runs of one data set beside each other: models, layers, SAEs, token kinds, on the test examples that both have."""

from collections.abc import Iterator, Sequence
from typing import Any

from sae_assets import ops
from sae_assets.artifacts import Labels
from sae_assets.catalog import match_name
from sae_assets.commands.plain import plain
from sae_assets.commands.session import Session
from sae_assets.errors import CatalogError
from sae_assets.pages.figures import figure
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address

LEVELS = ("examples", "rows")
NOTE = (
    "F1 on test of each concept's unit, and how far it is above that of the first run, with a paired 95 % interval; "
    "a difference whose interval excludes 0 is marked *. Intervals are of one comparison each, however many there are."
)


def compare(session: Session, names: Sequence[str]) -> dict[str, Any]:
    """The runs of these names; each later one is compared with the first.

    Args:
        names: ``dataset/token_kind/model``; or one data set, which stands for all its runs that were made.

    Raises:
        CatalogError: unknown names, runs of several data sets, or fewer than two runs.
    """
    runs = list(dict.fromkeys(run for name in names for run in _runs(session, name)))
    datasets = {run.dataset for run in runs}
    if len(datasets) > 1:
        raise CatalogError(f"Runs are of data sets {', '.join(sorted(datasets))}; those of one are compared.")
    if len(runs) < 2:
        named = ", ".join(f"{run.dataset}/{run.token_kind}/{run.model}" for run in runs) or "no run that was made"
        raise CatalogError(f"Found {named}, expected at least two runs: dataset/token_kind/model, once each.")
    counts = {run: _counts(session, run) for run in runs}
    units = {run: session.store.read(run).artifact.unit_ids.tolist() for run in runs}
    concepts = session.store.read(runs[0]).artifact.concepts
    figures: dict[str, Any] = {"dataset": runs[0].dataset, "runs": [label_of(run) for run in runs], "levels": {}}
    for level in LEVELS:
        compared = {run: ops.comparison.compare_runs(counts[run], counts[runs[0]], by_rows=level == "rows")
                    for run in runs[1:]}  # fmt: skip
        if level == "rows" and not any(bool((each.f1 == each.f1).any()) for each in compared.values()):
            continue  # nothing is located
        lines = []
        for number, concept in enumerate([*concepts, None]):
            first = next(iter(compared.values()))
            of_runs: list[dict[str, Any]] = [{"f1": float(first.other_f1[number]), "difference": None}]
            for each in compared.values():
                of_runs.append({"f1": float(each.f1[number]), "difference": each.differences[number].tolist()})
            for run, figures_of_run in zip(runs, of_runs, strict=True):
                chosen = units[run][number] if concept is not None else -1
                figures_of_run["unit_id"] = chosen if chosen >= 0 else None
            lines.append({"concept": concept, "runs": of_runs})
        verdicts = [_verdict(label_of(run), label_of(runs[0]), lines, index) for index, run in enumerate(runs[1:], 1)]
        n_examples = min(each.n_examples for each in compared.values())
        figures["levels"][level] = {"n_examples": n_examples, "lines": lines, "verdicts": verdicts}
    comparison: dict[str, Any] = plain(figures)
    return comparison


def others_of(session: Session, address: Address) -> list[str]:
    """Names of the other runs of a data set that can be compared with this one."""
    labels = [label_of(run) for run in _runs(session, address.dataset)]
    return [label for label in labels if label != label_of(address)]


def label_of(run: Address) -> str:
    """A run's name: data set, token kind and model of any of its artifacts."""
    return f"{run.dataset}/{run.token_kind}/{run.model}"


def _runs(session: Session, name: str) -> list[Address]:
    """Addresses of the best pairs that a name stands for."""
    dataset, *rest = name.split("/")
    entry = session.catalog.datasets[match_name(dataset, session.catalog.datasets, "data set")]
    if not rest:
        every = [STAGES["best_pairs"].address(entry.name, kind, model)
                 for model in entry.models for kind in entry.token_kinds]  # fmt: skip
        return [run for run in every if session.store.find(run) is not None]
    if len(rest) != 2:
        raise CatalogError(f"Run {name!r}: expected dataset/token_kind/model, such as clevr_mini/patch/clip-mini.")
    kind = match_name(rest[0], entry.token_kinds, f"token kind of {entry.name}")
    return [STAGES["best_pairs"].address(entry.name, kind, match_name(rest[1], entry.models, "model"))]


def _counts(session: Session, run: Address) -> "ops.comparison.TestCounts":
    """Return what the pairs of a run make of test examples, as the files say it now."""
    store, stored = session.store, session.store.read(run)
    best, config = stored.artifact, stored.provenance.config
    chosen = store.read(STAGES["chosen_pairs"].beside(run)).artifact
    alignment = store.read(STAGES["row_alignment"].beside(run)).artifact

    def chunks() -> "Iterator[tuple[ops.row_chunks.RowChunk, Labels]]":
        for key in session.chunks_of(run.dataset):
            parts = [STAGES[name].beside(run, key) for name in ("sparse_activations", "ground_truth", "labels")]
            if all(store.find(part) is not None for part in parts):
                activations, truth, labels = (store.read(part).artifact for part in parts)
                yield ops.row_chunks.RowChunk(activations, truth, labels.splits), labels

    located = alignment.judged if run.token_kind != "cls" else alignment.judged & False
    return ops.comparison.count_on_test(
        chunks(),
        units=best.unit_ids,
        thresholds=best.thresholds,
        row_thresholds=chosen.row_thresholds,
        located=located,
        pooling=ops.pooling.Pooling(config["pooling"], config.get("pooling_k", 1)),
    )


def _verdict(run: str, first: str, lines: Sequence[dict[str, Any]], index: int) -> str:
    """Return how a run does beside the first, in one sentence."""
    of_concepts = [line["runs"][index]["difference"] for line in lines if line["concept"] is not None]
    told = [each for each in of_concepts if each[0] == each[0]]
    better, worse = sum(low > 0 for _, low, _ in told), sum(high < 0 for _, _, high in told)
    estimate, low, high = lines[-1]["runs"][index]["difference"]
    how = "is above" if low > 0 else "is below" if high < 0 else "cannot be told from"
    weighted, least, most = (figure(value, signed=True) for value in (estimate, low, high))
    return (
        f"{run} {how} {first} by weighted F1 ({weighted}, 95 % {least} to {most}): better for {better} of "
        f"{len(told)} concepts, worse for {worse}, not to be told for {len(told) - better - worse}."
    )
