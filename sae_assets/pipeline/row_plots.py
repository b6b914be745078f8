"""The inline picture of a chunk's activations: how many units its rows fire, and how strongly.

Every chunk has one, so its axes and ticks are kept for the next: the picture is the same to the byte.
"""

from typing import TYPE_CHECKING, Any

from sae_assets.pipeline.drawing import markdown, new_axes

if TYPE_CHECKING:
    from sae_assets.artifacts.rows import SparseActivations

BARS = 40
_last: dict[int, Any] = {}  # figure and axes of the last chunk, by how many histograms it has


def plot_sparse_activations(rows: "SparseActivations") -> str:
    """Draw how many units rows fire, where rows differ in it, and how strongly: two histograms of one chunk."""
    import numpy as np

    l0, values = rows.l0.numpy(), rows.values.numpy()
    # An SAE that keeps the k largest gives every row k: one bar would say what the figures say.
    differ = bool(len(l0)) and bool(l0.min() < l0.max())
    n_axes = 2 if differ else 1
    # Taken out meanwhile, so that no other thread draws on them, nor the next chunk after an error.
    figure, axes = (_last.pop(n_axes, None) if len(values) else None) or _axes_of_rows(n_axes)
    for axis in axes.flat:
        for bars in [*axis.patches]:
            bars.remove()
        axis.relim()
    if differ:
        lowest, highest = int(l0.min()), int(l0.max())
        step = -(-(highest - lowest + 1) // BARS)  # whole numbers to a bar, or bars would differ by what falls in
        counts, edges = np.histogram(l0, np.arange(lowest, highest + step + 1, step) - 0.5)
        axes[0, 0].stairs(counts, edges, fill=True, color="#3182bd")
        axes[0, 0].set_title(f"{rows.n_rows:,} rows, mean L0 {l0.mean():.1f}", size=9, y=1)
    axis = axes[0, -1]
    if not len(values):
        axis.set_axis_off()
        axis.set_title(f"No unit fires on any of {rows.n_rows:,} rows", size=9)
        return markdown(figure, "activations")
    bins = np.geomspace(values.min(), max(values.max(), values.min() * 1.01), BARS + 1)
    axis.stairs(*np.histogram(values, bins), fill=True, color="#1b7f5c")
    axis.set_title(f"{len(values):,} values, median {np.median(values):.3g}", size=9, y=1)
    picture = markdown(figure, "activations")
    _last[n_axes] = figure, axes
    return picture


def _axes_of_rows(n_axes: int) -> tuple[Any, Any]:
    """Return figure and axes of a chunk's rows, the last of values."""
    # Fitting a layout is two thirds of what a picture costs. A title whose height is given is not moved out of the way
    # of ticks, of which none is there: measuring them was a tenth of the rest.
    figure, axes = new_axes(n_axes, fitted=False)
    figure.subplots_adjust(0.085, 0.16, 0.99, 0.91, 0.24)
    if n_axes > 1:
        axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
        axes[0, 0].set_xlabel("L0 (units that fire on a row)")
        axes[0, 0].set_ylabel("rows")
    axis = axes[0, -1]
    axis.set_xscale("log")
    # Ticks between powers of ten, and powers set as formulas, were half of the picture's cost.
    axis.minorticks_off()
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("value of a unit on a row")
    axis.set_ylabel("values")
    return figure, axes
