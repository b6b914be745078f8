"""Drawings of pages as inline SVG: text is text, colours are the page's own, so that one drawing does for both themes.

Numbers along an axis are in the figures' own unit; what is drawn carries its figure as ``data-`` attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from markupsafe import Markup

from sae_assets.pages.figures import figure

GLYPH = (160, 22)  # pixels


@dataclass(frozen=True)
class Evidence:
    """A glyph shows an F1 with its interval, beside what chance, random SAEs and other detectors reach.

    Attributes:
        value: the F1; low, high: its interval; chance: what has to be exceeded, 0 to there is a band.
        random: mean of random SAEs; random_range: their lowest and highest; other: the best other detector.
        drawn: attributes of the F1.
    """

    value: float | None
    low: float | None
    high: float | None
    chance: float | None = None
    random: float | None = None
    random_range: tuple[float, float] | None = None
    other: float | None = None
    other_name: str = ""
    drawn: str = ""

    @property
    def clear(self) -> bool:
        """Return whether the interval lies above chance and random SAEs."""
        bars = [bar for bar in (self.chance, self.random) if bar is not None]
        return self.low is not None and bool(bars) and self.low > max(bars)

    @property
    def words(self) -> str:
        """Return all of it as text."""
        parts = [f"F1 {figure(self.value)}"]
        parts += [f"95 % {figure(self.low)} to {figure(self.high)}"] if self.low is not None else []
        parts += [f"chance {figure(self.chance)}"] if self.chance is not None else []
        parts += [f"random SAEs {figure(self.random)}"] if self.random is not None else []
        parts += [f"{self.other_name} {figure(self.other)}"] if self.other is not None else []
        return ", ".join(parts)


def glyph(evidence: Evidence) -> Markup:
    """Return a line from 0 to 1 with a dot at the F1; filled where its interval lies above chance and random SAEs."""
    width, height = GLYPH
    middle, left, room = height / 2, 6, width - 12

    def x(value: float) -> float:
        return round(left + room * value, 1)

    parts = [f'<line class="axis" x1="{left}" x2="{left + room}" y1="{middle}" y2="{middle}"/>']
    if evidence.chance is not None:
        parts.insert(0, f'<rect class="band" x="{left}" y="3" width="{room * evidence.chance:.1f}" height="16"/>')
    if evidence.random is not None:
        if evidence.random_range is not None:
            low, high = map(x, evidence.random_range)
            parts.append(f'<line class="tick" x1="{low}" x2="{high}" y1="{middle + 6}" y2="{middle + 6}"/>')
        at = x(evidence.random)
        parts.append(f'<line class="tick" x1="{at}" x2="{at}" y1="4" y2="18"/>')
    if evidence.other is not None:
        at = x(evidence.other)
        parts.append(
            f'<path class="other" d="M{at} {middle - 5}l5 5l-5 5l-5 -5z"/>',
        )
    if evidence.low is not None and evidence.high is not None:
        parts.append(
            f'<line class="interval" x1="{x(evidence.low)}" x2="{x(evidence.high)}" y1="{middle}" y2="{middle}"/>'
        )
    if evidence.value is not None:
        kind = "dot clear" if evidence.clear else "dot"
        parts.append(f'<circle class="{kind}" cx="{x(evidence.value)}" cy="{middle}" r="4.5" {evidence.drawn}/>')
    return _svg(width, height, evidence.words, parts, "glyph")


def legend(controls: bool) -> Markup:
    """Return what the parts of a glyph mean, with those that stand for controls or without."""
    return glyph(Evidence(0.8, 0.7, 0.88, 0.35, *((0.52, (0.45, 0.6), 0.66) if controls else ())))


def bars(rows: Sequence[tuple[str, float | None, float | None, float | None, Markup]]) -> Markup:
    """Return horizontal bars from 0 to 1: label, value, interval and attributes of each; the first is the unit's."""
    height, left, room = 24, 148, 180
    parts: list[str] = []
    for number, (label, value, low, high, drawn) in enumerate(rows):
        y = height * number
        parts.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{Markup.escape(label)}</text>')
        if value is None:
            parts.append(f'<text x="{left}" y="{y + 16}">–</text>')
            continue
        kind = "bar own" if number == 0 else "bar"
        parts.append(f'<rect class="{kind}" x="{left}" y="{y + 5}" width="{room * value:.1f}" height="14" {drawn}/>')
        end = value
        if low is not None and high is not None:
            x1, x2, end = left + room * low, left + room * high, max(value, high)
            parts.append(f'<line class="interval" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y + 12}" y2="{y + 12}"/>')
        parts.append(f'<text x="{left + room * end + 6:.1f}" y="{y + 16}">{figure(value)}</text>')
    words = ", ".join(f"{label} {figure(value)}" for label, value, *_ in rows)
    return _svg(left + room + 52, height * len(rows), words, parts, "plot")


def lines(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    across: str,
    up: str,
    marked: tuple[float, str] | None = None,
) -> Markup:
    """Return curves by name over one axis, y from 0 to 1; a vertical line where ``marked`` says, with its words."""
    width, height, left, top, bottom = 440, 230, 44, 14, 36
    right = width - 60
    points = [point for curve in curves.values() for point in curve]
    most = max([x for x, _ in points] + [marked[0] if marked else 0]) or 1.0

    def pixels(x: float, y: float) -> str:
        return f"{left + (right - left) * x / most:.1f} {height - bottom - (height - bottom - top) * y:.1f}"

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = pixels(0, tick).split()[1]
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in ticks(most):
        x = pixels(tick, 0).split()[0]
        parts.append(f'<text x="{x}" y="{height - bottom + 16}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{(left + right) / 2}" y="{height - 4}" text-anchor="middle">{Markup.escape(across)}</text>')
    parts.append(f'<text x="{left - 36}" y="{top - 3}">{Markup.escape(up)}</text>')
    ends: list[float] = []
    for number, (name, curve) in enumerate(curves.items()):
        if not curve:
            continue
        path = "L".join(pixels(x, y) for x, y in curve)
        parts.append(f'<path class="curve c{number}" d="M{path}"/>')
        at = float(pixels(*curve[-1]).split()[1])
        while any(abs(at - other) < 14 for other in ends):
            at -= 14
        ends.append(at)
        parts.append(f'<text class="c{number}" x="{right + 4}" y="{at + 4:.1f}">{Markup.escape(name)}</text>')
    if marked is not None:
        x = pixels(marked[0], 0).split()[0]
        anchor = "end" if float(x) > (left + right) / 2 else "start"
        parts.append(f'<line class="chosen" x1="{x}" x2="{x}" y1="{top}" y2="{height - bottom}"/>')
        shift = -4 if anchor == "end" else 4
        label = Markup.escape(marked[1])
        parts.append(
            f'<text x="{float(x) + shift:.1f}" y="{height - bottom - 6}" text-anchor="{anchor}">{label}</text>'
        )
    return _svg(width, height, f"{up} against {across}: {', '.join(curves)}", parts, "plot")


def funnel(counts: Sequence[tuple[str, int, Markup]]) -> Markup:
    """Return one bar of parts that make a whole, each with its count; labels below, so that small parts have theirs
    too."""
    total, width, x = sum(count for _, count, _ in counts) or 1, 640.0, 0.0
    parts = []
    for number, (name, count, drawn) in enumerate(counts):
        if not count:
            continue
        room = max(2.0, width * count / total)
        title = f"<title>{Markup.escape(name)}: {count:,}</title>"
        parts.append(
            f'<rect class="part p{number}" x="{x:.1f}" y="0" width="{room:.1f}" height="26" {drawn}>{title}</rect>'
        )
        x += room
    words = ", ".join(f"{name} {count:,}" for name, count, _ in counts)
    return _svg(max(width, x), 26, words, parts, "funnel")


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float]]],
    named: Sequence[tuple[float, float, str, str]],
    cuts: Sequence[tuple[str, float]],
    *,
    across: str,
    up: str,
) -> Markup:
    """Return points on two logarithmic axes by group, some named (x, y, name, link), and cuts (``x`` or ``y``, where).

    A name for which there is no room beside the others is left out; its point stays.
    """
    width, height, left, top, bottom, right = 480, 300, 44, 20, 40, 468
    points = [point for group in groups.values() for point in group]
    if not points:
        return Markup("")
    xs, ys = ([log10(point[axis]) for point in points] for axis in (0, 1))
    low, high = (floor(min(xs)), max(xs) + 0.1), (min(ys) - 0.1, max(ys) + 0.1)

    def pixels(x: float, y: float) -> tuple[float, float]:
        across_share = (log10(x) - low[0]) / max(low[1] - low[0], 1e-9)
        up_share = (log10(y) - high[0]) / max(high[1] - high[0], 1e-9)
        return round(left + (right - left) * across_share, 1), round(
            height - bottom - (height - bottom - top) * up_share, 1
        )

    parts = []
    for power in range(int(low[0]), int(low[1]) + 1):
        x, _ = pixels(10.0**power, 10 ** high[0])
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text x="{x}" y="{height - bottom + 16}" text-anchor="middle">{10.0**power:g}</text>')
    for tick in _decades(10 ** high[0], 10 ** high[1]):
        _, y = pixels(10 ** low[0], tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{tick:g}</text>')
    for number, group in enumerate(groups.values()):
        dots = "".join("M{} {}h.1".format(*pixels(x, y)) for x, y in group)
        parts.append(f'<path class="dots g{number}" d="{dots}"/>')
    for axis, at in cuts:
        share = log10(at) if at > 0 else None
        if share is None or not (low if axis == "x" else high)[0] <= share <= (low if axis == "x" else high)[1]:
            continue
        x, y = pixels(at if axis == "x" else 10 ** low[0], at if axis == "y" else 10 ** high[0])
        ends = (x, x, top, height - bottom) if axis == "x" else (left, right, y, y)
        parts.append('<line class="chosen" x1="{}" x2="{}" y1="{}" y2="{}"/>'.format(*ends))
    taken = [(*pixels(x, y), POINT) for x, y, _, _ in named]
    parts += [f'<circle class="named" cx="{x}" cy="{y}" r="{POINT:g}"/>' for x, y, _ in taken]
    for (x, y, _), (_, _, name, link) in zip(list(taken), named, strict=True):
        half = DIGIT * len(name) / 2
        label_at = next((each for each in _around(x, y) if _is_free(each, half, taken)), None)
        if label_at is None:
            continue
        taken.append((*label_at, half))
        label = (
            f'<text x="{label_at[0]:.1f}" y="{label_at[1] + 4:.1f}" text-anchor="middle">{Markup.escape(name)}</text>'
        )
        parts.append(f'<a href="{Markup.escape(link)}">{label}</a>')
    parts.append(f'<text x="{(left + right) / 2}" y="{height - 6}" text-anchor="middle">{Markup.escape(across)}</text>')
    parts.append(f'<text x="0" y="{top - 4}">{Markup.escape(up)}</text>')
    return _svg(width, height, f"{up} against {across}", parts, "plot wide")


def histogram(counts: Sequence[int], edges: Sequence[float], marked: float | None = None) -> Markup:
    """Return counts in equal parts from 0, and a line where ``marked`` says."""
    width, height, left, bottom = 440, 150, 20, 30
    room, tallest, most = width - 2 * left, max(counts) or 1, edges[-1]
    step = room / len(counts)
    parts = []
    for number, count in enumerate(counts):
        tall = (height - bottom - 10) * count / tallest
        title = f"<title>{count:,} from {figure(edges[number])} to {figure(edges[number + 1])}</title>"
        x, y = left + step * number, height - bottom - tall
        parts.append(
            f'<rect class="bar own" x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{tall:.1f}">{title}</rect>'
        )
    if marked is not None and marked <= most:
        x = left + room * marked / most
        parts.append(f'<line class="chosen" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{height - bottom}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - bottom + 16}" text-anchor="middle">{figure(marked)}</text>')
    parts.append(f'<text x="{left}" y="{height - bottom + 16}">0</text>')
    parts.append(f'<text x="{width - left}" y="{height - bottom + 16}" text-anchor="end">{figure(most)}</text>')
    return _svg(width, height, "Histogram of its values", parts, "plot")


def ticks(most: float) -> list[float]:
    """Return three to six round numbers from 0 to the largest."""
    step = 10.0 ** floor(log10(most))
    for size in (step / 5, step / 2, step, 2 * step):
        if most / size <= 5:
            break
    return [round(size * number, 10) for number in range(int(most / size + 1e-9) + 1)]


POINT, DIGIT = 4.0, 7.8  # pixels: radius of a named point, width of a digit


def _around(x: float, y: float) -> Iterator[tuple[float, float]]:
    """Yield places for a label beside a point, the nearest first."""
    for far in (14, 22, 30, 40, 52):
        for across, up in ((1, 0), (-1, 0), (0.8, -0.7), (-0.8, -0.7), (0.8, 0.7), (-0.8, 0.7)):
            yield x + across * far, y + up * far


def _is_free(at: tuple[float, float], half: float, taken: Sequence[tuple[float, float, float]]) -> bool:
    """Return whether a label has this place for itself, beside what is taken: middles, and half of the widths."""
    return at[1] > 14 and not any(abs(at[0] - x) < half + other + 1 and abs(at[1] - y) < 13 for x, y, other in taken)


def _decades(low: float, high: float) -> list[float]:
    """Round numbers, 1, 2 and 5 in each decade, within two numbers."""
    powers = range(floor(log10(low)), floor(log10(high)) + 1)
    return [tick for power in powers for tick in (10.0**power, 2 * 10.0**power, 5 * 10.0**power) if low <= tick <= high]


def _svg(width: float, height: float, words: str, parts: Sequence[Any], kind: str) -> Markup:
    head = Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img"><title>{}</title>')
    return head.format(kind, width, height, words) + Markup("".join(map(str, parts)) + "</svg>")
