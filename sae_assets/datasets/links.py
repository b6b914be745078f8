"""Symbolic links that lead out of a data set's folder: one of others could show any file of this machine as an example.

Looked for when examples are registered and when a data set is checked; from then on contents are compared by hash.
"""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_assets.catalog import Dataset
from sae_assets.datasets.reader import Reader
from sae_assets.errors import DatasetError

MOST_NAMED = 5


def expect_inside(entry: Dataset, reader: Reader) -> None:
    """Check that no link in the data set's folders leads out of them, unless the catalog allows that.

    Raises:
        DatasetError: links do; the first ones are named.
    """
    if entry.follow_symlinks:
        return
    outside = links_outside(reader.places(), reader.folders)
    first = [link for link, _ in zip(outside, range(MOST_NAMED + 1), strict=False)]
    if first:
        names = [*first[:MOST_NAMED], *(["…"] if len(first) > MOST_NAMED else [])]
        raise DatasetError(
            f"Data set {entry.name!r}: symbolic links lead out of {reader.root}. If you trust whoever made it, set "
            f"`datasets.{entry.name}.follow_symlinks: true` in the catalog.",
            names,
        )


def links_outside(places: Sequence[Path], folders: Sequence[Path]) -> Iterator[str]:
    """Yield each link among these places, or within them, that leads out of the folders, with where it leads.

    A folder itself may be one.
    """
    inside = [os.path.realpath(folder) for folder in folders]
    for root in places:
        own = [] if root in folders else [root]
        within = (Path(at, name) for at, names, files in os.walk(root) for name in sorted([*names, *files]))
        for path in itertools.chain(own, within):
            if path.is_symlink():
                target = os.path.realpath(path)
                if not any(target == folder or target.startswith(os.path.join(folder, "")) for folder in inside):
                    yield f"{path} leads to {target}"
