"""sae-probes (Kantamneni et al. 2025, arXiv:2502.16681): logistic probes on the k units that separate train best.

Formula: github.com/sae-probes/sae-probes, version 0.4.2, ``sae_probes/run_sae_evals.py`` (``get_sorted_indices``,
``run_sae_eval``) and ``utils_training.py`` (``find_best_reg``, ``get_cv``, ``get_splits``): what its "normal" setting
and the L2 penalty do by default. Its numbers are those of scikit-learn's solver, which is why that is called here.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sae_assets.errors import ArtifactError
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.prevalence_free import unit_scores
from sae_assets.ops.process_state import plain_arithmetic
from sae_assets.ops.segments import unpack_descending
from sae_assets.ops.sorted_scores import ExampleScores

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
STRENGTHS = 10  # from 1e5 down to 1e-5
TINY = 1e-6
SEED = 42  # of folds, of the order of examples and of solvers


@dataclass(frozen=True)
class SparseProbes:
    """Test figures of every (concept, k).

    Attributes:
        ks: numbers of units; no larger than there are units.
        units: per concept the units by their rank on train, int64, the largest k of them.
        auc, val_auc, f1, accuracy: float64 [n_concepts, n_ks]; test AUROC, that of the chosen strength within train, F1
            averaged over both classes by their sizes, and accuracy. NaN of a concept without two classes on train or on
            test.
    """

    ks: tuple[int, ...]
    units: list[Int[Tensor, " ranked"]]
    auc: Float[Tensor, "concepts ks"]
    val_auc: Float[Tensor, "concepts ks"]
    f1: Float[Tensor, "concepts ks"]
    accuracy: Float[Tensor, "concepts ks"]


@plain_arithmetic()
def probe_examples(
    chunks: Iterable[LabelledChunk], *, n_units: int, pooling: Pooling, ks: Sequence[int] = KS
) -> SparseProbes:
    """Rank units on train, choose the strength within train, fit on all of train, report on test.

    Rows of an example become one score of a unit by ``pooling``: the repository takes the last token's.

    Raises:
        ArtifactError: no train or no test examples, or as ``score_examples``.
    """
    renamed = (
        LabelledChunk(chunk.activations, tuple({"train": "cal", "test": "test"}.get(s, "") for s in chunk.splits),
                      chunk.labels)
        for chunk in chunks
    )  # fmt: skip
    scores = score_examples(renamed, n_units=n_units, pooling=pooling)
    train, test = scores["cal"], scores["test"]
    for name, split in (("train", train), ("test", test)):
        if len(split.labels) == 0:
            raise ArtifactError(f"There are no {name} examples: probes are fitted on train and reported on test.")
    ks = tuple(k for k in ks if k <= n_units) or (n_units,)
    n = train.labels.shape[1]
    tables = torch.full((4, n, len(ks)), torch.nan, dtype=torch.float64, device="cpu")
    ranked = []
    for concept in range(n):
        truth, test_truth = train.labels[:, concept], test.labels[:, concept]
        order = rank_units(train, truth)
        ranked.append(order[: ks[-1]])
        if not all(0 < int(split.sum()) < len(split) for split in (truth, test_truth)):
            continue
        x, z = (unit_scores(split, ranked[-1]).T.contiguous() for split in (train, test))
        for column, k in enumerate(ks):
            figures = fit_probe(x[:, :k], truth, z[:, :k], test_truth)
            tables[:, concept, column] = torch.tensor(figures, dtype=torch.float64, device="cpu")
    auc, val_auc, f1, accuracy = tables
    return SparseProbes(ks, ranked, auc, val_auc, f1, accuracy)


@plain_arithmetic()
def rank_units(train: ExampleScores, truth: Bool[Tensor, " examples"]) -> Int[Tensor, " units"]:
    """Return units by the distance of their mean scores of the two classes, over the mean of the unit's own scores
    above 0.

    Ties, such as units that never fire, in the order of their numbers.
    """
    n_units = len(train.starts) - 1
    unit, value = unpack_descending(train.keys)
    sides = truth[train.example].long()
    n_positive = int(truth.sum())
    sizes = torch.tensor([len(truth) - n_positive, n_positive], dtype=torch.float64, device="cpu")
    sums = torch.zeros(2 * n_units, dtype=torch.float64, device="cpu")
    sums.index_add_(0, sides * n_units + unit, value.double())
    sums = sums.view(2, n_units)
    own = sums.sum(0) / (train.starts.diff().double() + TINY)
    means = sums / (own + TINY) / sizes[:, None].clamp(min=1)
    return (means[1] - means[0]).abs().sort(descending=True, stable=True).indices


@plain_arithmetic()
def fit_probe(
    x: Float[Tensor, "train k"],
    truth: Bool[Tensor, " train"],
    z: Float[Tensor, "test k"],
    test_truth: Bool[Tensor, " test"],
) -> tuple[float, float, float, float]:
    """Test AUROC, the AUROC within train by which the strength was chosen, weighted F1 and accuracy."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - loads scipy, for this protocol alone
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score  # noqa: PLC0415
    from sklearn.utils import shuffle  # noqa: PLC0415

    # In float64, as which scikit-learn takes the tensors that the repository gives it.
    x_train, y_train, x_test, y_test = (
        each.numpy() for each in (x.double(), truth.long(), z.double(), test_truth.long())
    )
    # A solver that stops early is the protocol's; what the process makes of warnings and underflows would stop it.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        means, strengths = [], np.logspace(5, -5, STRENGTHS).tolist()
        splits = _splits(x_train, y_train)
        for strength in strengths if splits else ():
            reached = []
            for inside, held_out in splits:
                if len(set(y_train[inside].tolist())) < 2:
                    reached.append(0.5)
                    continue
                model = LogisticRegression(C=strength, random_state=SEED, max_iter=1000)
                model.fit(x_train[inside], y_train[inside])
                reached.append(roc_auc_score(y_train[held_out], model.predict_proba(x_train[held_out])[:, 1]))
            means.append(sum(reached) / len(reached))
        chosen = {"C": strengths[means.index(max(means))]} if means else {}
        model = LogisticRegression(**chosen, random_state=SEED, max_iter=1000)
        model.fit(*shuffle(x_train, y_train, random_state=SEED))
        within = max(means) if means else roc_auc_score(y_train, model.predict_proba(x_train)[:, 1])
        detected = model.predict(x_test)
        return (
            float(roc_auc_score(y_test, model.predict_proba(x_test)[:, 1])),
            float(within),
            float(f1_score(y_test, detected, average="weighted")),
            float(accuracy_score(y_test, detected)),
        )


def _splits(x: Any, y: Any) -> list[tuple[Any, Any]]:
    """Return parts of train to fit on and to choose by: pairs left out, six folds, or the last fifth, at most 100.

    Parts to choose by hold both classes. Where the last fifth of train, in the order of the data set, does not, the
    repository fails; here nothing is chosen then.
    """
    from sklearn.model_selection import LeavePOut, StratifiedKFold  # noqa: PLC0415 - as above

    n = len(y)
    if n <= 3:
        return []
    if n < 128:
        folds = LeavePOut(2) if n <= 12 else StratifiedKFold(n_splits=6, shuffle=True, random_state=SEED)
        parts = list(folds.split(x, y))
    else:
        size = n - min(int(0.2 * n), 100)
        parts = [(list(range(size)), list(range(size, n)))]
    return [(inside, held_out) for inside, held_out in parts if len(set(y[held_out].tolist())) == 2]
