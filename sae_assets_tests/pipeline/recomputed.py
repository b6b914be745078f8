"""Every stage after encoding once more, from the written Parquet files, with pyarrow and NumPy alone.

Nothing of ``sae_assets`` is imported: this is what somebody does who has the files and ``docs/numerics.md``.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def read(folder: Path) -> list[dict]:
    """All rows of a folder's files, in the order of their names."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def dense(rows: list[dict], ids: str, width: int) -> np.ndarray:
    """float64 [rows, width] of the lists ``ids`` and ``values``."""
    matrix = np.zeros((len(rows), width))
    for place, row in enumerate(rows):
        assert len(set(row[ids])) == len(row[ids])
        matrix[place, row[ids]] = row["values"]
    return matrix


class Recomputed:
    """One model of one data set, from its labels, ground truth and sparse activations.

    Attributes:
        stats: columns by name; reasons: per unit; kept: original ids; filtered: [rows, kept].
        thresholds: [concepts + 1, kept, fractions], the last over all rows; n_positive: values behind each.
        counts: per split [4, concepts, kept, fractions], TP FP FN TN; best: per concept (kept index, fraction) or None.
    """

    def __init__(self, dataset: Path, kind: str, model: str, modality: str, target: int | None, n_units: int):
        examples = read(dataset / "labels")
        self.concepts = [name.removeprefix("label:") for name in examples[0] if name.startswith("label:")]
        self.labels = np.array([[row[f"label:{name}"] for name in self.concepts] for row in examples])
        splits = np.array([row["split"] for row in examples])
        self.inside = {split: splits == split for split in ("cal", "test")}
        assert [row["example_index"] for row in examples] == list(range(len(examples)))
        rows = read(dataset / kind / model / "sparse_activations")
        truth = read(dataset / kind / model / "ground_truth")
        place = [(row["example_index"], row["position"]) for row in rows]
        assert place == [(row["example_index"], row["position"]) for row in truth] == sorted(place)
        self.example_of_row = np.array([row["example_index"] for row in rows])
        self.truth = np.array([[name in row["concepts"] for name in self.concepts] for row in truth])
        self.activations = dense(rows, "unit_ids", n_units)
        self.cal = self.inside["cal"][self.example_of_row]
        self._statistics()
        self._mapping(modality, target)
        self.filtered = self.activations[:, self.kept]
        self._thresholds()
        self._detection()

    def _statistics(self) -> None:
        a = self.activations[self.cal]
        n, active = len(a), (a > 0).sum(0)
        self.n_rows = n
        names = ("mean", "max", "p95", "p99", "selectivity")
        self.stats = {name: np.full(a.shape[1], np.nan) for name in names}
        self.stats |= {"n_active": active, "density": active / n, "sum": a.sum(0), "sum_sq": (a**2).sum(0)}
        for unit in np.flatnonzero(active):
            positive = a[:, unit][a[:, unit] > 0]
            sparseness = (a[:, unit].sum() / n) ** 2 / ((a[:, unit] ** 2).sum() / n)
            figures = (positive.mean(), positive.max(), *np.quantile(positive, [0.95, 0.99]))
            for name, figure in zip(names, (*figures, (1 - sparseness) / (1 - 1 / n)), strict=True):
                self.stats[name][unit] = figure

    def _mapping(self, modality: str, target: int | None) -> None:
        per_concept = self.truth[self.cal].sum(0)
        present = per_concept[per_concept > 0]
        low = int(0.75 * present.min()) if modality == "image" else max(10, int(0.01 * present.min()))
        n = len(per_concept)
        percentile = 50 if n == 1 else 60 if n < 10 else 70 if n < 30 else 80
        active, p99, selectivity = (self.stats[name] for name in ("n_active", "p99", "selectivity"))
        reasons = np.where(active == 0, "dead", np.where(active < low, "rare", "kept")).astype(object)
        reasons[(reasons == "kept") & (active > 1.25 * present.max())] = "dense"
        kept = np.flatnonzero(reasons == "kept")
        reasons[kept[p99[kept] < np.quantile(p99[kept], percentile / 100)]] = "weak"
        kept = sorted(np.flatnonzero(reasons == "kept"), key=lambda unit: (-selectivity[unit], -p99[unit], unit))
        reasons[kept[len(kept) if target is None else target :]] = "over_target"
        self.reasons, self.kept = reasons, np.flatnonzero(reasons == "kept")

    def _thresholds(self) -> None:
        groups = [self.truth[:, concept] & self.cal for concept in range(len(self.concepts))] + [self.cal]
        shape = (len(groups), len(self.kept))
        self.thresholds = np.full((*shape, len(FRACTIONS)), np.nan)
        self.n_positive = np.zeros(shape, int)
        for concept, unit in np.ndindex(*shape):
            values = self.filtered[groups[concept], unit]
            values = values[values > 0]
            self.n_positive[concept, unit] = len(values)
            if len(values):
                self.thresholds[concept, unit] = np.quantile(values, 1 - np.array(FRACTIONS))

    def _detection(self) -> None:
        scores = np.zeros((len(self.labels), len(self.kept)))
        np.maximum.at(scores, self.example_of_row, self.filtered)
        detected = scores[:, None, :, None] >= self.thresholds[None, :-1]  # false where the threshold is null
        self.counts = {}
        for split, inside in self.inside.items():
            found, positive = detected[inside], self.labels[inside][:, :, None, None]
            cells = (found & positive, found & ~positive, ~found & positive, ~found & ~positive)
            self.counts[split] = np.array([cell.sum(0) for cell in cells])
        self.best = [self._best(concept) for concept in range(len(self.concepts))]

    def _best(self, concept: int) -> tuple[int, int] | None:
        tp, fp, fn, _ = self.counts["cal"][:, concept]
        pairs = [
            (-2 * tp[u, p] / (2 * tp[u, p] + fp[u, p] + fn[u, p]), -tp[u, p], p, u)
            for u, p in np.ndindex(*tp.shape)
            if self.n_positive[concept, u] and tp[u, p] + fn[u, p]
        ]
        return (min(pairs)[3], min(pairs)[2]) if pairs else None

    def f1(self, split: str) -> np.ndarray:
        """[concepts, kept, fractions]; NaN for a pair without threshold and a split without positives."""
        tp, fp, fn, _ = self.counts[split]
        exists = (self.n_positive[:-1] > 0)[..., None] & (tp + fn > 0)
        return np.where(exists, 2 * tp / np.maximum(2 * tp + fp + fn, 1), np.nan)
