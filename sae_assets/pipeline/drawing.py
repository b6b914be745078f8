"""An inline picture has axes of the UI's size, ink for both of its themes, and is Markdown with the PNG inside."""

import base64
import io
from collections.abc import Iterator, Sequence
from typing import Any

from sae_assets.pipeline.lettering import drawable, lettering_of
from sae_assets.wording import shortened

INK = "#787878"  # contrast 4.4 on white, 4.6 on the page of the UI's dark theme
WIDTH, HEIGHT, DPI = 1000, 330, 100  # pixels: the UI's dialog shows 1,100 and does not scale
LONGEST = 40  # letters of a name beside a row, which leave room for the row


def new_axes(columns: int = 1, rows: int = 1, *, tall: bool = False, fitted: bool = True) -> tuple[Any, Any]:
    """Return figure and axes; ``fitted`` leaves room for whatever labels there are, in two more passes of drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (WIDTH / DPI, HEIGHT * rows * (1.4 if tall else 1) / DPI)
    figure = Figure(figsize=size, layout="constrained" if fitted else None)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _in_both_themes(figure: Any) -> None:
    """No background, and text and lines in a grey that is read on white and on the UI's dark page."""
    figure.patch.set_alpha(0)
    for text in _texts(figure):
        if text.get_color() == "black":  # of those that were given another one it says something
            text.set_color(INK)
    for axis in figure.axes:
        axis.set_facecolor("none")
        axis.tick_params(which="both", color=INK, labelcolor=INK)
        for spine in axis.spines.values():
            spine.set_color(INK)


def _texts(figure: Any) -> Iterator[Any]:
    """Yield all texts but labels of ticks, which matplotlib would make in order to list them: a quarter of a
    picture."""
    legends = [*figure.legends]
    yield from (*figure.texts, *filter(None, (figure._suptitle, figure._supxlabel, figure._supylabel)))
    for axis in figure.axes:
        legends += filter(None, [axis.get_legend()])
        yield from (axis.title, axis._left_title, axis._right_title, *axis.texts)
        for each in (axis.xaxis, axis.yaxis):
            yield from (each.label, each.get_offset_text())
    for legend in legends:
        yield from (legend.get_title(), *legend.get_texts())


def literal(name: str) -> str:
    """Return a name as matplotlib shows it literally: two dollar signs would make a formula of what is between them,
    and a letter that no font has would be a box."""
    return drawable(name).replace("$", r"\$")


def markdown(figure: Any, title: str, names: Sequence[str] = ()) -> str:
    """Return the picture, in fonts that have the letters of these ``names``; below it, which letters none of them
    has."""
    _in_both_themes(figure)
    lettering = lettering_of(names)
    if lettering.families:
        for text in _texts(figure):
            text.set_fontfamily(lettering.families)
        for axis in figure.axes:
            axis.tick_params(labelfontfamily=lettering.families)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    picture = f"![{title}](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
    return f"{picture}\n\n{lettering.note}" if lettering.note else picture


def name_rows(
    axis: Any, places: Any, names: Sequence[str], details: Sequence[str] = (), measure: str | None = None
) -> None:
    """One row per concept, the first on top, of a figure from 0 to 1, with ``details`` behind the name if there are
    any; ``measure`` where the axis has no title yet."""
    labels = [literal(shortened(name, LONGEST)) for name in names]
    if details:
        labels = [f"{label} — {detail}" for label, detail in zip(labels, details, strict=True)]
    axis.set_yticks(places, labels, size=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.03)
    if measure:
        axis.set_xlabel(measure)


def legend_below(figure: Any, columns: int) -> None:
    """Below the axes, where no mark is hidden."""
    figure.legend(loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
