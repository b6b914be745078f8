"""Random damages of a home and of annotations, each of which must be noticed by whoever reads what was damaged.

``python -m sae_assets_tests.fuzz --damages 2000 --seed 1`` (``make fuzz``): half of them in a home of Parquet files,
half in one whose activations and mappings are ``.pt``; reports and chunk manifests are in both. As many again in
annotations of every layout (``helpers.damaged_inputs``).
"""

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import fields
from pathlib import Path

from sae_assets.commands.session import open_session
from sae_assets.commands.verifying import verify
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore
from sae_assets_tests.helpers.damage import damages, is_noticed
from sae_assets_tests.helpers.damaged_inputs import WORLDS, try_damages
from sae_assets_tests.helpers.homes import Homes, Places
from sae_assets_tests.helpers.swift import swift_homes


def as_pt(places: Places) -> None:
    """Write anew as ``.pt`` whatever has such a form."""
    store = ArtifactStore(str(places["home"] / "store"), "pt")
    for path in [*store.files()]:
        item = store.read_file(path)
        store.write(Address(**{part.name: getattr(item.provenance, part.name) for part in fields(Address)}), item)


def fuzz(places: Places, n: int, seed: int) -> tuple[Counter[str], list[str]]:
    """How many damages of each kind were tried, and those that nobody noticed."""
    store = ArtifactStore(str(places["home"] / "store"))
    with open_session(places["home"], places["catalog"]) as session:

        def look_at_all() -> dict[str, str]:
            return verify(store, session.catalog, session.instance).damaged

        assert look_at_all() == {}
        tried: Counter[str] = Counter()
        silent = []
        for damage in damages(Path(str(store.root)), seed, n):
            tried[damage.what.split()[0]] += 1
            if not is_noticed(damage, store, look_at_all):
                silent.append(damage.what)
        assert look_at_all() == {}
    return tried, silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--damages", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    silent: list[str] = []
    with tempfile.TemporaryDirectory(prefix="sae_fuzz_") as temporary, swift_homes():
        folder = Path(temporary)
        (folder / "homes").mkdir()
        homes = Homes(folder / "homes")
        for form in ("parquet", "pt"):
            places = homes(folder / form)
            if form == "pt":
                as_pt(places)
            counts, unnoticed = fuzz(places, given.damages // 2, given.seed)
            tried += counts
            silent += unnoticed
        for name, world in WORLDS.items():
            counts, unnoticed = try_damages(world(folder / name), given.seed, given.damages // len(WORLDS))
            tried[f"annotations ({name})"] = sum(counts.values())
            silent += [f"{name}: {what}" for what in unnoticed]
    print(json.dumps({"tried": sum(tried.values()), "silent": len(silent), "by_kind": dict(sorted(tried.items()))}))
    for what in silent:
        print(what)
    raise SystemExit(bool(silent))


if __name__ == "__main__":
    main()
