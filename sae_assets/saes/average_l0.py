"""Gemma Scope has several SAEs for one hook point and width: they differ in sparsity, ``average_l0_<number>``.

The canonical one is the one nearest to 100 active units per row; of two equally near, it is the sparser. The numbers
come from a local folder, from the hub's cache, or from the hub's own list.
"""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath

from sae_assets.errors import CheckpointError

PLACEHOLDER = "{average_l0}"
CANONICAL = 100


def choose_l0(requested: int | str | None, available: Iterable[int], source: object) -> int:
    """Return the number named in the catalog, or the canonical one.

    Args:
        requested: a number, ``canonical``, or None for canonical.
        available: the numbers that exist.
        source: what was searched, for the message.

    Raises:
        CheckpointError: there are none, or the requested one is not among them.
    """
    numbers = sorted(set(available))
    if not numbers:
        raise CheckpointError(
            f"{source} holds no Gemma Scope checkpoint: neither params.npz, nor params.safetensors, nor folders "
            "average_l0_<number> with one."
        )
    if not isinstance(requested, int):
        return min(numbers, key=lambda number: (abs(number - CANONICAL), number))
    if requested not in numbers:
        raise CheckpointError(f"{source} has no average_l0_{requested}; there are {', '.join(map(str, numbers))}.")
    return requested


def local_l0(folder: Path) -> set[int]:
    """Return numbers of the ``average_l0_*`` subfolders that hold a checkpoint."""
    numbers = set()
    for path in folder.iterdir():
        number = re.fullmatch(r"average_l0_(\d+)", path.name)
        if number and any((path / name).is_file() for name in ("params.npz", "params.safetensors")):
            numbers.add(int(number[1]))
    return numbers


def named_l0(path: Path) -> int | None:
    """Return the average L0 that a checkpoint's file or folder is named after; None where its name says none."""
    for part in (path, path.parent):
        if number := re.fullmatch(r"average_l0_(\d+)", part.name):
            return int(number[1])
    return None


def cached_l0(repo: str, file: str, revision: str | None) -> set[int]:
    """Return numbers for which the hub's cache holds the file; ``file`` has the placeholder."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    here = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    reference = here / "refs" / (revision or "main")
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision or "main"
    snapshot = here / "snapshots" / commit
    names = (path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file())
    return {int(number[1]) for name in names if (number := _pattern(file).match(name))}


@cache
def listed_l0(repo: str, file: str, revision: str | None) -> frozenset[int]:
    """Return numbers for which the hub lists the file; asked once per process, so that all chunks of a run agree."""
    from huggingface_hub import HfApi

    before = PurePosixPath(file.split(PLACEHOLDER)[0] + "x").parent  # the folder that holds the choices
    folder = None if str(before) == "." else str(before)
    entries = HfApi().list_repo_tree(repo, folder, recursive=True, revision=revision)
    return frozenset(int(number[1]) for entry in entries if (number := _pattern(file).match(entry.path)))


def _pattern(file: str) -> re.Pattern[str]:
    """Matches the file with any number in the placeholder's place, the same one wherever it stands: the first group."""
    first, *others = map(re.escape, file.split(PLACEHOLDER))
    return re.compile(first + r"(\d+)" + r"\1".join(others) + "$")
