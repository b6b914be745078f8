"""Results of one data set beside each other: models, layers, SAEs, token kinds, on the test examples that both have."""

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
    "F1 on test of each concept's unit, and how far it is above that of the first, with a paired 95 % interval; "
    "a difference whose interval excludes 0 is marked *. Intervals are of one comparison each, however many there are."
)


def compare(session: Session, names: Sequence[str]) -> dict[str, Any]:
    """Return the results of these names; all later ones are compared with the first.

    Args:
        names: ``dataset/token_kind/model``; or one data set, which stands for all its results.

    Raises:
        CatalogError: unknown names, results of several data sets, or fewer than two of them.
    """
    addresses = list(dict.fromkeys(address for name in names for address in _addresses(session, name)))
    datasets = {address.dataset for address in addresses}
    if len(datasets) > 1:
        raise CatalogError(f"Results are of data sets {', '.join(sorted(datasets))}; those of one are compared.")
    if len(addresses) < 2:
        named = f"one result, {label_of(addresses[0])}" if addresses else "no results"
        raise CatalogError(f"Found {named}. Comparing takes two or more, each named once: dataset/token_kind/model.")
    counts = {address: _counts(session, address) for address in addresses}
    units = {address: session.store.read(address).artifact.unit_ids.tolist() for address in addresses}
    concepts = session.store.read(addresses[0]).artifact.concepts
    labels = [label_of(address) for address in addresses]
    figures: dict[str, Any] = {"dataset": addresses[0].dataset, "results": labels, "levels": {}}
    for level in LEVELS:
        first = counts[addresses[0]]
        compared = [ops.comparison.compare_counts(counts[address], first, by_rows=level == "rows")
                    for address in addresses[1:]]  # fmt: skip
        if level == "rows" and not any(bool((each.f1 == each.f1).any()) for each in compared):
            continue  # nothing is located
        lines = []
        for number, concept in enumerate([*concepts, None]):
            figures_of: list[dict[str, Any]] = [{"f1": float(compared[0].other_f1[number]), "difference": None}]
            for each in compared:
                figures_of.append({"f1": float(each.f1[number]), "difference": each.differences[number].tolist()})
            for address, each_of in zip(addresses, figures_of, strict=True):
                chosen = units[address][number] if concept is not None else -1
                each_of["unit_id"] = chosen if chosen >= 0 else None
            lines.append({"concept": concept, "results": figures_of})
        verdicts = [_verdict(label, labels[0], lines, index) for index, label in enumerate(labels[1:], 1)]
        n_examples = min(each.n_examples for each in compared)
        figures["levels"][level] = {"n_examples": n_examples, "lines": lines, "verdicts": verdicts}
    comparison: dict[str, Any] = plain(figures)
    return comparison


def others_of(session: Session, address: Address) -> list[str]:
    """Return names of the other results of a data set, which can be compared with these."""
    labels = [label_of(each) for each in _addresses(session, address.dataset)]
    return [label for label in labels if label != label_of(address)]


def label_of(address: Address) -> str:
    """Return the name of results: data set, token kind and model of any of their artifacts."""
    return f"{address.dataset}/{address.token_kind}/{address.model}"


def _addresses(session: Session, name: str) -> list[Address]:
    """Return addresses of the best pairs that a name stands for."""
    dataset, *rest = name.split("/")
    entry = session.catalog.datasets[match_name(dataset, session.catalog.datasets, "data set")]
    if not rest:
        every = [STAGES["best_pairs"].address(entry.name, kind, model)
                 for model in entry.models for kind in entry.token_kinds]  # fmt: skip
        return [address for address in every if session.store.find(address) is not None]
    if len(rest) != 2:
        raise CatalogError(f"Results {name!r}: expected dataset/token_kind/model, such as clevr_mini/patch/clip-mini.")
    kind = match_name(rest[0], entry.token_kinds, f"token kind of {entry.name}")
    return [STAGES["best_pairs"].address(entry.name, kind, match_name(rest[1], entry.models, "model"))]


def _counts(session: Session, address: Address) -> "ops.comparison.TestCounts":
    """Return what best pairs make of test examples, as the files say it now."""
    store, stored = session.store, session.store.read(address)
    best, config = stored.artifact, stored.provenance.config
    chosen = store.read(STAGES["chosen_pairs"].beside(address)).artifact
    alignment = store.read(STAGES["row_alignment"].beside(address)).artifact

    def chunks() -> "Iterator[tuple[ops.row_chunks.RowChunk, Labels]]":
        for key in session.chunks_of(address.dataset):
            parts = [STAGES[name].beside(address, key) for name in ("sparse_activations", "ground_truth", "labels")]
            if all(store.find(part) is not None for part in parts):
                activations, truth, labels = (store.read(part).artifact for part in parts)
                yield ops.row_chunks.RowChunk(activations, truth, labels.splits), labels

    located = alignment.judged if address.token_kind != "cls" else alignment.judged & False
    return ops.comparison.count_on_test(
        chunks(),
        units=best.unit_ids,
        thresholds=best.thresholds,
        row_thresholds=chosen.row_thresholds,
        located=located,
        pooling=ops.pooling.Pooling(config["pooling"], config.get("pooling_k", 1)),
    )


def _verdict(label: str, first: str, lines: Sequence[dict[str, Any]], index: int) -> str:
    """Return how results do beside the first, in one sentence."""
    of_concepts = [line["results"][index]["difference"] for line in lines if line["concept"] is not None]
    told = [each for each in of_concepts if each[0] == each[0]]
    better, worse = sum(low > 0 for _, low, _ in told), sum(high < 0 for _, _, high in told)
    estimate, low, high = lines[-1]["results"][index]["difference"]
    how = "is above" if low > 0 else "is below" if high < 0 else "cannot be told from"
    weighted, least, most = (figure(value, signed=True) for value in (estimate, low, high))
    return (
        f"{label} {how} {first} by weighted F1 ({weighted}, 95 % {least} to {most}): better for {better} of "
        f"{len(told)} concepts, worse for {worse}, not to be told for {len(told) - better - worse}."
    )
