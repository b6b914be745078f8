"""saev (arXiv:2511.17735): one-dimensional logistic probes on rows, the best unit per concept by its loss on train.

Formula: github.com/OSU-NLP-Group/saev, in ``contrib/trait_discovery``: ``src/tdiscovery/probe1d.py`` (the objective of
``Reference1DProbe.fit``), ``src/tdiscovery/metrics.py`` (AP, precision, recall and F1 of the probe) and
``notebooks/001_actfn.py`` (probe R, means, coverage).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from sae_assets.errors import ArtifactError
from sae_assets.ops.incidences import Walk
from sae_assets.ops.prevalence_free import average_precision
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.protocols.rows import in_place_of
from sae_assets.ops.row_alignment import PURITY_ROWS
from sae_assets.ops.row_chunks import RowChunk, entries_of_pairs, gather_rows
from sae_assets.ops.sorted_scores import EVALUATED

RIDGE = 1e-8
LEAST_PRIOR = 1e-8
MOST_STEPS = 200
CELLS_AT_ONCE = 2**22  # (value, concept) cells in hand, about 50 bytes each
TAU = 0.3


@dataclass(frozen=True)
class Probes:
    """The probe of lowest train loss of every concept, and what it does on test.

    Attributes:
        n_positive: int64 [2, n_concepts], rows of train and of test.
        unit_ids: int64 [n_concepts]; -1 of a concept that is not located or has no rows on train or test.
        weights, biases: float64 [n_concepts]; the score of a row is ``weight · value + bias``.
        losses, baselines: float64 [2, n_concepts], mean cross-entropy on train and on test of the probe, and of the
            share of positives of that split; NaN without a unit.
        precision, recall, f1, average_precision, purity: float64 [n_concepts], on test; of scores above 0, of all
            scores, and of the 16 rows with the largest values of the unit.
    """

    n_positive: Int[Tensor, "2 concepts"]
    unit_ids: Int[Tensor, " concepts"]
    weights: Float[Tensor, " concepts"]
    biases: Float[Tensor, " concepts"]
    losses: Float[Tensor, "2 concepts"]
    baselines: Float[Tensor, "2 concepts"]
    precision: Float[Tensor, " concepts"]
    recall: Float[Tensor, " concepts"]
    f1: Float[Tensor, " concepts"]
    average_precision: Float[Tensor, " concepts"]
    purity: Float[Tensor, " concepts"]

    @property
    def probe_r(self) -> Float[Tensor, " 2"]:
        """``1 − mean loss / mean baseline`` over concepts, on train and on test."""
        return 1 - self.losses.nanmean(1) / self.baselines.nanmean(1)

    @property
    def coverage(self) -> float:
        """Return share of concepts with an average precision of at least ``TAU``."""
        defined = ~self.average_precision.isnan()
        return float((self.average_precision[defined] >= TAU).double().mean())


@plain_arithmetic()
def probe_rows(
    chunks: Iterable[RowChunk],
    *,
    concepts: Sequence[str],
    n_units: int,
    located: Bool[Tensor, " concepts"],
    memory_budget: int = 256 * 2**20,
) -> Probes:
    """Fit a probe of every (unit, concept) on train, take each concept's best, and report it on test.

    A step of Newton's costs one exponential per stored value and concept: values × concepts × about 15 steps.

    Raises:
        ArtifactError: no train rows or no test rows, or as ``gather_rows``.
    """
    renamed = in_place_of(chunks, {"train": "cal", "test": "test"})
    rows = gather_rows(renamed, concepts=concepts, n_units=n_units, memory_budget=memory_budget)
    train, test = (rows.splits[name].truth for name in EVALUATED)
    for name, truth in (("train", train), ("test", test)):
        if truth.n_rows == 0:
            raise ArtifactError(f"There are no {name} rows: probes are fitted on train and reported on test.")
    n = len(concepts)
    best = torch.full((n,), torch.inf, dtype=torch.float64, device="cpu")
    unit_ids = torch.full((n,), -1, dtype=torch.int64, device="cpu")
    weights, biases, purity = (torch.full((n,), torch.nan, dtype=torch.float64, device="cpu") for _ in range(3))
    first = 0
    at_once = max(1, CELLS_AT_ONCE // max(n, 1))
    for walk, on_test in rows.walks(at_once):
        loss, weight, bias = fit_probes(walk)
        least, unit = loss.min(0)
        better = least < best
        best = torch.where(better, least, best)
        unit_ids[better] = first + unit[better]
        column = torch.arange(n, device="cpu")
        pure = on_test.purity(PURITY_ROWS)
        for kept_table, table in ((weights, weight), (biases, bias), (purity, pure)):
            kept_table[better] = table[unit, column][better]
        first += walk.n_units
    exists = located & (train.n_positive > 0) & (test.n_positive > 0)
    unit_ids[~exists] = -1
    scores, positive = _scores(renamed, unit_ids, weights, biases, test.n_rows)
    counted = (
        torch.stack([positive & (scores > 0), ~positive & (scores > 0), positive & (scores <= 0)]).sum(-1).double()
    )
    tp, fp, fn = counted
    figures = [torch.where(exists, each, torch.nan) for each in (
        tp / (tp + fp).clamp(min=1), tp / (tp + fn).clamp(min=1), 2 * tp / (2 * tp + fp + fn).clamp(min=1),
        average_precision(scores, positive), purity,
    )]  # fmt: skip
    entropy_on_test = (softplus(scores) - scores * positive).mean(1)
    shares = torch.stack([split.n_positive.double() / split.n_rows for split in (train, test)])
    entropy = -torch.xlogy(shares, shares) - torch.xlogy(1 - shares, 1 - shares)
    return Probes(
        torch.stack([train.n_positive, test.n_positive]),
        unit_ids,
        torch.where(exists, weights, torch.nan),
        torch.where(exists, biases, torch.nan),
        torch.where(exists, torch.stack([best, entropy_on_test]), torch.nan),
        torch.where(exists, entropy, torch.nan),
        *figures,
    )


def fit_probes(
    walk: Walk,
) -> tuple[Float[Tensor, "units concepts"], Float[Tensor, "units concepts"], Float[Tensor, "units concepts"]]:
    """Return loss, weight and bias of the logistic probe of every pair of these units, by damped Newton steps.

    The objective is the mean cross-entropy over all rows plus ``RIDGE / 2 · (w² + (b − b₀)²)``, b₀ the log-odds of the
    share of positives; the loss given is the former. Rows without a stored value are one term.
    """
    truth = walk.truth
    value, unit, y = walk.values.double(), walk.unit_of_value, walk.truth_of_value.double()
    n, counts = truth.n_rows, walk.starts.diff()
    shape = (walk.n_units, truth.n_concepts)
    prior = (truth.n_positive.double() / n).clamp(LEAST_PRIOR, 1 - LEAST_PRIOR)
    start = (prior / (1 - prior)).log().expand(shape)
    silent = (n - counts).double()[:, None]

    def sums(cells: Tensor) -> Tensor:
        """Over each unit's values, in their order."""
        return torch.segment_reduce(cells, "sum", lengths=counts, axis=0, unsafe=True)

    positive_silent = truth.n_positive.double() - sums(y)
    # In units of the root mean square, so that both parameters are of one size.
    scale = (sums(value.square()) / counts.clamp(min=1)).sqrt()
    x = (value / scale[unit])[:, None]
    ridge = RIDGE / scale.clamp(min=1e-150).square()[:, None]

    def objective(w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        z = w[unit] * x + b[unit]
        entropy = (sums(softplus(z) - y * z) + silent * softplus(b) - positive_silent * b) / n
        return entropy + (ridge * w.square() + RIDGE * (b - start).square()) / 2, entropy

    w, b = torch.zeros(shape, dtype=torch.float64, device="cpu"), start.clone()
    loss, entropy = objective(w, b)
    for _ in range(MOST_STEPS):
        mu, mu_silent = torch.sigmoid(w[unit] * x + b[unit]), torch.sigmoid(b)
        s, s_silent = mu * (1 - mu), mu_silent * (1 - mu_silent)
        g0 = (sums(mu - y) + silent * mu_silent - positive_silent) / n + RIDGE * (b - start)
        g1 = sums((mu - y) * x) / n + ridge * w
        h0 = (sums(s) + silent * s_silent) / n + RIDGE
        h1, h2 = sums(s * x) / n, sums(s * x.square()) / n + ridge
        determinant = (h0 * h2 - h1.square()).clamp(min=1e-300)
        db, dw = (h2 * g0 - h1 * g1) / determinant, (h0 * g1 - h1 * g0) / determinant
        gain = (g0 * db + g1 * dw) / 2
        active = gain > 1e-13
        if not bool(active.any()):
            break
        size = active.double()
        for _ in range(40):
            trial = objective(w - size * dw, b - size * db)
            worse = active & ~(trial[0] <= loss - 1e-4 * size * 2 * gain)
            if not bool(worse.any()):
                break
            size = torch.where(worse, size / 2, size)
        size = torch.where(worse, 0.0, size)
        w, b = w - size * dw, b - size * db
        loss, entropy = objective(w, b)
        if not bool((size > 0).any()):
            break
    return entropy, torch.where(scale[:, None] > 0, w / scale.clamp(min=1e-300)[:, None], 0.0), b


def _scores(
    chunks: Iterable[RowChunk], units: Tensor, weights: Tensor, biases: Tensor, n_rows: int
) -> tuple[Float[Tensor, "concepts rows"], Bool[Tensor, "concepts rows"]]:
    """Return the probes' scores of all test rows, one line per concept, and the truth of these rows."""
    scores = torch.zeros(len(units), n_rows, dtype=torch.float64, device="cpu")
    truth = torch.zeros(len(units), n_rows, dtype=torch.bool, device="cpu")
    done = 0
    for chunk in chunks:
        inside = chunk.rows_in("test")
        index = torch.where(inside, inside.long().cumsum(0) - 1 + done, -1)
        done += int(inside.sum())
        pair, entry = entries_of_pairs(chunk.activations, units)
        where = index[chunk.activations.row_of_entry()[entry]]
        is_asked = where >= 0
        scores[pair[is_asked], where[is_asked]] = chunk.activations.values[entry[is_asked]].double()
        positive = index[chunk.truth.row_of_positive()]
        truth[chunk.truth.concept_ids.long()[positive >= 0], positive[positive >= 0]] = True
    return weights.nan_to_num(0)[:, None] * scores + biases.nan_to_num(0)[:, None], truth
