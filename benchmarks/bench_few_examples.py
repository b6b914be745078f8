"""From how many positive examples on does the interval of F1 say what it should? ``too_few`` was chosen by it.

For each number of positives, with 200 negatives, detectors have every recall from .3 to .98 and false positive rate
from 0 to .1 of a grid. Coverage at 95 % is summed up exactly over all counts. Shown are the share of detectors with a
coverage within .93 and .98, the least and the mean coverage, and the mean width of the interval.

    python benchmarks/bench_few_examples.py
"""

import numpy as np
import torch
from scipy import stats

from sae_assets.ops import intervals

POSITIVES = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
NEGATIVES = 200
RECALLS = np.append(np.arange(0.3, 0.96, 0.05), 0.98)
FALSE_RATES = (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


def main() -> None:
    torch.set_num_threads(1)
    print(f"positives, of {NEGATIVES} others: inside, least, mean coverage, mean width")
    for n_positive in POSITIVES:
        tp, fp = np.meshgrid(np.arange(n_positive + 1), np.arange(NEGATIVES // 4), indexing="ij")
        counts = [torch.from_numpy(each) for each in (tp, fp, n_positive - tp)]
        low, high = intervals.f1_interval(*counts).unbind(-1)
        low, high = low.numpy(), high.numpy()
        covered, widths = [], []
        for recall in RECALLS:
            for rate in FALSE_RATES:
                hits, wrong = n_positive * recall, NEGATIVES * rate
                true = 2 * hits / (n_positive + hits + wrong)
                chance = stats.binom.pmf(tp, n_positive, recall) * stats.binom.pmf(fp, NEGATIVES, rate)
                covered.append(float((chance * ((low <= true + 1e-12) & (true - 1e-12 <= high))).sum() / chance.sum()))
                widths.append(float((chance * (high - low)).sum() / chance.sum()))
        each = np.array(covered)
        inside = np.mean((each >= 0.93) & (each <= 0.98))
        below = np.mean(each < 0.93)
        print(
            f"{n_positive:3}  {inside:4.0%} ({below:.0%} below)  {each.min():.3f}  {each.mean():.3f}  "
            f"{np.mean(widths):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
