"""Random SAEs given as the SAE, on the packaged data: does the interval of their difference to random SAEs hold 0?

Each of the seeds 0, 1, … plays the SAE: the unit of each concept is chosen as the pipeline chooses the SAE's, and its
F1 on test is compared with that of the ten seeds after it, whose units are chosen as those of controls are. Of
examples, and of rows. Also with all of them chosen alike: an SAE's unit is chosen on all rows of cal, that of a control
on the sampled ones, so that the first is a little better and varies less. Shown is how often 0 lies outside; fails if
that is more than .05, by 99.9 % binomial bounds of as many trials as there are seeds (those of a data set share its
examples, so they are not quite apart).

    python benchmarks/bench_random_saes.py [--seeds 100] [--only clevr_mini] [--rows-per-chunk 4096]
"""

import argparse
import sys
import time

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sae_assets import ops
from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.catalog import load_catalog
from sae_assets.catalog.detection import Controls
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_labels
from sae_assets.datasets import open_dataset
from sae_assets.ops.control_data import ControlChunk, collect
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.intervals import counts_of, difference_to_draws, weighted_f1
from sae_assets.ops.items import DetectorScores, Items, UnitScores
from sae_assets.ops.pooling import MAXIMUM, pool_rows
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.sparse_activations import Encoder
from sae_assets.ops.sparse_code import joined
from sae_assets.ops.unit_detectors import given_units, searched_units, units_by_rows
from sae_assets.rows.loaded import open_encoder
from sae_assets.rows.opening import open_sources
from sae_assets.rows.truth import row_truth

PACKAGED = (("clevr_mini", "clip-mini", "patch"), ("moods_mini", "gemma-mini", "token"))
N_SEEDS, MATCHED_ROWS = Controls().n_seeds, 4096


class World:
    """The rows of a packaged data set as its model embeds them, with their truth."""

    def __init__(self, dataset: str, model: str, kind: str, rows_per_chunk: int = Controls().rows_per_chunk):
        catalog = load_catalog()
        entry, read = catalog.datasets[dataset], catalog.models[model].named(model)
        reader = open_dataset(entry)
        self.labels = describe_labels(Manifest("0000", 0, tuple(reader.by_id)), reader)
        self.sae = open_encoder(read.sae, "cpu", 2**28).encoder
        ((_, source),) = open_sources(reader, entry, read, (kind,), "cpu", "float32")
        parts = [embedded.rows[kind] for embedded in source.embed(self.labels.example_ids)]
        lengths = [len(part) for part in parts]
        self.offsets, self.rows = offsets_of(torch.tensor(lengths)), torch.cat(parts)
        truth = row_truth(self.labels, kind, entry, read, reader)
        self.truth = ops.ground_truth.collect_truth(truth.rows, self.labels.concepts, 0)
        n_chunks = -(-len(lengths) // entry.chunk_size)
        sample = rows_per_chunk * n_chunks
        collector = ops.control_inputs.Collector([], sample, self.sae.d_model, self.sae.n_units)
        collector.add(self.labels.example_ids, parts, lengths)
        inputs = collector.result(0, self.offsets)
        data = collect([ControlChunk(inputs, self.encoded(self.sae), self.labels, self.truth)])
        assert data.rows is not None
        self.examples, self.sampled, self.sample = data.examples, data.rows, inputs.row_ids
        self.example_of_row = data.example_of_row[self.sampled.tests]

    def encoded(self, encoder: Encoder) -> SparseRows:
        codes = joined([encoder.encode(part) for part in self.rows.split(encoder.rows_at_once)])
        return SparseRows(0, self.offsets, codes.row_offsets, codes.unit_ids, codes.values, encoder.n_units)

    def random(self, seed: int) -> SparseRows:
        """The rows in the code of a random SAE."""
        encoder = ops.random_saes.random_encoder(self.sae, seed)
        if isinstance(encoder, ops.jumprelu.JumpReluEncoder):
            some = self.rows[:: max(1, len(self.rows) // MATCHED_ROWS)]
            counts = torch.bincount(self.sae.encode(some).unit_ids, minlength=encoder.n_units)
            encoder = ops.random_saes.match_density(encoder, counts, some)
        return self.encoded(encoder)

    def detected(self, rows: SparseRows) -> dict[str, Tensor]:
        """TP, FP, FN of each test example under the units chosen for the SAE and for a control."""
        concepts, splits = self.labels.concepts, self.labels.splits
        chunk, scores = RowChunk(rows, self.truth, splits), UnitScores.of(*_pooled(rows), rows.n_units)
        figures = ops.row_alignment.align_rows([chunk], concepts=concepts, n_units=rows.n_units)
        located = torch.zeros(2, len(concepts), dtype=torch.int64)
        aligned = ops.row_alignment.rank_pairs(figures, [chunk], concepts=concepts, n_unlocated=located)
        labelled = score_examples([LabelledChunk(rows, splits, self.labels.labels)], n_units=rows.n_units)
        chosen = ops.chosen_pairs.choose_exactly(labelled, aligned)
        of_rows = self._on_sample(rows)
        units = units_by_rows(self.examples, scores, self.sampled, of_rows, chosen.by_rows)
        return {
            "SAE": _counts(self.examples, given_units(self.examples, chosen.unit_ids, chosen.thresholds, scores)),
            "control": _counts(self.examples, searched_units(self.examples, scores, units=units)),
            "control, unit by examples": _counts(self.examples, searched_units(self.examples, scores)),
            "rows": _counts(self.sampled, searched_units(self.sampled, of_rows), self.example_of_row),
        }

    def _on_sample(self, rows: SparseRows) -> UnitScores:
        index = torch.full((rows.n_rows,), -1, dtype=torch.int64)
        index[self.sample] = torch.arange(len(self.sample))
        item = index[rows.row_of_entry()]
        some = item >= 0
        return UnitScores.of(rows.unit_ids[some].long(), item[some], rows.values[some], rows.n_units)


def _pooled(rows: SparseRows) -> tuple[Tensor, Tensor, Tensor]:
    unit, value, example = pool_rows(rows, MAXIMUM)
    return unit, example, value


def _counts(items: Items, detector: DetectorScores, example: Tensor | None = None) -> Tensor:
    """TP, FP and FN of each test example."""
    counts = counts_of(detector.detected, items.labels[items.tests].T)
    if example is None:
        return counts
    _, index = example.unique(return_inverse=True)
    return torch.zeros(len(counts), int(index.max()) + 1, 3, dtype=torch.int64).index_add_(1, index, counts)


def excluded(sae: list[Tensor], others: list[Tensor]) -> np.ndarray:
    """−1 where the interval lies below 0, 1 above; by seed, of each concept and last of the mean."""
    result, n = [], len(sae)
    for seed, mine in enumerate(sae):
        draws = torch.stack([others[(seed + step) % n] for step in range(1, N_SEEDS + 1)])
        parts = [(mine[[concept]], draws[:, [concept]]) for concept in range(len(mine))] + [(mine, draws)]
        ends = [difference_to_draws(*part)[1:].tolist() for part in parts]
        result.append([(low > 0) - (high < 0) for low, high in ends])
    return np.array(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", choices=[name for name, *_ in PACKAGED])
    parser.add_argument("--rows-per-chunk", type=int, default=Controls().rows_per_chunk, help="that are sampled")
    args, failed = parser.parse_args(), 0
    torch.set_num_threads(1)
    for dataset, model, kind in PACKAGED:
        if args.only not in (None, dataset):
            continue
        start, world = time.process_time(), World(dataset, model, kind, args.rows_per_chunk)
        results = [world.detected(world.random(seed)) for seed in range(args.seeds)]
        by = {name: [each[name] for each in results] for name in results[0]}
        print(f"{dataset}: {args.seeds} random SAEs, {time.process_time() - start:.0f} s of CPU", flush=True)
        for sae, control, region in (
            ("SAE", "control", True),
            ("SAE", "control, unit by examples", False),  # as it was before rows chose units of controls too
            ("SAE", "SAE", True),  # all of them chosen on all rows of cal, as a control's unit is not
            ("rows", "rows", True),
        ):
            outside = excluded(by[sae], by[control])
            each, mean = np.abs(outside[:, :-1]).mean(0), np.abs(outside[:, -1]).mean()
            f1 = [[float(weighted_f1(counts)) for counts in by[name]] for name in (sae, control)]
            means = " ".join(f"{np.mean(each):.3f} ± {np.std(each):.3f}" for each in f1)
            limit = stats.binom(args.seeds, 0.05).ppf(0.9995) / args.seeds
            failed += region and (each > limit).any() + (mean > limit)
            print(
                f"  {sae} against {control:28} F1 {means}  concepts {each.mean():.3f} "
                f"({(outside[:, :-1] < 0).mean():.3f} below, {(outside[:, :-1] > 0).mean():.3f} above; "
                f"{' '.join(f'{rate:.2f}' for rate in each)})  mean {mean:.3f}",
                flush=True,
            )
    sys.exit(f"{failed} outside" if failed else 0)


if __name__ == "__main__":
    main()
