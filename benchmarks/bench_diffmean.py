"""DiffMean on the packaged data as it is made (of mean embeddings), and as AxBench has it: the largest value over rows.

For the latter all rows of all examples are embedded, which the pipeline does not keep. Directions: the mean of rows of
positive examples minus that of the others' (AxBench, which locates nothing), or of the concept's own rows; thresholds
on cal as those of every control. Shown are figures on test, and the paired difference of the SAE's units to each.

    python benchmarks/bench_diffmean.py
"""

import torch
from bench_random_saes import PACKAGED, World
from torch import Tensor

from sae_assets.ops.detectors import best_thresholds, mean_difference
from sae_assets.ops.intervals import counts_of, weighted_f1, weighted_f1_difference
from sae_assets.ops.prevalence_free import auroc


def direction(x: Tensor, labels: Tensor, fits: Tensor) -> Tensor:
    """Mean of the positive rows minus mean of the others, float64 [d, n_concepts]."""
    sides = torch.cat([labels & fits[:, None], ~labels & fits[:, None]], 1).double()
    true, others = (x.double().T @ sides / sides.sum(0)).chunk(2, 1)
    return true - others


def largest(scores: Tensor, example: Tensor, n: int) -> Tensor:
    """Of the rows of each example; −∞ without any."""
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
        as_made = mean_difference(items)
        ways = {
            "mean of examples, score of the mean (as made)": mean @ of_examples,
            "mean of rows, score of the mean": mean @ of_rows,
            "mean of rows, largest score (AxBench)": largest(x @ of_rows, example, len(lengths)),
            "mean of the concept's rows, largest score": largest(x @ of_concept, example, len(lengths)),
        }
        print(f"{dataset}: SAE's units, weighted test F1 {float(weighted_f1(unit)):.3f}")
        for number, (name, scores) in enumerate(ways.items()):
            rounded = scores.T.float().contiguous()
            thresholds = best_thresholds(rounded[:, items.chooses], items.labels[items.chooses].T)
            of_test = rounded[:, items.tests]
            detected = of_test.double() >= thresholds[:, None]
            assert number or torch.equal(detected, as_made.detected)
            counts = counts_of(detected, positive)
            estimate, low, high = weighted_f1_difference(unit, counts).tolist()
            area = float(auroc(of_test, positive).mean())
            print(
                f"  {name:48} F1 {float(weighted_f1(counts)):.3f}  mean AUROC {area:.3f}  "
                f"units above it {estimate:+.3f} ({low:+.3f} to {high:+.3f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
