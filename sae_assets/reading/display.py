"""Results and units as notebooks show them; what was not made, or is not on this machine, is left out."""

from html import escape
from typing import TYPE_CHECKING

from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import SaeAssetsError
from sae_assets.pages.pictures import image_element, overlaid
from sae_assets.reading.tables import Table
from sae_assets.wording import counted

if TYPE_CHECKING:
    from sae_assets.reading.results import Results
    from sae_assets.reading.unit import TopExample, Unit

PAIRS = ("concept", "unit_id", "threshold", "test_f1", "test_f1_low", "test_f1_high", "test_q")
WIDEST = 320  # pixels of a picture
N_EXAMPLES = 3


def results_html(results: "Results") -> str:
    """Name and best pairs of a results, or the command that makes these."""
    name = f"<p><b>{escape(str(results))}</b></p>"
    if not results.has("best_pairs"):
        making = escape(results.address("best_pairs").making)
        return f"{name}<p>Its best pairs have not been made. Run: <code>{making}</code></p>"
    return name + Table(results.best_pairs().to_arrow().select(list(PAIRS)))._repr_html_()


def unit_html(unit: "Unit") -> str:
    """Return what a unit was chosen for, its statistics, and the examples with its largest values, marked where it
    fires."""
    import pyarrow as pa

    parts = [f"<p><b>{escape(str(unit))}</b>: it fires on {counted(unit.n_rows, 'row')}.</p>"]
    if unit.results.has("best_pairs") and (pairs := unit.pairs()):
        parts.append(Table(pa.Table.from_pylist(pairs).select(list(PAIRS)))._repr_html_())
    if unit.results.has("unit_stats"):
        parts.append(Table(pa.Table.from_pylist([unit.stats()]))._repr_html_())
    for one in unit.top_examples(N_EXAMPLES):
        caption = f"{one.example_id}: {one.value:.4g} at most, on {counted(one.n_rows, 'row')}"
        parts.append(f"<div>{_example(unit, one, caption)}</div><p><small>{escape(caption)}</small></p>")
    return "".join(parts)


def _example(unit: "Unit", one: "TopExample", caption: str) -> str:
    """Return the picture or the text with the unit's values on it; empty where it cannot be shown."""
    by_rows = unit.results.token_kind != "cls"
    try:
        if by_rows and isinstance(unit.results.reader, ImageReader):
            shown = unit.heat_map(one.example_id)
            picture = overlaid(shown.image, WIDEST, shown.edges, shown.values, shown.threshold)
            return str(image_element(picture, caption))
        if by_rows and isinstance(unit.results.reader, TextReader):
            return unit.tokens(one.example_id)._repr_html_()
    except (SaeAssetsError, OSError):  # the data set is not on this machine, or nothing says where rows stand
        pass
    return ""
