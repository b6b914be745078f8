"""Templates to pages: names and texts from outside are escaped, and what a template asks for has to be there."""

from functools import cache
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **values: Any) -> str:
    """A template of this package with these values."""
    return _environment().get_template(template).render(**values)


def with_more(page: str, **sections: Any) -> str:
    """A report with sections that its stage does not make: ``seconds`` by stage, and what ``more.html`` shows else."""
    more = render("more.html", **sections)
    return page.replace("<!-- more -->", more, 1)
