"""DiffMean on the packaged data in four ways, of which two are controls, and what a second pass over rows costs.

Directions: of mean embeddings (control ``diffmean``), the mean of rows of positive examples minus that of the others'
(AxBench, which locates nothing), or of the concept's own rows. Scores: of the mean embedding, or the largest over rows
(AxBench; control ``diffmean_max``). Thresholds on cal as those of every control. Shown are figures on test, and the
paired difference of the SAE's units to each; then seconds of CPU of encoding all examples with what controls need, and
of embedding those of cal and test once more, the model being open.

    python benchmarks/bench_diffmean.py
"""

import time

import torch
from bench_random_saes import PACKAGED, World
from torch import Tensor

from sae_assets.artifacts import Examples
from sae_assets.catalog import load_catalog
from sae_assets.datasets import open_dataset
from sae_assets.ops.detectors import best_thresholds, largest_mean_difference, mean_difference, row_mean_difference
from sae_assets.ops.intervals import counts_of, weighted_f1, weighted_f1_difference
from sae_assets.ops.items import LargestScores
from sae_assets.ops.prevalence_free import auroc
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.second_pass import largest_scores


def direction(x: Tensor, labels: Tensor, fits: Tensor) -> Tensor:
    """Mean of the positive rows minus mean of the others, float64 [d, n_concepts]."""
    sides = torch.cat([labels & fits[:, None], ~labels & fits[:, None]], 1).double()
    true, others = (x.double().T @ sides / sides.sum(0)).chunk(2, 1)
    return true - others


def largest(scores: Tensor, example: Tensor, n: int) -> Tensor:
    """Return the largest of the rows of each example; −∞ without any."""
    nothing = torch.full((n, scores.shape[1]), -torch.inf, dtype=scores.dtype)
    return nothing.scatter_reduce(0, example[:, None].expand_as(scores), scores, "amax")


def main() -> None:
    torch.set_num_threads(1)
    for dataset, model, kind in PACKAGED:
        world = World(dataset, model, kind)
        items, x, lengths = world.examples, world.rows.double(), world.offsets.diff()
        example = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
        truth = torch.zeros(len(x), items.labels.shape[1], dtype=torch.bool)
        truth[world.truth.row_of_positive(), world.truth.concept_ids.long()] = True
        mean = items.embeddings.double()
        of_examples = direction(mean, items.labels, items.fits)
        of_rows = direction(x, items.labels[example], items.fits[example])
        of_concept = direction(x, truth, items.fits[example])
        unit = world.detected(world.encoded(world.sae))["SAE"]
        positive = items.labels[items.tests].T.contiguous()
        largest_of_rows = largest(x @ row_mean_difference(items, lengths), example, len(lengths))
        as_made = {
            0: mean_difference(items),
            2: largest_mean_difference(items, LargestScores(largest_of_rows, 0)),
        }
        ways = {
            "mean of examples, score of the mean (diffmean)": mean @ of_examples,
            "mean of rows, score of the mean": mean @ of_rows,
            "mean of rows, largest score (diffmean_max)": largest(x @ of_rows, example, len(lengths)),
            "mean of the concept's rows, largest score": largest(x @ of_concept, example, len(lengths)),
        }
        print(f"{dataset}: SAE's units, weighted test F1 {float(weighted_f1(unit)):.3f}")
        for number, (name, scores) in enumerate(ways.items()):
            rounded = scores.T.float().contiguous()
            thresholds = best_thresholds(rounded[:, items.chooses], items.labels[items.chooses].T)
            of_test = rounded[:, items.tests]
            detected = of_test.double() >= thresholds[:, None]
            assert number not in as_made or torch.equal(detected, as_made[number].detected)
            counts = counts_of(detected, positive)
            estimate, low, high = weighted_f1_difference(unit, counts).tolist()
            area = float(auroc(of_test, positive).mean())
            print(
                f"  {name:48} F1 {float(weighted_f1(counts)):.3f}  mean AUROC {area:.3f}  "
                f"units above it {estimate:+.3f} ({low:+.3f} to {high:+.3f})",
                flush=True,
            )
        print(
            "  seconds of CPU: encoding with controls {:.1f}, rows of cal and test again {:.1f}".format(
                *seconds(dataset, model, kind, world, of_rows)
            ),
            flush=True,
        )


def seconds(dataset: str, model: str, kind: str, world: World, directions: Tensor) -> tuple[float, float]:
    """Return the seconds of the pass that encodes all examples, and of the second one."""
    catalog = load_catalog()
    entry, read = catalog.datasets[dataset], catalog.models[model].named(model)
    reader = open_dataset(entry)
    ids, means = world.labels.example_ids, world.examples.embeddings
    nothing = ("",) * len(ids)
    examples = Examples(0, ids, nothing, nothing)
    how = {"dataset": entry, "model": read, "reader": reader, "precision": "float32", "forward_batch": None}
    how["device"] = "cpu"
    options = {**how, "k_stored": read.k_stored, "batch_size": 32, "memory_budget": 2**28}
    start = time.process_time()
    encode_chunk(examples, (kind,), control_kinds=(kind,), **options)
    between = time.process_time()
    some = (world.examples.chooses | world.examples.tests).nonzero().flatten().tolist()
    largest_scores([ids[each] for each in some], means[some], directions, kind, **how)
    return between - start, time.process_time() - between


if __name__ == "__main__":
    main()
