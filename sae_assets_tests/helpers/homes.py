"""Small homes with a data set of images, made once for all tests and all of their processes, and copied for each test.

A copy is a folder like any other: a test may damage, change and extend what lies there.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock
from typer.testing import CliRunner

from sae_assets.cli import app
from sae_assets_tests.helpers.swift import settle_in, swift_homes
from sae_assets_tests.pipeline.small import make_dataset, write_catalog

Places = dict[str, Path]
USUAL: dict[str, Any] = {"token_kinds": ["patch"], "chunk_size": 6}
N = 12
STEPS = (
    "register",
    "labels",
    "sparse_activations",
    "unit_mapping",
    None,
)  # where most tests with the usual entry start


def places_in(folder: Path) -> Places:
    """Where the data set, its catalog and the home lie in a folder of a test."""
    return {"root": folder / "data", "catalog": folder / "catalog.yaml", "home": folder / "home"}


class Homes:
    """Homes that are kept in one folder, by what was asked for."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, target: Path, last: str | None = None, *, n: int = N, **entry: Any) -> Places:
        """A home of ``n`` images of one's own, in which everything was made up to a stage.

        Args:
            target: a folder of the test; data set, catalog and home are put there.
            last: the last stage; None is all of them, "register" makes chunks and no file of a stage.
            entry: of the catalog; without it patches alone, in chunks of six.
        """
        entry = {**USUAL, **entry}
        return _copy(self._kept(last, n, entry), target, entry)

    def _kept(self, last: str | None, n: int, entry: dict[str, Any]) -> Path:
        """The folder of a home that is kept; the usual ones are made one from the other."""
        key = hashlib.sha256(json.dumps([last, n, entry], sort_keys=True).encode()).hexdigest()[:16]
        kept = self._folder / key
        with FileLock(self._folder / f"{key}.lock"):
            if not kept.exists():
                unfinished = self._folder / f"{key}.unfinished"
                if (n, entry) == (N, USUAL) and last in STEPS[1:]:
                    places = _copy(self._kept(STEPS[STEPS.index(last) - 1], n, entry), unfinished, entry)
                else:
                    places = places_in(unfinished)
                    write_catalog(places["catalog"], make_dataset(places["root"], n), **entry)
                _make(places, last, entry)
                unfinished.rename(kept)
        return kept


def _copy(kept: Path, target: Path, entry: dict[str, Any]) -> Places:
    shutil.copytree(kept, target, dirs_exist_ok=True)
    places = places_in(target)
    write_catalog(places["catalog"], places["root"], **entry)
    settle_in(places["home"] / "dagster")
    return places


def _make(places: Places, last: str | None, entry: dict[str, Any]) -> None:
    with swift_homes():
        if last == "register":
            result = invoke(places, "close-chunk", "small")
        else:
            options = ["--sample-type", ",".join(entry["token_kinds"]), *(["--to", last] if last else [])]
            result = invoke(places, "materialize", "-d", "small", *options)
    assert result.exit_code == 0, result.output


def invoke(places: Places, *arguments: str) -> Any:
    """A command on a home, in this process."""
    return CliRunner().invoke(app, [*arguments, "--home", str(places["home"]), "--catalog", str(places["catalog"])])
