"""Counts as people write them."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2,048 rows``; ``plural`` where it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
