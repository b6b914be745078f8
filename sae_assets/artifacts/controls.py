"""The SAE's unit of each concept beside controls: other detectors, fitted and chosen on the same examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from sae_assets.artifacts.base import HASHED_IF_GIVEN, Artifact, expect_tensor

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

UNIT, RANDOM, LARGEST = "unit", "random_sae", "diffmean_max"
CONTROLS = (RANDOM, "diffmean", LARGEST, "logistic", "logistic_units", "k_sparse", "embedding_dims")
ROW_CONTROLS = CONTROLS  # the same detectors, fitted on rows
EARLIER_ROW_CONTROLS = ("diffmean", "logistic")  # beside random SAEs, of files that do not name theirs
LEVELS = ("examples", "rows")


def controls_of(second_pass: bool | None) -> tuple[str, ...]:
    """Return controls of examples; ``LARGEST`` is among them where rows went through the model once more."""
    return tuple(name for name in CONTROLS if second_pass or name != LARGEST)


@dataclass(frozen=True, eq=False)
class Controls(Artifact):
    """Figures on test of every detector, and the difference of the unit to each control.

    Detectors of examples are the unit of the best pair, every random SAE and the other controls; where rows were
    classified, the best unit of the sampled rows, every random SAE and the other controls of rows follow
    (:attr:`detectors`). Comparisons are with each control, random SAEs as one (:attr:`comparisons`). Where a concept
    has no detector, and where test has not both classes, a choice is −1 and figures are null.

    Attributes:
        concepts: names, in catalog order.
        n_seeds: random SAEs; n_units: of the SAE; d_model: of the embeddings.
        fitted_on_cal: there were no train examples, so half of cal fitted the controls and the other half chose.
        row_figures: whether rows were classified.
        n_items: int64 [2, 3], examples and sampled rows (0 without) that controls were fitted on, got their threshold
            on, and were tested on.
        choices: int64 [n_detectors, n_concepts], what was chosen beside the threshold: a unit, a dimension (d_model + i
            is −x_i), a k, the number of a penalty.
        counts: int64 [n_detectors, n_concepts, 4], TP FP FN TN of examples or rows.
        intervals: float64 [n_detectors, n_concepts, 2], of the F1.
        auroc, average_precision: float64 [n_detectors, n_concepts].
        differences: float64 [n_comparisons, n_concepts, 3], F1 of the unit minus that of the control (the mean of all
            random SAEs), low and high.
        weighted: float64 [n_comparisons, 4], mean of F1, weighted by positives, over the concepts that have both
            detectors: of the unit, of the control, and low and high of the difference.
        n_row_seeds: random SAEs that classified rows; None where none did, as in files of earlier versions.
        second_pass: True where rows went through the model once more, for ``LARGEST``; None where they did not and
            there is no such control, as in files of earlier versions.
        auroc_intervals: float64 [n_detectors, n_concepts, 2], of the AUROC on examples; null on rows, which depend on
            each other within an example. None in files of earlier versions.
        row_controls: of ``ROW_CONTROLS``, those of rows beside random SAEs; None where no rows were classified, and in
            files of earlier versions, which have ``EARLIER_ROW_CONTROLS``.
    """

    kind: ClassVar[str] = "controls"
    concepts: tuple[str, ...]
    n_seeds: int
    n_units: int
    d_model: int
    fitted_on_cal: bool
    row_figures: bool
    n_items: Int[Tensor, "2 3"]
    choices: Int[Tensor, "detectors concepts"]
    counts: Int[Tensor, "detectors concepts 4"]
    intervals: Float[Tensor, "detectors concepts 2"]
    auroc: Float[Tensor, "detectors concepts"]
    average_precision: Float[Tensor, "detectors concepts"]
    differences: Float[Tensor, "comparisons concepts 3"]
    weighted: Float[Tensor, "comparisons 4"]
    n_row_seeds: int | None = field(default=None, metadata=HASHED_IF_GIVEN)
    second_pass: bool | None = field(default=None, metadata=HASHED_IF_GIVEN)
    auroc_intervals: Float[Tensor, "detectors concepts 2"] | None = field(default=None, metadata=HASHED_IF_GIVEN)
    row_controls: tuple[str, ...] | None = field(default=None, metadata=HASHED_IF_GIVEN)

    @property
    def detectors(self) -> tuple[tuple[str, str, int | None], ...]:
        """Return level, name, and number of a random SAE, in the order of the arrays."""
        random = [(LEVELS[0], RANDOM, seed) for seed in range(self.n_seeds)]
        others = [(LEVELS[0], name, None) for name in controls_of(self.second_pass)[1:]]
        examples = ((LEVELS[0], UNIT, None), *random, *others)
        if not self.row_figures:
            return examples
        of_rows = [(LEVELS[1], RANDOM, seed) for seed in range(self.n_row_seeds or 0)]
        fitted = [(LEVELS[1], name, None) for name in self.row_controls or EARLIER_ROW_CONTROLS]
        return (*examples, (LEVELS[1], UNIT, None), *of_rows, *fitted)

    @property
    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """Return level and name of the control, in the order of the arrays."""
        return self.comparisons_of(self.row_figures, self.n_row_seeds, self.second_pass, self.row_controls)

    @staticmethod
    def comparisons_of(
        row_figures: bool, n_row_seeds: int | None, second_pass: bool | None, row_controls: tuple[str, ...] | None
    ) -> tuple[tuple[str, str], ...]:
        """Return the comparisons with or without those of rows, and among these with random SAEs."""
        names = ((RANDOM,) if n_row_seeds else ()) + (row_controls or EARLIER_ROW_CONTROLS)
        of_rows = [(LEVELS[1], name) for name in names] if row_figures else []
        return (*((LEVELS[0], name) for name in controls_of(second_pass)), *of_rows)

    @property
    def f1(self) -> Float[Tensor, "detectors concepts"]:
        """Return F1 on test, float64; NaN without a detector."""
        import torch

        tp, fp, fn, _ = self.counts.double().unbind(-1)
        return torch.where(self.choices >= 0, 2 * tp / (2 * tp + fp + fn).clamp(min=1), torch.nan)

    def of(self, values: Float[Tensor, "detectors concepts"], level: str, name: str) -> Float[Tensor, "draws concepts"]:
        """Return the figures of one detector; of random SAEs a line for each."""
        return values[[index for index, detector in enumerate(self.detectors) if detector[:2] == (level, name)]]

    def problems(self) -> Iterator[str]:
        n, n_detectors, n_comparisons = len(self.concepts), len(self.detectors), len(self.comparisons)
        structure = [
            *expect_tensor(self.n_items, "n_items", "int64", (2, 3)),
            *expect_tensor(self.choices, "choices", "int64", (n_detectors, n)),
            *expect_tensor(self.counts, "counts", "int64", (n_detectors, n, 4)),
            *expect_tensor(self.intervals, "intervals", "float64", (n_detectors, n, 2)),
            *expect_tensor(self.auroc, "auroc", "float64", (n_detectors, n)),
            *expect_tensor(self.average_precision, "average_precision", "float64", (n_detectors, n)),
            *expect_tensor(self.differences, "differences", "float64", (n_comparisons, n, 3)),
            *expect_tensor(self.weighted, "weighted", "float64", (n_comparisons, 4)),
        ]
        if self.auroc_intervals is not None:
            structure += expect_tensor(self.auroc_intervals, "auroc_intervals", "float64", (n_detectors, n, 2))
        yield from structure
        if structure:
            return
        if bool((self.counts < 0).any()) or bool((self.n_items < 0).any()):
            yield "counts must not be negative"
        nothing = self.choices < 0
        if bool((self.counts[..., :2].sum(-1)[nothing] > 0).any()):
            yield "nothing is detected where there is no detector"
        for name in ("intervals", "auroc", "average_precision", "auroc_intervals"):
            values = getattr(self, name)
            if values is None:
                continue
            if bool((values < 0).any()) or bool((values > 1).any()):
                yield f"{name} must lie between 0 and 1"
            if not bool(values[nothing].isnan().all()):
                yield f"{name} must be null where there is no detector"
        rows = self.n_items[1].tolist()
        if self.n_row_seeds is not None and not (self.row_figures and self.n_row_seeds > 0):
            yield f"{self.n_row_seeds} random SAEs classified rows, expected some, and only where rows were classified"
        names = self.row_controls
        if names is not None and not (self.row_figures and names and {*names} <= {*ROW_CONTROLS[1:]}):
            yield f"row_controls are {names}, expected some of {ROW_CONTROLS[1:]}, and None without row figures"
        if not self.row_figures and any(rows):
            yield f"{rows} rows were classified, but there are no row figures"
        middle, low, high = self.differences.unbind(-1)
        if bool((low > middle).any()) or bool((high < middle).any()):
            yield "a difference must lie within its interval"
