"""Images of an annotation file are those that a table names, also where their paths begin at different folders."""

from collections.abc import Iterable

Parts = tuple[str, ...]  # of a path


def best_fits(path: Parts, others: Iterable[Parts]) -> list[Parts]:
    """Return those of other paths that may name the same file: the shorter of the two is the end of the longer.

    Of several, those that have most in common; a caller refuses what is left where it is more than one.
    """
    fits = {other: common for other in others if (common := _common_end(path, other))}
    return [other for other, common in fits.items() if common == max(fits.values())]


def _common_end(one: Parts, other: Parts) -> int:
    """Return parts of the shorter path, if it is the end of the longer; else 0."""
    length = min(len(one), len(other))
    return length if one[-length:] == other[-length:] else 0
