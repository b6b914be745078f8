"""The inline pictures of the UI: unit densities with the pruning limits, F1 of concepts (of rows: ``row_plots``).

Each function takes artifacts and gives a Markdown image with the PNG inside, which Dagster's UI shows.
"""

from typing import TYPE_CHECKING

from sae_assets.artifacts import REASONS
from sae_assets.pipeline.drawing import LONGEST, legend_below, literal, markdown, name_rows, new_axes
from sae_assets.wording import shortened

if TYPE_CHECKING:
    from sae_assets.artifacts import BestPairs, DetectionStats, UnitMapping, UnitStats
    from sae_assets.artifacts.coalitions import CoalitionChoice
    from sae_assets.artifacts.controls import Controls
    from sae_assets.artifacts.localization import Localization
    from sae_assets.artifacts.pruning_audit import PruningAudit
    from sae_assets.artifacts.row_alignment import RowAlignment

COLOURS = {
    "kept": "#1b7f5c",
    "dead": "#bbbbbb",
    "rare": "#9ecae1",
    "dense": "#e6550d",
    "weak": "#c7b3e5",
    "over_target": "#fdd0a2",
}


def plot_unit_stats(stats: "UnitStats") -> str:
    """Return histogram of the density of units that fire, on a logarithmic axis."""
    import numpy as np

    figure, axes = new_axes(tall=True)
    density = stats.density[stats.n_active > 0].numpy()
    axis = axes[0, 0]
    if len(density):
        axis.hist(
            density, bins=np.geomspace(density.min(), max(density.max(), density.min() * 1.01), 40), color="#3182bd"
        )
        axis.set_xscale("log")
    dead = int((stats.n_active == 0).sum())
    axis.set_title(
        f"{len(density):,} of {stats.n_units:,} units fire on {stats.n_rows:,} cal rows ({dead:,} dead)", size=9
    )
    axis.set_xlabel("density (share of calibration rows)")
    axis.set_ylabel("units")
    return markdown(figure, "density histogram")


def plot_unit_mapping(stats: "UnitStats", mapping: "UnitMapping") -> str:
    """Return p99 against density, each unit by its reason, with the pruning limits as lines."""
    figure, axes = new_axes(tall=True)
    axis = axes[0, 0]
    for index, reason in enumerate(REASONS):
        chosen = (mapping.reasons == index) & (stats.n_active > 0)
        if bool(chosen.any()):
            label = f"{reason} ({int(chosen.sum()):,})"
            size = 14 if reason == "kept" else 6
            axis.scatter(
                stats.density[chosen], stats.p99[chosen], s=size, color=COLOURS[reason], label=label, zorder=size
            )
    axis.axvline(mapping.min_active / stats.n_rows, color="#555555", ls=":", lw=1)
    if mapping.max_active < stats.n_rows:
        axis.axvline(mapping.max_active / stats.n_rows, color="#555555", ls=":", lw=1)
    if mapping.strength_cutoff == mapping.strength_cutoff:
        axis.axhline(mapping.strength_cutoff, color="#555555", ls="--", lw=1)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("density (share of calibration rows)")
    axis.set_ylabel("p99 of the positive values")
    axis.set_title(f"{mapping.n_filtered:,} of {mapping.n_original:,} units kept ({mapping.mode})", size=9)
    axis.legend(fontsize=7, frameon=False)
    return markdown(figure, "pruning")


def plot_detection(stats: "DetectionStats", most: int = 12) -> str:
    """Return F1 against the tail fraction of the unit with each concept's best cal F1, on cal and test."""
    f1 = stats.f1.nan_to_num(-1.0)
    best = f1[0].amax(-1)
    names = range(len(stats.concepts)) if best.numel() else ()
    shown = [concept for concept in names if float(best[concept].max()) >= 0][:most]
    columns = min(3, max(len(shown), 1))
    figure, axes = new_axes(columns, -(-max(len(shown), 1) // columns))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, concept in zip(axes.flat, shown, strict=False):
        row = int(best[concept].argmax())
        axis.set_axis_on()
        axis.plot(stats.tail_fractions, stats.f1[0, concept, row], marker=".", color="#777777", label="cal")
        axis.plot(stats.tail_fractions, stats.f1[1, concept, row], marker="o", color="#1b7f5c", label="test")
        axis.set_ylim(0, 1.03)
        name = literal(shortened(stats.concepts[concept], LONGEST))
        axis.set_title(f"{name} — unit {int(stats.kept_units[row])}", size=9)
        axis.set_xlabel("tail fraction")
        axis.set_ylabel("F1")
    if shown:
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return markdown(figure, "F1 against tail fraction", [stats.concepts[concept] for concept in shown])


def plot_best_pairs(best: "BestPairs", most: int = 12) -> str:
    """Test F1 of each concept's pair with its interval, beside shuffled labels and calling every example positive."""
    import numpy as np

    shown = [index for index, exists in enumerate(best.two_classes[1].tolist()) if exists][:most]
    figure, axes = new_axes(tall=len(shown) > 6)
    axis = axes[0, 0]
    if not shown:
        axis.set_axis_off()
        axis.set_title("No concept has positive and negative test examples: there are no figures", size=9)
        return markdown(figure, "test F1")
    places, numbers = np.arange(len(shown)), np.array(shown)
    low, high = best.test_interval.numpy()[numbers].T
    axis.hlines(places, low, high, color="#1b7f5c", lw=2, alpha=0.5)
    bars = (
        (best.always_positive_f1[1], "#e6550d", "|", "always positive"),
        (best.null_f1[1, :, 1], "#777777", "|", "shuffled labels, 95 %"),
        (best.rate("f1")[1], "#1b7f5c", "o", "test F1, 95 % interval"),
    )
    for values, colour, marker, label in bars:
        axis.scatter(values.numpy()[numbers], places, s=60 if marker == "|" else 30, color=colour, marker=marker,
                     label=label, zorder=3)  # fmt: skip
    units = [f"unit {unit}" if unit >= 0 else "no unit" for unit in best.unit_ids[numbers].tolist()]
    names = [best.concepts[number] for number in shown]
    name_rows(axis, places, names, units)
    legend_below(figure, 3)
    return markdown(figure, "test F1", names)


def plot_row_alignment(alignment: "RowAlignment", most: int = 12) -> str:
    """Return row precision, recall and F1 on test of each concept's best unit by cal rows, with the interval of the
    F1."""
    import numpy as np

    best = [(name, pair) for name, pair in zip(alignment.concepts, alignment.best.tolist(), strict=True) if pair >= 0]
    figure, axes = new_axes(tall=len(best) > 6)
    axis = axes[0, 0]
    if not best:
        axis.set_axis_off()
        axis.set_title("No concept is located: there are no row figures", size=9)
        return markdown(figure, "row alignment")
    shown = best[:most]
    pairs, places = np.array([pair for _, pair in shown]), np.arange(len(shown))
    rates = (("precision", "#9ecae1", "s"), ("recall", "#fdd0a2", "D"), ("f1", "#1b7f5c", "o"))
    for name, colour, marker in rates:
        values = alignment.rate(name)[1].numpy()[pairs]
        axis.scatter(
            values, places, color=colour, marker=marker, label=f"row {name.replace('f1', 'F1')} (test)", zorder=3
        )
    numbers = [alignment.concepts.index(name) for name, _ in shown]
    low, high = alignment.intervals.numpy()[numbers].T
    axis.hlines(places, low, high, color="#1b7f5c", lw=2, alpha=0.5)
    names = [name for name, _ in shown]
    name_rows(axis, places, names, [f"unit {int(alignment.unit_ids[pair])}" for _, pair in shown])
    legend_below(figure, 3)  # a poor unit's marks lie at the left
    return markdown(figure, "row alignment", names)


def plot_localization(localization: "Localization", most: int = 12) -> str:
    """Return row F1 on test of each located concept by every method, with its interval, and that of whole examples."""
    import numpy as np

    whole = localization.whole_rate("f1")[1].numpy()
    shown = np.flatnonzero(~np.isnan(whole))[:most]
    figure, axes = new_axes(tall=len(shown) > 6)
    axis = axes[0, 0]
    if not len(shown):
        axis.set_axis_off()
        axis.set_title("No concept is located: there are no row figures", size=9)
        return markdown(figure, "localization")
    places, f1 = np.arange(len(shown)), localization.rate("f1")[:, 1].numpy()
    axis.scatter(whole[shown], places, color="#e6550d", marker="|", s=90, label="all rows of detected examples")
    methods = (("superactivators", "#bbbbbb", "s"), ("regular", "#9ecae1", "D"), ("two-stage", "#1b7f5c", "o"))
    for number, (name, colour, marker) in enumerate(methods):
        height = places + (number - 1) * 0.2
        axis.scatter(f1[number, shown], height, color=colour, marker=marker, label=name, zorder=3)
        axis.hlines(height, *localization.intervals[number].numpy()[shown].T, color=colour, lw=2, alpha=0.5)
    names = [localization.concepts[number] for number in shown]
    name_rows(axis, places, names, measure="row F1 (test)")
    legend_below(figure, 4)
    return markdown(figure, "localization", names)


def plot_pruning_audit(audit: "PruningAudit", most: int = 12) -> str:
    """Return cal F1 of each concept's best unit of all and of the best that is kept, and the rule that removed the
    former."""
    import numpy as np

    names = audit.concepts[:most]
    figure, axes = new_axes(tall=len(names) > 6)
    axis, places = axes[0, 0], np.arange(len(names))
    best, of_kept = (audit.f1[index, 0, : len(names)].numpy() for index in (0, 1))
    axis.hlines(places, of_kept, best, color="#e6550d", lw=3)
    axis.scatter(best, places, color="#777777", marker="o", s=30, label="best of all units", zorder=3)
    axis.scatter(of_kept, places, color="#1b7f5c", marker="|", s=120, label="best of those that are kept", zorder=4)
    rules = [audit.removed_by(number) or "kept" for number in range(len(names))]
    name_rows(axis, places, names, rules, "F1 on cal")
    legend_below(figure, 2)
    return markdown(figure, "pruning audit", names)


def plot_coalitions(coalitions: "CoalitionChoice", most: int = 12) -> str:
    """Test F1 of the units that stand for each concept together, with its interval, beside that of the single unit."""
    import numpy as np

    names = coalitions.concepts[:most]
    figure, axes = new_axes(tall=len(names) > 6)
    axis, places = axes[0, 0], np.arange(len(names))
    together, difference = coalitions.f1[2, : len(names)].numpy(), coalitions.differences[: len(names), 0].numpy()
    low, high = coalitions.intervals[: len(names)].numpy().T
    axis.hlines(places, low, high, color="#1b7f5c", lw=2, alpha=0.5)
    axis.scatter(together - difference, places, color="#777777", marker="|", s=120, label="single unit", zorder=3)
    axis.scatter(together, places, color="#1b7f5c", s=30, label="together, 95 % interval", zorder=4)
    members = [f" {coalitions.rule(number) or ''} ".join(map(str, coalitions.members(number)))
               for number in range(len(names))]  # fmt: skip
    name_rows(axis, places, names, [units or "no unit" for units in members], "F1 on test")
    legend_below(figure, 2)
    return markdown(figure, "coalitions", names)


CONTROL_COLOURS = {
    "random_sae": "#bbbbbb",
    "diffmean": "#9ecae1",
    "diffmean_max": "#4d7ea8",
    "logistic": "#3182bd",
    "logistic_units": "#fdd0a2",
    "k_sparse": "#e6550d",
    "embedding_dims": "#c7b3e5",
}


def plot_controls(controls: "Controls", most: int = 12) -> str:
    """Test F1 of each concept's unit with its interval, beside that of every control; random SAEs one by one."""
    import numpy as np

    shown = min(len(controls.concepts), most)
    figure, axes = new_axes(tall=shown > 6)
    axis, places = axes[0, 0], np.arange(shown)
    for number, (level, name, seed) in enumerate(controls.detectors):
        values = controls.f1[number, :shown].numpy()
        if level != "examples":
            continue
        if name == "unit":
            low, high = controls.intervals[number, :shown].numpy().T
            axis.hlines(places, low, high, color="#1b7f5c", lw=2, alpha=0.5)
            axis.scatter(values, places, color="#1b7f5c", s=60, label="unit of the SAE", zorder=4)
        else:
            axis.scatter(
                values, places, color=CONTROL_COLOURS[name], marker="|" if name == "random_sae" else "D", s=30,
                label=name if not seed else None, zorder=3,
            )  # fmt: skip
    name_rows(axis, places, controls.concepts[:shown], measure="F1 on test")
    legend_below(figure, 8)
    return markdown(figure, "controls", controls.concepts[:shown])
