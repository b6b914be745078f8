"""Older public scripts for this workflow compute otherwise: each behaviour alone, in figures of the packaged data.

The pipeline's files (activations, ground truth, examples) are read; everything after them is done here once more in
NumPy, as ``docs/numerics.md`` defines it and then with one change. The unchanged figures must be those that are stored.

    python benchmarks/bench_differences.py [--home DIR]   # DIR: homes made before, by an earlier call
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from sae_assets.catalog import load_catalog
from sae_assets.cli import app
from sae_assets.ops.thresholds import TAIL_FRACTIONS
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore

SETS = {"clevr_mini": ("patch", "clip-mini"), "moods_mini": ("token", "gemma-mini")}


@dataclass
class Data:
    """Entries of all rows (row, unit, value), truth [rows, concepts], labels [examples, concepts], splits."""

    name: str
    row: np.ndarray
    unit: np.ndarray
    value: np.ndarray
    chunk_of_row: np.ndarray
    example_of_row: np.ndarray
    truth: np.ndarray
    labels: np.ndarray
    split: np.ndarray
    n_units: int
    stored: Any
    store: ArtifactStore = field(repr=False)


@dataclass
class Evaluation:
    """Kept units, per concept (unit, fraction) or None, its test F1, and the weighted figure."""

    kept_units: np.ndarray
    pairs: list[tuple[int, float] | None]
    f1: np.ndarray
    weighted: float


def load(home: Path, dataset: str) -> Data:
    kind, model = SETS[dataset]
    store = ArtifactStore(str(home / "store"))
    keys = sorted(path.stem for path in (home / "store" / dataset / "labels").iterdir())

    def read(stage: str) -> list:
        return [store.read(Address(dataset, stage, kind, model, key)).artifact for key in keys]

    labels = [store.read(Address(dataset, "labels", chunk=key)).artifact for key in keys]
    sparse, truth = read("sparse_activations"), read("ground_truth")
    first = np.cumsum([0, *(chunk.n_rows for chunk in sparse)])
    dense = np.zeros((first[-1], len(truth[0].concepts)), bool)
    for start, chunk in zip(first, truth, strict=False):
        dense[start + chunk.row_of_positive().numpy(), chunk.concept_ids.numpy()] = True
    return Data(
        name=dataset,
        row=np.concatenate([start + chunk.row_of_entry().numpy() for start, chunk in zip(first, sparse, strict=False)]),
        unit=np.concatenate([chunk.unit_ids.numpy() for chunk in sparse]),
        value=np.concatenate([chunk.values.numpy() for chunk in sparse]).astype(np.float64),
        chunk_of_row=np.repeat(np.arange(len(sparse)), np.diff(first)),
        example_of_row=np.concatenate([chunk.first_example + chunk.example_of_row().numpy() for chunk in sparse]),
        truth=dense,
        labels=np.concatenate([chunk.labels.numpy() for chunk in labels]),
        split=np.array([split for chunk in labels for split in chunk.splits]),
        n_units=sparse[0].n_units,
        stored=store.read(Address(dataset, "best_pairs", kind, model)).artifact,
        store=store,
    )


def keep_units(data: Data, cal_rows: np.ndarray, *, top: int | None, strength: bool) -> np.ndarray:
    """Adaptive pruning; ``top``: p99 of that many largest values only."""
    image = data.name == "clevr_mini"
    inside = cal_rows[data.row]
    order = np.lexsort((data.value[inside], data.unit[inside]))
    unit, value = data.unit[inside][order], data.value[inside][order]
    runs = np.split(value, np.searchsorted(unit, np.arange(1, data.n_units)))
    active = np.array([len(run) for run in runs])
    p99 = np.array([np.quantile(run[-top:] if top else run, 0.99) if len(run) else np.nan for run in runs])
    per_concept = data.truth[cal_rows].sum(0)
    present = per_concept[per_concept > 0]
    low = int(0.75 * present.min()) if image else max(10, int(0.01 * present.min()))
    n = len(per_concept)
    units = np.flatnonzero((active > 0) & (active >= low) & (active <= 1.25 * present.max()))
    percentile = 50 if n == 1 else 60 if n < 10 else 70 if n < 30 else 80
    return units[p99[units] >= np.quantile(p99[units], percentile / 100)] if strength else units


def quantiles(values: np.ndarray) -> np.ndarray:
    values = values[values > 0]
    return np.quantile(values, 1 - np.array(TAIL_FRACTIONS)) if len(values) else np.full(len(TAIL_FRACTIONS), np.nan)


def evaluate(
    data: Data, *, cal: np.ndarray | None = None, top: int | None = None, strength: bool = True, blocks: bool = False,
    zero: bool = False, choose: str = "cal", truth: np.ndarray | None = None, rows: np.ndarray | None = None,
) -> Evaluation:  # fmt: skip
    """Pruning, thresholds, detection and choice; every argument is one older behaviour."""
    cal = data.split == "cal" if cal is None else cal
    test = data.split == "test"
    if truth is not None or rows is not None:
        changes = {"truth": data.truth if truth is None else truth}
        changes["example_of_row"] = data.example_of_row if rows is None else rows
        data = Data(**{**vars(data), **changes})
    cal_rows = cal[data.example_of_row]
    units = keep_units(data, cal_rows, top=top, strength=strength)
    index = np.full(data.n_units, -1)
    index[units] = np.arange(len(units))
    inside = index[data.unit] >= 0
    a = np.zeros((len(data.truth), len(units)))
    a[data.row[inside], index[data.unit[inside]]] = data.value[inside]
    scores = np.zeros((len(data.labels), len(units)))
    np.maximum.at(scores, data.example_of_row, a)
    pairs: list[tuple[int, float] | None] = []
    figures = []
    for concept in range(data.labels.shape[1]):
        chosen = cal_rows & data.truth[:, concept]
        cuts = np.array([quantiles(a[chosen, unit]) for unit in range(len(units))])
        if blocks:
            parts = [chosen & (data.chunk_of_row == chunk) for chunk in np.unique(data.chunk_of_row)]
            each = [[np.nan_to_num(quantiles(a[part, unit])) for unit in range(len(units))] for part in parts]
            cuts = np.where(np.isnan(cuts), np.nan, np.median(each, axis=0))
        if zero:
            cuts = np.nan_to_num(cuts)
        detected = scores[:, :, None] >= cuts[None]
        positive = data.labels[:, concept]

        def f1(split: np.ndarray, detected: np.ndarray = detected, positive: np.ndarray = positive) -> tuple[Any, Any]:
            hits = detected[split & positive].sum(0)
            return 2 * hits / np.maximum(detected[split].sum(0) + positive[split].sum(), 1), hits

        rate, hits = f1(cal if choose == "cal" else test)
        valid = ~np.isnan(cuts[:, 0])
        if not valid.any():
            pairs.append(None)
            figures.append(np.nan)
            continue
        ranked = [(-rate[u, p], -hits[u, p], p, u) for u, p in np.ndindex(*rate.shape) if valid[u]]
        _, _, p, u = min(ranked)
        pairs.append((int(units[u]), TAIL_FRACTIONS[p]))
        figures.append(f1(test)[0][u, p])
    return Evaluation(units, pairs, np.array(figures), weigh(np.array(figures), data.labels[test].sum(0)))


def weigh(figures: np.ndarray, weight: np.ndarray) -> float:
    exists = ~np.isnan(figures)
    return float((figures[exists] * weight[exists]).sum() / weight[exists].sum())


def between(data: Data) -> np.ndarray:
    """Every example from the first to the last calibration example."""
    cal = np.flatnonzero(data.split == "cal")
    number = np.arange(len(data.split))
    return (number >= cal[0]) & (number <= cal[-1])


def squashed(data: Data) -> np.ndarray:
    """Truth of patches whose masks are resized to the input's size without the centre crop."""
    from sae_assets.datasets import open_dataset
    from sae_assets.ops.ground_truth import pixels_of_patches
    from sae_assets.rows.images import open_geometry

    catalog = load_catalog()
    reader = open_dataset(catalog.datasets[data.name])
    geometry = open_geometry(catalog.models["clip-mini"].transformer)
    side = geometry.patch_size * geometry.grid[0]
    truth = np.zeros_like(data.truth)
    for number, record in enumerate(reader.records):
        for concept, mask in reader.masks(record.example_id).items():
            image = mask.convert("L").resize((side, side), 0)
            inside = torch.from_numpy(np.array(image) > 127)
            rows = slice(number * geometry.n_patches, (number + 1) * geometry.n_patches)
            column = reader.concepts.index(concept)
            truth[rows, column] = (pixels_of_patches(inside, geometry.patch_size).numpy() > 0) & data.labels[
                number, column
            ]
    return truth


def overwritten(data: Data, exact: Evaluation) -> float:
    """Weighted figure of a table kept by unit, where a later concept replaces an earlier one of the same unit."""
    last = {pair[0]: concept for concept, pair in enumerate(exact.pairs) if pair is not None}
    figures = np.array([exact.f1[c] if c in last.values() else np.nan for c in range(len(exact.f1))])
    return weigh(figures, data.labels[data.split == "test"].sum(0))


def misnamed(data: Data, exact: Evaluation) -> int:
    """Concepts whose unit is read wrong where rows are renumbered by strength and the mapping file is ascending."""
    largest = [data.value[data.unit == unit].max() for unit in exact.kept_units]
    shuffled = exact.kept_units[np.argsort(largest)[::-1]]
    index = {int(unit): number for number, unit in enumerate(shuffled)}
    return sum(pair is not None and exact.kept_units[index[pair[0]]] != pair[0] for pair in exact.pairs)


def index_bytes(data: Data) -> tuple[int, int]:
    """Bytes of padded ``.pt`` indices, int64 and int32."""
    counts = np.bincount(data.row, minlength=len(data.truth))
    padded = torch.zeros(len(data.truth), int(counts.max()), dtype=torch.int64)
    sizes = []
    for tensor in (padded, padded.int()):
        buffer = io.BytesIO()
        torch.save({"indices": tensor}, buffer)
        sizes.append(len(buffer.getvalue()))
    return sizes[0], sizes[1]


def materialize(home: Path, dataset: str, **model: Any) -> Path:
    """A home with this data set's files, rows of one token kind only."""
    if not (home / "store" / dataset).exists():
        home.mkdir(parents=True, exist_ok=True)
        kind, name = SETS[dataset]
        catalog = {
            "datasets": {dataset: {"token_kinds": [kind], "controls": None}},
            "models": {name: model} if model else {},
        }
        (home / "catalog.yaml").write_text(yaml.safe_dump(catalog))
        command = ["materialize", "-d", dataset, "--home", str(home), "--catalog", str(home / "catalog.yaml")]
        command += ["--to", "best_pairs", "--selection", "tails", "--choose-by", "examples"]  # as older scripts chose
        with contextlib.redirect_stdout(io.StringIO()):
            app(command, standalone_mode=False)
    return home


def report(data: Data, exact: Evaluation, name: str, other: Evaluation | float) -> None:
    if isinstance(other, Evaluation):
        pairs = sum(one != two for one, two in zip(exact.pairs, other.pairs, strict=True))
        remark = f"{pairs} of {len(exact.pairs)} pairs, {len(set(exact.kept_units) ^ set(other.kept_units)):3} units"
        other = other.weighted
    else:
        remark = ""
    print(f"{data.name:11} {name:45} {other:7.4f} {other - exact.weighted:+8.4f}  {remark}", flush=True)


def remark(data: Data, name: str, text: str) -> None:
    print(f"{data.name:11} {name:45} {'':16}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = args.home or Path(folder)
        print(f"{'data set':11} {'older behaviour':45} {'test F1':>7} {'change':>8}  pairs and kept units that differ")
        for dataset in SETS:
            data = load(materialize(base / dataset, dataset), dataset)
            exact = evaluate(data)
            stored = data.stored
            assert abs(exact.weighted - stored.weighted(stored.rate("f1")[1])) < 1e-12
            assert [-1 if pair is None else pair[0] for pair in exact.pairs] == stored.unit_ids.tolist()
            report(data, exact, "(none: as documented)", exact)
            changes: dict[str, Callable[[], Evaluation]] = {
                "pair chosen on test": lambda d=data: evaluate(d, choose="test"),
                "cal from its first to its last row": lambda d=data: evaluate(d, cal=between(d)),
                "p99 of the 1,000 largest values": lambda d=data: evaluate(d, top=1000),
                "medians of quantiles over chunks, 0 if silent": lambda d=data: evaluate(d, blocks=True),
                "threshold 0 for silent pairs": lambda d=data: evaluate(d, zero=True),
                "strength filter without effect": lambda d=data: evaluate(d, strength=False),
            }
            if dataset == "clevr_mini":
                changes["masks squashed, images cropped"] = lambda d=data: evaluate(d, truth=squashed(d))
            else:
                last = len(data.labels) - 1
                changes["256 rows counted for every text"] = lambda d=data, n=last: evaluate(
                    d, rows=np.minimum(np.arange(len(d.truth)) // 256, n)
                )
            for name, change in changes.items():
                report(data, exact, name, change())
            if dataset == "moods_mini":
                without = load(materialize(base / "no_bos", dataset, prepend_bos=False), dataset)
                report(data, exact, "BOS left out", evaluate(without))
            report(data, exact, "table by unit: shared ones overwritten", overwritten(data, exact))
            remark(data, "renumbered unsorted, mapping file sorted", f"{misnamed(data, exact)} units misnamed")
            wide, narrow = (size / 1e6 for size in index_bytes(data))
            remark(data, "indices of 64 bits", f"{wide:.2f} MB for {narrow:.2f} MB")


if __name__ == "__main__":
    main()
