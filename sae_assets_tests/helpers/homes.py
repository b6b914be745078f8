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


def places_in(folder: Path) -> Places:
    """Where the data set, its catalog and the home lie in a folder of a test."""
    return {"root": folder / "data", "catalog": folder / "catalog.yaml", "home": folder / "home"}


class Homes:
    """Homes that are kept in one folder, by what was asked for."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __call__(self, target: Path, last: str | None = None, *, n: int = 12, **entry: Any) -> Places:
        """A home of ``n`` images of one's own, in which everything was made up to a stage.

        Args:
            target: a folder of the test; data set, catalog and home are put there.
            last: the last stage; None is all of them, "register" makes chunks and no file of a stage.
            entry: of the catalog; without it patches alone, in chunks of six.
        """
        entry = {"token_kinds": ["patch"], "chunk_size": 6, **entry}
        key = hashlib.sha256(json.dumps([last, n, entry], sort_keys=True).encode()).hexdigest()[:16]
        kept = self._folder / key
        with FileLock(self._folder / f"{key}.lock"):
            if not kept.exists():
                unfinished = self._folder / f"{key}.unfinished"
                _make(places_in(unfinished), last, n, entry)
                unfinished.rename(kept)
        shutil.copytree(kept, target, dirs_exist_ok=True)
        places = places_in(target)
        write_catalog(places["catalog"], places["root"], **entry)
        settle_in(places["home"] / "dagster")
        return places


def _make(places: Places, last: str | None, n: int, entry: dict[str, Any]) -> None:
    make_dataset(places["root"], n)
    write_catalog(places["catalog"], places["root"], **entry)
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
