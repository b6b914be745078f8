"""A unit's page: one HTML file that needs nothing else, with its figures and what it fires on."""

import base64
import io
from typing import Any

import jinja2
from markupsafe import Markup

from sae_assets.datasets import ImageReader
from sae_assets.errors import SaeAssetsError
from sae_assets.reading.summary import unit_summary
from sae_assets.reading.unit import Unit

WIDEST = 480  # pixels of a picture
TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Unit {{ u.unit }} · {{ u.dataset }}/{{ u.token_kind }}/{{ u.model }}</title>
<style>
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #595959; --line: #d0d0d0; --blue: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ececec; --paper: #16181b; --faint: #a8a8a8; --line: #3c4046; --blue: #56b4e9; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 1100px; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { max-width: 75ch; } .faint { color: var(--faint); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; padding-left: 0; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); gap: 1rem; }
.texts { grid-template-columns: 1fr; } figure { margin: 0; } figure img { width: 100%; height: auto; display: block; }
figcaption { color: var(--faint); font-size: .9rem; overflow-wrap: anywhere; }
.text { border-left: 3px solid var(--line); padding-left: .8rem; max-width: 75ch; overflow-wrap: anywhere; }
svg { width: 100%; max-width: 440px; height: auto; display: block; }
svg text { fill: var(--faint); font-size: 12px; } svg rect { fill: var(--blue); }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
</style>
</head>
<body>
<p class="faint">{{ u.dataset }} · {{ u.token_kind }} · {{ u.model }}</p>
<h1>Unit {{ u.unit }}</h1>
<p>{{ headline }}</p>

<h2>Statistics on calibration rows</h2>
<div class="scroll"><table>
<tr>{% for name in u.stats %}<th>{{ name }}</th>{% endfor %}<th>rows, all splits</th></tr>
<tr>{% for name, value in u.stats.items() %}<td data-stat="{{ name }}">{{ value | figure }}</td>{% endfor %}
<td data-stat="rows">{{ u.rows | figure }}</td></tr>
</table></div>
{% if u.rows %}
<figure><svg viewBox="0 0 440 150" role="img" aria-label="Histogram of its values">
{% for bar in bars %}<rect x="{{ bar.x }}" y="{{ bar.y }}" width="19" height="{{ bar.height }}">\
<title>{{ bar.title }}</title></rect>
{% endfor %}<text x="20" y="140">0</text>
<text x="420" y="140" text-anchor="end">{{ u.histogram.edges[-1] | figure }}</text>
</svg><figcaption>Values where it fires, in twenty equal parts, rows of all splits.</figcaption></figure>
{% endif %}

{% if u.pairs %}
<h2>Chosen for, by examples</h2>
<div class="scroll"><table>
<tr><th>concept</th><th>test F1</th><th>95 %</th><th>AUROC</th><th>p</th><th>q</th><th>threshold</th></tr>
{% for pair in u.pairs %}<tr><td>{{ pair.concept }}</td><td>{{ pair.test_f1 | figure }}</td>
<td>{{ pair.test_f1_low | figure }}–{{ pair.test_f1_high | figure }}</td><td>{{ pair.test_auroc | figure }}</td>
<td>{{ pair.test_p | figure }}</td><td>{{ pair.test_q | figure }}</td><td>{{ pair.threshold | figure }}</td></tr>
{% endfor %}</table></div>
{% endif %}

{% if u.concepts %}
<h2>Falls on, by rows</h2>
<div class="scroll"><table>
<tr><th>concept</th><th>cal F1</th><th>test F1</th><th>precision</th><th>recall</th><th>IoU</th><th>AP</th></tr>
{% for line in u.concepts %}<tr><td>{{ line.concept }}</td>{% for name in aligned %}<td>{{ line[name] | figure }}</td>\
{% endfor %}</tr>
{% endfor %}</table></div>
{% endif %}

<h2>Examples with its largest values</h2>
{% if not examples %}<p>It fires on no row.</p>{% endif %}
<div class="examples{% if texts %} texts{% endif %}">
{% for one in examples %}<figure>{{ one.shown }}<figcaption>{{ one.caption }}</figcaption></figure>
{% endfor %}</div>
<p class="faint">Blue where it fires, the stronger the larger: {{ u.threshold | figure }} is its threshold.</p>

{% if u.co_active %}
<h2>Units that fire on the same rows</h2>
<div class="scroll"><table>
<tr><th>unit</th><th>rows of both</th><th>of those of either</th></tr>
{% for one in u.co_active %}<tr><td>{{ one.unit_id }}</td><td>{{ one.n_rows | figure }}</td>
<td>{{ one.jaccard | figure }}</td></tr>
{% endfor %}</table></div>
{% endif %}
<p class="faint">Written by
<code>sae-assets unit {{ u.dataset }} {{ u.model }} {{ u.unit }} --token-kind {{ u.token_kind }} --html …</code></p>
</body>
</html>
"""


def unit_page(unit: Unit, top: int = 6) -> str:
    """The page of a unit. Raises: as :func:`unit_summary`."""
    summary = unit_summary(unit, top)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["figure"] = figure
    counts = summary["histogram"]["counts"]
    tallest = max(counts) or 1
    edges = summary["histogram"]["edges"]
    bars = [
        {
            "x": 20 + 20 * place,
            "y": round(120 - 110 * count / tallest, 1),
            "height": round(110 * count / tallest, 1),
            "title": f"{count} from {figure(edges[place])} to {figure(edges[place + 1])}",
        }
        for place, count in enumerate(counts)
    ]
    return environment.from_string(TEMPLATE).render(
        u=summary,
        headline=headline(summary),
        bars=bars,
        aligned=("cal_f1", "test_f1", "test_precision", "test_recall", "test_iou", "test_ap"),
        examples=[_shown(unit, one) for one in summary["examples"]],
        texts=unit.run.entry.modality == "text",
    )


def headline(summary: dict[str, Any]) -> str:
    """One sentence made of the figures."""
    if not summary["rows"]:
        return "It fires on no row."
    pairs = [pair for pair in summary["pairs"] if pair["test_f1"] is not None]
    said = f"It fires on {summary['rows']:,} rows"
    if not pairs:
        return f"{said} and is chosen for no concept."
    parts = [
        f"{pair['concept']} (test F1 {pair['test_f1']:.3f}, {pair['test_f1_low']:.2f}–{pair['test_f1_high']:.2f})"
        for pair in pairs
    ]
    return f"{said} and is chosen for {', '.join(parts)}."


def figure(value: Any) -> str:
    """A number as it is shown; one that does not exist is a dash."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _shown(unit: Unit, one: dict[str, Any]) -> dict[str, Any]:
    caption = f"{one['example_id']}: {figure(one['value'])} at most, {one['n_rows']:,} rows fire"
    run = unit.run
    try:
        if not isinstance(run.reader, ImageReader):
            text = run.reader.text(one["example_id"]) if run.token_kind == "cls" else None  # type: ignore[attr-defined]
            marked = Markup.escape(text) if text is not None else Markup(unit.tokens(one["example_id"])._repr_html_())
            return {"shown": Markup('<div class="text">{}</div>').format(marked), "caption": caption}
        picture = run.reader.image(one["example_id"])
        if run.token_kind != "cls":
            picture = unit.heat_map(one["example_id"]).overlay()
    except (SaeAssetsError, OSError) as error:
        return {"shown": "", "caption": f"{caption}. It cannot be shown: {error}"}
    picture.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode()
    image = Markup('<img loading="lazy" width="{}" height="{}" alt="{}" src="data:image/webp;base64,{}">')
    return {"shown": image.format(picture.width, picture.height, caption, data), "caption": caption}
