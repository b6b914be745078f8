"""Templates to pages: names and texts from outside are escaped, and what a template asks for has to be there."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets.pages.figures import element, figure

if TYPE_CHECKING:
    import jinja2

MORE, NO_MORE = "<!-- more -->", "<!-- no more -->"  # around what a report says in the place of such sections
TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415 - every process that knows the stages imports this module

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """Return a template of this package with these values."""
    return _environment().get_template(template).render(**values)


def with_more(page: str, **sections: Any) -> str:
    """Return a report with sections that its stage does not make: what stages have ``taken``, other results
    ``compared``."""
    addition = render("more.html", figure=figure, element=element, **sections)
    links = '<a href="#compared">Other results</a>' if sections.get("compared") else ""
    before, _, after = page.replace("<!-- more-links -->", links, 1).partition(MORE)
    return before + addition + after.partition(NO_MORE)[2] if NO_MORE in after else before + addition + after
