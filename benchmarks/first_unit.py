"""CPU seconds that the first unit takes in a process that has imported what it needs, and read nothing: for
``bench_unit_rows``, whose store this reads. Nothing here loads torch, as nobody does who reads units.

    python benchmarks/first_unit.py FOLDER CHUNKS [scan]

``scan`` goes through all activations, as where there are none by unit.
"""

import sys
import time

from sae_assets.catalog import load_catalog
from sae_assets.reading import by_unit  # noqa: F401 - loaded before what is timed
from sae_assets.reading.results import Results
from sae_assets.storage import arrow, parquet  # noqa: F401
from sae_assets.storage.store import ArtifactStore


def opened(folder: str, n_chunks: int) -> Results:
    """The results of a store without manifests."""
    catalog = load_catalog()
    dataset, model = catalog.datasets["clevr_mini"], catalog.models["clip-mini"]
    results = Results(ArtifactStore(folder), dataset, model.name, "patch", model)
    results.__dict__["chunks"] = [f"{number:04}" for number in range(n_chunks)]
    return results


if __name__ == "__main__":
    first = opened(sys.argv[1], int(sys.argv[2]))
    if "scan" in sys.argv[3:]:
        first.__dict__["by_unit"] = None
    start = time.process_time()
    assert first.unit(5).n_rows
    print(time.process_time() - start)
