"""Pictures so small that Dagster's UI shows them in its table of metadata, without a click: SVG within Markdown.

The UI shows Markdown of fewer than 1,000 characters at once, and longer one behind a link. So these are drawn by hand:
bars of a histogram, or a line per concept with a dot for its figure; of many concepts those that there is room for.
Colours are read on white and on the UI's dark page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from sae_assets.artifacts import REASONS
from sae_assets.pipeline.drawing import INK

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.artifacts import BestPairs, DetectionStats, GroundTruth, Labels, Thresholds, UnitMapping, UnitStats
    from sae_assets.artifacts.chosen_pairs import ChosenPairs
    from sae_assets.artifacts.coalitions import CoalitionChoice
    from sae_assets.artifacts.controls import Controls
    from sae_assets.artifacts.localization import Localization
    from sae_assets.artifacts.pruning_audit import PruningAudit
    from sae_assets.artifacts.row_alignment import RowAlignment
    from sae_assets.artifacts.rows import SparseRows
    from sae_assets.artifacts.unit_rows import UnitRows

MOST = 999  # characters
DOTS, TICKS, BLOCKS = "seagreen", "gray", "steelblue"  # names are shorter than numbers
# Pixels: of a picture (what the UI leaves beside long names in a window of 1440), where axes begin, of a line, of bars.
WIDTH, LEFT, LINE, TALL = 432, 190, 17, 64
BARS = 24
ROOM = 20  # lines at most, for each takes 50 characters and more
LONGEST = 22  # characters of a concept's name


@dataclass(frozen=True)
class ConceptFigure:
    """A concept with a figure from 0 to 1, and where there are: its interval, and another figure to compare with."""

    name: str
    value: float
    interval: tuple[float, float] | None = None
    beside: float | None = None


def lines(title: str, rows: Sequence[ConceptFigure], beside: str = "") -> str:
    """Return a dot for each concept's figure, a line for its interval, a tick for what stands ``beside``; without
    NaN."""
    figures = [row for row in rows if row.value == row.value]
    for count in range(min(len(figures), ROOM), -1, -1):
        suffix = f", first {count} of {len(figures)}" if count < len(figures) else ""
        picture = _lines(f"{title}{f'; | {beside}' if beside else ''}{suffix}", figures[:count])
        if len(picture) <= MOST:
            break
    return picture


def _lines(title: str, rows: Sequence[ConceptFigure]) -> str:
    names, dots, intervals, ticks = [], [], [], []
    for number, row in enumerate(rows):
        y = LINE * (number + 2) - 5
        name = row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…"
        names.append(f"<text y='{y + 4}'>{row.value:.2f} {escape(name)}</text>")
        dots.append(f"M{_place(row.value)},{y}h0")
        if row.interval and row.interval[0] == row.interval[0]:
            low, high = map(_place, row.interval)
            intervals.append(f"M{low},{y}H{high}")
        if row.beside is not None and row.beside == row.beside:
            ticks.append(f"M{_place(row.beside)},{y - 6}v12")
    height = LINE * (len(rows) + 1) + 3
    axis = f"M{LEFT},{LINE}V{height}M{WIDTH - 9},{LINE}V{height}"
    content = [
        f"<path d='{axis}{''.join(ticks)}' stroke='{TICKS}'/>",
        f"<g stroke='{DOTS}' stroke-linecap='round'><path d='{''.join(intervals)}' stroke-width='2'/>"
        f"<path d='{''.join(dots)}' stroke-width='9'/></g>",
    ]
    return _markdown(title, height, "".join([*content, *names]))


def _place(value: float) -> int:
    return round(LEFT + min(max(value, 0.0), 1.0) * (WIDTH - 9 - LEFT))


def bars(title: str, counts: "np.ndarray", low: float, high: float) -> str:
    """Return a histogram: equal parts from ``low`` to ``high`` (or equal factors, if the caller says so in the
    title)."""
    width = WIDTH // BARS
    heights = [round(TALL * count / max(counts.max(), 1)) or int(count > 0) for count in counts.tolist()]
    path = "".join(f"v-{height}h{width}v{height}" if height else f"h{width}" for height in heights)
    floor = LINE + TALL + 3
    content = f"<path d='M0,{floor}{path}' fill='{BLOCKS}'/><text y='{floor + 13}'>{low:.3g}</text>"
    content += f"<text x='{WIDTH}' y='{floor + 13}' text-anchor='end'>{high:.3g}</text>"
    return _markdown(title, floor + LINE, content)


def histogram(title: str, values: "np.ndarray") -> str:
    """Return values above 0 in parts of equal factors."""
    import numpy as np

    if not len(values):
        return _markdown(title, LINE + 3, "")
    logs = np.log(values)
    counts, _ = np.histogram(logs, BARS, (logs.min(), logs.max()))
    return bars(title, counts, float(values.min()), float(values.max()))


def _markdown(title: str, height: int, content: str) -> str:
    svg = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}'"
    svg += f" style='font:12px sans-serif' fill='{INK}'><text y='12'>{escape(title)}</text>{content}</svg>"
    return f"![{title.partition(';')[0]}](data:image/svg+xml,{quote(svg, safe='<>/:=,;!|+*')})"


def share_of_rows(title: str, concepts: Sequence[str], counts: Sequence[int], n_rows: int) -> str:
    """Draw for each concept the share of rows or examples that show it."""
    return lines(
        title, [ConceptFigure(name, count / max(n_rows, 1)) for name, count in zip(concepts, counts, strict=True)]
    )


def glance_at_labels(labels: "Labels") -> str:
    positive = labels.labels.sum(0).tolist()
    return share_of_rows(f"share of {len(labels):,} examples", labels.concepts, positive, len(labels))


def glance_at_ground_truth(truth: "GroundTruth") -> str:
    positive = truth.concept_ids.bincount(minlength=len(truth.concepts)).tolist()
    return share_of_rows(f"share of {truth.n_rows:,} rows", truth.concepts, positive, truth.n_rows)


def glance_at_activations(rows: "SparseRows") -> str:
    values, mean = rows.values.numpy(), len(rows.values) / max(rows.n_rows, 1)
    return histogram(f"{len(values):,} values on {rows.n_rows:,} rows, {mean:.1f} a row; log scale", values)


def glance_at_unit_rows(units: "UnitRows") -> str:
    counts = units.unit_offsets.diff().numpy()
    fires = counts[counts > 0]
    return histogram(f"rows of each of {len(fires):,} units that fire, of {units.n_rows:,}; log scale", fires)


def glance_at_unit_stats(stats: "UnitStats") -> str:
    density = stats.density[stats.n_active > 0].numpy()
    dead = int((stats.n_active == 0).sum())
    return histogram(f"density of {len(density):,} units that fire, {dead:,} are dead; log scale", density)


def glance_at_unit_mapping(mapping: "UnitMapping") -> str:
    """Return shares of units by what became of them."""
    counts = mapping.reasons.bincount(minlength=len(REASONS)).tolist()
    title = f"{mapping.n_filtered:,} of {mapping.n_original:,} units are kept; share by reason"
    counted = zip(REASONS, counts, strict=True)
    return lines(title, [ConceptFigure(f"{reason} ({n:,})", n / max(mapping.n_original, 1)) for reason, n in counted])


def glance_at_pruning_audit(audit: "PruningAudit") -> str:
    best, of_kept = (audit.f1[index, 0].tolist() for index in (0, 1))
    rows = [ConceptFigure(*row) for row in zip(audit.concepts, of_kept, [None] * len(of_kept), best, strict=True)]
    return lines("cal F1 of the best unit that is kept", rows, "of all units")


def glance_at_thresholds(thresholds: "Thresholds") -> str:
    """Return cut-offs of concepts' units at the tail fraction in the middle."""
    middle = len(thresholds.tail_fractions) // 2
    cutoffs = thresholds.values[:-1, :, middle : middle + 1].flatten()
    valid = cutoffs[~cutoffs.isnan()].numpy()
    shares = thresholds.tail_fractions[middle : middle + 1]
    return histogram(f"{len(valid):,} cut-offs{''.join(f' at tail {share:g}' for share in shares)}; log scale", valid)


def glance_at_chosen_pairs(chosen: "ChosenPairs") -> str:
    """Draw what each threshold was taken from, behind the number of the unit."""
    exact = chosen.selection == "exact"
    rows = zip(chosen.unit_ids.tolist(), chosen.concepts, chosen.tail_fractions.tolist(), strict=True)
    shown = [ConceptFigure(f"#{unit} {name}", share) for unit, name, share in rows if unit >= 0]
    return lines(f"share of {'cal positives' if exact else 'values on their rows'} that reaches the threshold", shown)


def glance_at_detection(stats: "DetectionStats") -> str:
    f1 = stats.f1.nan_to_num(-1.0).flatten(2)
    rows = []
    for number, name in enumerate(stats.concepts if f1.numel() else ()):
        best = int(f1[0, number].argmax())
        cal, test = (float(f1[split, number, best]) for split in (0, 1))
        if min(cal, test) >= 0:
            rows.append(ConceptFigure(name, test, None, cal))
    return lines("test F1 of the unit and tail that are best on cal", rows, "cal")


def glance_at_best_pairs(best: "BestPairs") -> str:
    test, chance = best.rate("f1")[1].tolist(), best.null_f1[1, :, 1].tolist()
    rows = zip(best.concepts, test, best.test_interval.tolist(), chance, best.two_classes[1].tolist(), strict=True)
    shown = [
        ConceptFigure(name, value, (ends[0], ends[1]), beside) for name, value, ends, beside, exists in rows if exists
    ]
    return lines("test F1", shown, "shuffled labels, 95 %")


def glance_at_row_alignment(alignment: "RowAlignment") -> str:
    test, ends = alignment.rate("f1")[1].tolist(), alignment.intervals.tolist()
    rows = [
        ConceptFigure(name, test[pair], (ends[number][0], ends[number][1]))
        for number, (name, pair) in enumerate(zip(alignment.concepts, alignment.best.tolist(), strict=True))
        if pair >= 0
    ]
    return lines("test F1 on rows of the unit that is best on cal", rows)


def glance_at_localization(localization: "Localization") -> str:
    whole, f1 = localization.whole_rate("f1")[1].tolist(), localization.rate("f1")[-1, 1].tolist()
    ends = localization.intervals[-1].tolist()
    rows = [
        ConceptFigure(name, f1[n], (ends[n][0], ends[n][1]), whole[n]) for n, name in enumerate(localization.concepts)
    ]
    return lines("two-stage test F1 on rows", rows, "whole examples")


def glance_at_coalitions(coalitions: "CoalitionChoice") -> str:
    together, ends = coalitions.f1[2], coalitions.intervals.tolist()
    single = (together - coalitions.differences[:, 0]).tolist()
    rows = zip(coalitions.concepts, together.tolist(), ends, single, strict=True)
    return lines(
        "test F1 together", [ConceptFigure(name, f1, (low, high), one) for name, f1, (low, high), one in rows], "single"
    )


def glance_at_controls(controls: "Controls") -> str:
    """Return the unit beside the best control that is no SAE."""
    import numpy as np

    f1, names = controls.f1.numpy(), [name if level == "examples" else "" for level, name, _ in controls.detectors]
    unit = names.index("unit")
    others = [number for number, name in enumerate(names) if name not in ("", "unit", "random_sae")]
    best = np.nan_to_num(f1[others], nan=-1.0).max(0, initial=-1.0)
    ends = controls.intervals[unit].tolist()
    rows = zip(controls.concepts, f1[unit].tolist(), ends, np.where(best < 0, np.nan, best).tolist(), strict=True)
    shown = [ConceptFigure(name, value, (low, high), beside) for name, value, (low, high), beside in rows]
    return lines("test F1 of the unit", shown, "best control without SAE")
