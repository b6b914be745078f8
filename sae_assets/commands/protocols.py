"""Figures of other repositories on stored rows: what each protocol reads and needs, and its numbers as plain values.

Formulas stand in ``ops.protocols``. Nothing is stored, and everything is read sparse, chunk by chunk.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import match_name
from sae_assets.commands.plain import plain
from sae_assets.commands.requests import token_kinds_among
from sae_assets.commands.session import Session
from sae_assets.datasets.reader import WEAK
from sae_assets.errors import CatalogError, DatasetError
from sae_assets.pipeline.stages import STAGES
from sae_assets.rows.images import open_geometry

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.artifacts import Labels
    from sae_assets.ops.example_scores import LabelledChunk
    from sae_assets.ops.row_chunks import RowChunk


@dataclass(frozen=True)
class _Rows:
    """The stored rows of a data set under a model; gone through as often as asked, one chunk at a time."""

    session: Session
    dataset: str
    kind: str
    model: str
    pooling: str | None

    def artifact(self, stage: str, chunk: str | None = None) -> Any:
        """Raises: NotMaterializedError, with the command that makes it."""
        address = STAGES[stage].address(self.dataset, self.kind, self.model, chunk)
        return self.session.store.read(address).artifact

    @cached_property
    def chunks(self) -> list[str]:
        """Raises: DatasetError: none is registered."""
        chunks = self.session.chunks_of(self.dataset)
        if not chunks:
            raise DatasetError(f"{self.dataset} has no chunks. Run: sae-assets materialize -d {self.dataset}")
        return chunks

    @cached_property
    def labels(self) -> "dict[str, Labels]":
        return {chunk: self.artifact("labels", chunk) for chunk in self.chunks}

    @cached_property
    def concepts(self) -> tuple[str, ...]:
        return next(iter(self.labels.values())).concepts

    @cached_property
    def n_units(self) -> int:
        return int(self.artifact("sparse_activations", self.chunks[0]).n_units)

    def __iter__(self) -> "Iterator[RowChunk]":
        for chunk in self.chunks:
            activations, truth = (self.artifact(stage, chunk) for stage in ("sparse_activations", "ground_truth"))
            yield ops.row_chunks.RowChunk(activations, truth, self.labels[chunk].splits)

    def labelled(self) -> "Iterator[LabelledChunk]":
        for chunk in self.chunks:
            labels = self.labels[chunk]
            activations = self.artifact("sparse_activations", chunk)
            yield ops.example_scores.LabelledChunk(activations, labels.splits, labels.labels)

    def expect_splits(self, protocol: str, *splits: str) -> None:
        """Raises: DatasetError: a split that the protocol needs has no example."""
        counts = {split: sum(labels.splits.count(split) for labels in self.labels.values()) for split in splits}
        if not all(counts.values()):
            totals = ", ".join(f"{split} {count}" for split, count in counts.items())
            raise DatasetError(
                f"Protocol {protocol} needs examples of {' and '.join(splits)}; {self.dataset} has {totals}. "
                "Give examples that split in the data set, or take another protocol."
            )

    @cached_property
    def located(self) -> "Tensor":
        """Return which concepts are located, bool [n_concepts]; none where rows are whole examples."""
        import torch

        located = torch.full((len(self.concepts),), self.kind != "cls", dtype=torch.bool, device="cpu")
        for labels in self.labels.values():
            for text in labels.region_hashes:
                regions = json.loads(text)
                for number, name in enumerate(self.concepts):
                    located[number] &= regions.get(name) != WEAK
        return located

    def expect_location(self, protocol: str) -> "Tensor":
        """Return which concepts are located. Raises: DatasetError: none is."""
        if not bool(self.located.any()):
            raise DatasetError(
                f"Protocol {protocol} compares rows with where concepts are, and {self.dataset}/{self.kind} locates "
                "none of its concepts (no masks or spans, or one row per example). Take sae-probes or superactivators."
            )
        return self.located

    @property
    def of_rows(self) -> dict[str, Any]:
        """Return arguments that every protocol over rows takes."""
        budget = self.session.resources["compute"].memory_budget
        return {"concepts": self.concepts, "n_units": self.n_units, "memory_budget": budget}


def report(
    session: Session, protocol: str, dataset: str, model: str, token_kind: str | None, pooling: str | None = None
) -> dict[str, Any]:
    """Return figures of one protocol as plain values: of the data set, and of each concept.

    Args:
        pooling: of sae-probes, instead of its own.

    Raises:
        CatalogError: an unknown name; DatasetError: the data set lacks what the protocol needs; NotMaterializedError:
            rows that are not stored.
    """
    protocol = match_name(protocol, PROTOCOLS, "protocol")
    dataset = match_name(dataset, session.catalog.datasets, "data set")
    model = match_name(model, session.catalog.models, "model")
    if model not in session.catalog.datasets[dataset].models:
        raise CatalogError(f"Data set {dataset!r} does not use model {model!r} (`models` in the catalog).")
    if pooling is not None and protocol != "sae-probes":
        raise CatalogError(f"--pooling: protocol {protocol} does not pool rows; leave it out.")
    kind = token_kinds_among(session.catalog, dataset, [token_kind] if token_kind else ())[0]
    figures, concepts = PROTOCOLS[protocol](_Rows(session, dataset, kind, model, pooling))
    of = {"protocol": protocol, "dataset": dataset, "token_kind": kind, "model": model}
    return plain({**of, "figures": figures, "concepts": concepts})


POOLINGS = ("max", "mean", "last")

Figures = tuple[dict[str, Any], dict[str, dict[str, Any]]]


def _netdissect(rows: _Rows) -> Figures:
    located = rows.expect_location("netdissect")
    got = ops.protocols.netdissect.dissect(rows, located=located, **rows.of_rows)
    of_unit = got.concept_of_unit
    detectors = of_unit[of_unit >= 0]
    iou, unit = got.iou.max(0)
    concepts = {
        name: {
            "unit_id": int(unit[number]),
            "iou": float(iou[number]),
            "threshold": float(got.thresholds[unit[number]]),
            "detectors": int((of_unit == number).sum()),
            "rows": int(got.n_positive[number]),
        }
        for number, name in enumerate(rows.concepts)
        if bool(located[number])
    }
    figures = {
        "splits": "all rows of all splits",
        "units": len(of_unit),
        "detectors": len(detectors),
        "unique_detectors": len(detectors.unique()),
    }
    return figures, concepts


def _interplm(rows: _Rows) -> Figures:
    rows.expect_splits("interplm", "train", "cal", "test")
    located = rows.expect_location("interplm")
    width = None
    if rows.kind == "patch":
        transformer = rows.session.catalog.models[rows.model].transformer
        assert transformer is not None  # without one, no mask would have become patches
        width = open_geometry(transformer).grid[1]
    got = ops.protocols.interplm.score_regions(rows, located=located, width=width, **rows.of_rows)
    concepts = {}
    for number, (name, unit) in enumerate(zip(rows.concepts, got.best_units.tolist(), strict=True)):
        if unit >= 0:
            concepts[name] = {
                "unit_id": unit,
                "threshold_share": float(got.shares[unit, number]),
                "cal_f1": float(got.f1[0, unit, number]),
                "test_f1": float(got.f1[1, unit, number]),
                "test_f1_at_cal_threshold": float(got.carried_f1[unit, number]),
                "regions": int(got.n_regions[1, number]),
            }
    reached = [each["test_f1"] for each in concepts.values() if each["test_f1"] == each["test_f1"]]
    figures = {
        "splits": "maxima on train, units chosen on cal, reported on test with the threshold that is best there",
        "mean_best_f1": sum(reached) / len(reached) if reached else None,
        "pairs": int(got.pairs.sum()),
        "concepts_identified": int(got.pairs.any(0).sum()),
        "units_identified": int(got.pairs.any(1).sum()),
    }
    return figures, concepts


def _saev(rows: _Rows) -> Figures:
    rows.expect_splits("saev", "train", "test")
    located = rows.expect_location("saev")
    got = ops.protocols.saev.probe_rows(rows, located=located, **rows.of_rows)
    concepts = {
        name: {
            "unit_id": int(got.unit_ids[number]),
            "weight": float(got.weights[number]),
            "train_loss": float(got.losses[0, number]),
            "test_loss": float(got.losses[1, number]),
            "ap": float(got.average_precision[number]),
            "f1": float(got.f1[number]),
            "purity_16": float(got.purity[number]),
        }
        for number, name in enumerate(rows.concepts)
        if int(got.unit_ids[number]) >= 0
    }
    figures = {
        "splits": "units and probes chosen on train, reported on test",
        "map": float(got.average_precision.nanmean()),
        "purity_16": float(got.purity.nanmean()),
        "coverage_0.3": got.coverage,
        "train_probe_r": float(got.probe_r[0]),
        "test_probe_r": float(got.probe_r[1]),
        "mean_f1": float(got.f1.nanmean()),
    }
    return figures, concepts


def _sae_probes(rows: _Rows) -> Figures:
    rows.expect_splits("sae-probes", "train", "test")
    own = "last" if rows.kind == "token" else "max"
    name = match_name(rows.pooling or own, POOLINGS, "pooling")
    pooling = ops.pooling.Pooling(name)
    got = ops.protocols.sae_probes.probe_examples(rows.labelled(), n_units=rows.n_units, pooling=pooling)
    concepts = {
        concept: {
            "first_unit_id": int(got.units[number][0]),
            **{f"auc_{k}": float(got.auc[number, column]) for column, k in enumerate(got.ks)},
        }
        for number, concept in enumerate(rows.concepts)
    }
    figures = {
        "splits": "ranked, tuned and fitted on train, reported on test",
        "pooling": name,
        **{f"mean_auc_{k}": float(got.auc[:, column].nanmean()) for column, k in enumerate(got.ks)},
    }
    return figures, concepts


def _superactivators(rows: _Rows) -> Figures:
    stats, thresholds = rows.artifact("detection_stats"), rows.artifact("thresholds")
    got = ops.protocols.superactivators.choose_on_test(stats, thresholds)
    concepts = {
        name: {
            "unit_id": int(got.unit_ids[number]),
            "tail_fraction": float(got.tail_fractions[number]),
            "threshold": float(got.thresholds[number]),
            "test_f1": float(got.f1[number]),
        }
        for number, name in enumerate(stats.concepts)
        if int(got.unit_ids[number]) >= 0
    }
    if bool(rows.located.any()):
        places = ops.localization.localize(
            rows,
            unit_ids=got.unit_ids,
            thresholds=got.thresholds,
            located=rows.located,
            tail_fractions=stats.tail_fractions,
            **rows.of_rows,
        )
        for rate in ("f1", "iou"):
            _, regular, two_stage = places.rate(rate)[:, 1]
            for number, name in enumerate(rows.concepts):
                if name in concepts:
                    concepts[name] |= {
                        f"regular_row_{rate}": float(regular[number]),
                        f"two_stage_row_{rate}": float(two_stage[number]),
                    }
    splits = "thresholds on cal, unit and tail fraction CHOSEN ON TEST"
    return {"splits": splits, "weighted_test_f1": got.weighted_f1}, concepts


PROTOCOLS: Mapping[str, Callable[[_Rows], Figures]] = {
    "netdissect": _netdissect,
    "interplm": _interplm,
    "saev": _saev,
    "sae-probes": _sae_probes,
    "superactivators": _superactivators,
}
