"""A page about one data set, token kind and model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from sae_assets.artifacts.base import Artifact

DOCTYPE = "<!doctype html>\n"


@dataclass(frozen=True, eq=False)
class Report(Artifact):
    """The page, HTML that needs no other file."""

    kind: ClassVar[str] = "report"
    html: str

    def problems(self) -> Iterator[str]:
        if not self.html.startswith(DOCTYPE):
            yield f"a page begins with {DOCTYPE.strip()}"
