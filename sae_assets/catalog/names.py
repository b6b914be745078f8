"""Looking names up, whatever their case, suggesting the nearest known one, and names made of a data set's."""

import difflib
import re
from collections.abc import Iterable

from sae_assets.errors import CatalogError


def name_of(dataset: str, action: str) -> str:
    """Name in Dagster of what does something for one data set.

    Dagster's lists are sorted by name: the data set comes first, so that what belongs to it stands together. The two
    underscores keep `clevr` apart from `clevr_mini`. An action neither begins with an underscore nor has two in
    sequence, so no two data sets have a name in common.
    """
    return f"{dataset}__{action}"


def match_name(name: str, names: Iterable[str], what: str) -> str:
    """Return the known name that equals ``name`` but for case.

    Raises:
        CatalogError: there is no such name; the message lists the known ones and suggests the nearest.
    """
    ordered = sorted(names)
    for candidate in ordered:
        if candidate.lower() == name.lower():
            return candidate
    raise CatalogError(f"Unknown {what} {name!r}.{hint_of(name, ordered)} Known: {', '.join(ordered) or 'none'}.")


def hint_of(name: str, names: Iterable[str]) -> str:
    """`` Did you mean …?`` if a known name is near or one alone has it as a word, whatever its case; else nothing."""
    spelt = {candidate.lower(): candidate for candidate in names}
    holding = [spelling for spelling in spelt if name.lower() in re.split(r"[\W_]+", spelling)]
    near = holding if len(holding) == 1 else difflib.get_close_matches(name.lower(), spelt, n=1, cutoff=0.5)
    return f" Did you mean {spelt[near[0]]!r}?" if near else ""
