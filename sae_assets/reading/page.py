"""A unit's page: one HTML file that needs nothing else, with its figures and what it fires on."""

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sae_assets.artifacts.detection import FEWEST
from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import SaeAssetsError
from sae_assets.pages import charts, evidence
from sae_assets.pages.figures import figure
from sae_assets.pages.pictures import image_element, marked_tokens, overlaid
from sae_assets.pages.rendering import render
from sae_assets.reading.display import WIDEST
from sae_assets.reading.files import columns_of
from sae_assets.reading.summary import levels_of, tables_of, unit_summary
from sae_assets.reading.unit import TopExample, Unit
from sae_assets.storage.arrow import rows_with
from sae_assets.wording import counted, interval, without_places

if TYPE_CHECKING:
    import numpy as np

PARTS, OF_EACH = 4, 3  # quarters of the examples, and how many of each
AROUND = 60  # tokens on either side of the largest value


def unit_page(unit: Unit, top: int = 6) -> str:
    """Return the page of a unit. Raises: as :func:`unit_summary`."""
    tables = tables_of(unit)
    summary = unit_summary(unit, top, tables)
    counts, edges = summary["histogram"]["counts"], summary["histogram"]["edges"]
    names = [pair["concept"] for pair in summary["pairs"]]
    concept, levels = names[0] if names else None, {name: levels_of(unit, tables, name) for name in names}
    return render(
        "unit.html",
        u=summary,
        t=tables,
        figure=figure,
        headline=headline(summary),
        histogram=charts.histogram(counts, edges, summary["threshold"]),
        levels=levels,
        control_rows=evidence.control_rows,
        bars={name: evidence.control_bars(tables, name) for name in names},
        glyph=charts.glyph,
        legend=charts.legend("controls" in tables),
        located=concept is not None and len(levels[concept]) > 1,
        texts=unit.results.entry.modality == "text",
        top=[_shown(unit, one, concept) for one in unit.top_examples(top)],
        stratified=[[_shown(unit, one, concept) for one in part] for part in _parts(unit, top)],
        n_examples=unit.n_examples,
        neighbours=_neighbours(unit, top),
    )


def headline(summary: dict[str, Any]) -> str:
    """Return one sentence made of the figures."""
    if not summary["rows"]:
        return "It fires on no row."
    pairs = [pair for pair in summary["pairs"] if pair["test_f1"] is not None]
    opening = f"It fires on {counted(summary['rows'], 'row')}"
    if not pairs:
        return f"{opening} and is chosen for no concept."
    parts = [
        f"{pair['concept']} (test F1 {pair['test_f1']:.3f}, {interval(pair['test_f1_low'], pair['test_f1_high'])}{few})"
        for pair in pairs
        for few in (f", of fewer than {FEWEST} examples of a class" if pair["too_few"] else "",)
    ]
    return f"{opening} and is chosen for {', '.join(parts)}."


def _neighbours(unit: Unit, top: int) -> list[dict[str, Any]]:
    """Return units with the most similar decoder rows; none where no decoder can be read."""
    try:
        return [vars(one) for one in unit.decoder_neighbours(top)]
    except (SaeAssetsError, OSError):  # the SAE is not on this machine
        return []


def _parts(unit: Unit, top: int) -> list[list[TopExample]]:
    """Return examples of equal parts of all that it fires on, the strongest first; none where all are shown above."""
    ascending = unit.stratified_examples(PARTS, OF_EACH) if unit.n_examples > top else []
    return [part[::-1] for part in ascending[::-1]]


def _shown(unit: Unit, one: TopExample, concept: str | None) -> dict[str, Any]:
    """Return an example with the unit over it, and where its concept is."""
    caption = f"{one.example_id}: {figure(one.value)} at most, on {counted(one.n_rows, 'row')}"
    try:
        return {"element": _element(unit, one, concept, caption), "caption": caption}
    except (SaeAssetsError, OSError) as error:
        why = without_places(error, unit.results.entry.root)
        return {"element": Markup(""), "caption": f"{caption}. It cannot be shown: {why}"}


def _element(unit: Unit, one: TopExample, concept: str | None, caption: str) -> Markup:
    import numpy as np

    reader, by_rows = unit.results.reader, unit.results.token_kind != "cls"
    located = concept is not None and reader.has_regions and concept in reader.true_concepts(one.example_id)
    if isinstance(reader, ImageReader):
        image = reader.image(one.example_id)
        if not by_rows:
            return image_element(overlaid(image, WIDEST), caption)
        heat_map, truth = unit.heat_map(one.example_id), None
        if located:
            mask = reader.masks(one.example_id).get(concept or "")
            truth = None if mask is None else np.asarray(mask) > 0
        shown = overlaid(image, WIDEST, heat_map.edges, heat_map.values, unit.threshold, truth)
        return image_element(shown, caption)
    assert isinstance(reader, TextReader)
    text = reader.text(one.example_id)
    if not by_rows:
        return Markup('<bdi class="text">{}</bdi>').format(text)
    tokens = unit.tokens(one.example_id)
    spans, values = (
        [(token.start, token.end) for token in tokens],
        np.array([token.value for token in tokens], np.float32),
    )
    true = _true_rows(unit, one, concept) if located and concept is not None else None
    return marked_tokens(text, spans, values, unit.threshold, true, AROUND)


def _true_rows(unit: Unit, one: TopExample, concept: str) -> "np.ndarray":
    """Return bool [n_rows]: which rows of an example are the concept's."""
    import numpy as np

    chunk, _ = unit.results.place_of(one.example_id)
    _, table = columns_of(unit.results.store, unit.results.address("ground_truth", chunk))
    rows = rows_with(table, "example_index", one.example_index)
    return np.array([concept in names for names in rows["concepts"].to_pylist()], bool)
