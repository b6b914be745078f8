"""Symbolic links that lead out of a data set's folder: one of others could show any file of this machine as an example.

Looked for when examples are registered and when a data set is checked; from then on contents are compared by hash.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from sae_assets.catalog import Dataset
from sae_assets.errors import DatasetError

MOST_NAMED = 5


def expect_inside(entry: Dataset) -> None:
    """Check that no link in the data set's folder leads out of it, unless the catalog allows that.

    Raises:
        DatasetError: links do; the first ones are named.
    """
    if entry.follow_symlinks:
        return
    found = links_outside(entry.root)
    first = [link for link, _ in zip(found, range(MOST_NAMED + 1), strict=False)]
    if first:
        more = [*first[:MOST_NAMED], *(["…"] if len(first) > MOST_NAMED else [])]
        raise DatasetError(
            f"Data set {entry.name!r}: symbolic links lead out of {entry.root}. If you trust whoever made it, set "
            f"`datasets.{entry.name}.follow_symlinks: true` in the catalog.",
            more,
        )


def links_outside(root: Path) -> Iterator[str]:
    """Each link in a folder that leads out of it, with where it leads; the folder itself may be one."""
    inside = os.path.realpath(root)
    for folder, names, files in os.walk(root):
        for name in sorted([*names, *files]):
            path = Path(folder, name)
            if path.is_symlink():
                target = os.path.realpath(path)
                if target != inside and not target.startswith(os.path.join(inside, "")):
                    yield f"{path} leads to {target}"
