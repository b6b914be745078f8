"""Some figures tell that an SAE does not know its rows: they are measured on the packaged data, with what they cost.

FVU at the models' own block and around it; `cls` rows, in each way that they are encoded, against tokens or patches.

    python benchmarks/bench_fit.py [--cost]
"""

import argparse
import time
from dataclasses import replace
from typing import Any

import torch

from sae_assets.artifacts import SparseActivations
from sae_assets.catalog import load_catalog
from sae_assets.catalog.registry import formats
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.datasets import open_dataset
from sae_assets.pipeline.checks import Expected
from sae_assets.pipeline.stage import Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.sparse_activations import figures_beside
from sae_assets.rows import loaded
from sae_assets.rows.encoding import encode_chunk
from sae_assets.saes import opening
from sae_assets.storage.store import ArtifactStore

STAGE = STAGES["sparse_activations"]
CHECK = next(check for check in STAGE.checks if check.name == "cls_like_rows")
PACKAGED = (("clevr_mini", "clip-mini"), ("moods_mini", "gemma-mini"))
N_EXAMPLES = 80
REPEATS = 3


def encoded(dataset: str, model: str, controls: bool = False, **changes: Any) -> dict[str, SparseActivations]:
    """Every fourth example, at most ``N_EXAMPLES``, of a packaged data set, by token kind."""
    catalog = load_catalog()
    entry, read = catalog.datasets[dataset], catalog.models[model].model_copy(update=changes).named(model)
    reader = open_dataset(entry)
    chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[::4][:N_EXAMPLES]), reader)
    return encode_chunk(
        chunk, entry.token_kinds, dataset=entry, model=read, reader=reader, k_stored=read.k_stored,
        precision="float32", batch_size=32, device="cpu", memory_budget=2**28,
        control_kinds=entry.token_kinds if controls else (),
    ).artifacts  # fmt: skip


def formats_without_decoders() -> dict[str, Any]:
    return {name: replace(kind, decoder=None) for name, kind in formats().items()}


def cpu_seconds(dataset: str, model: str, controls: bool = False) -> float:
    start = time.process_time()
    encoded(dataset, model, controls)
    return time.process_time() - start


def fits() -> None:
    for dataset, model in PACKAGED:
        right = load_catalog().models[model].layer
        assert right is not None
        for layer in range(right - 1, right + 2):
            for kind, artifact in encoded(dataset, model, layer=layer).items():
                if artifact.fit is not None and artifact.fit.fvu is not None:
                    l0 = int(artifact.l0.sum()) / artifact.n_rows
                    print(f"{model} block {layer} {kind:5} FVU {artifact.fit.fvu:6.3f}  L0 {l0:6.2f}", flush=True)
        ways = ("last", "mean_embedding") if model == "gemma-mini" else (None,)
        for way in ways:
            artifacts, catalog = encoded(dataset, model, cls=way), load_catalog()
            read = catalog.models[model].model_copy(update={"cls": way}).named(model)
            catalog = catalog.model_copy(update={"models": {**catalog.models, model: read}})
            target = Target(catalog, STAGE.address(dataset, "cls", model, "0000"))
            beside = figures_beside(target, artifacts["cls"], artifacts, ArtifactStore("memory://none"))
            outcome = CHECK.test(artifacts["cls"], Expected(beside=beside))
            shares = [f"{name} {outcome.metadata[name] / other:.2f}" for name, other in beside.items()]
            print(f"{model} cls ({way}) against rows: {', '.join(shares)}; unlike: {outcome.metadata['unlike']}")


def costs() -> None:
    for dataset, model in PACKAGED:
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(REPEATS):
            for counted in seconds:
                opening.formats = formats if counted else formats_without_decoders
                loaded.KEPT.clear()
                cpu_seconds(dataset, model)  # opens model and SAE
                seconds[counted].append(cpu_seconds(dataset, model))
        opening.formats = formats
        with_fit, plain = (min(seconds[counted]) for counted in (True, False))
        print(f"{model}: {plain:.2f} s of CPU without, {with_fit:.2f} s with: {with_fit / plain - 1:+.0%}", flush=True)
        cpu_seconds(dataset, model, controls=True)
        controlled = min(cpu_seconds(dataset, model, controls=True) for _ in range(REPEATS))
        print(f"{model}: {controlled:.2f} s with control inputs: {controlled / with_fit - 1:+.0%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="seconds alone")
    parser.add_argument("--small", action="store_true", help="fits alone")
    torch.set_num_threads(1)
    arguments = parser.parse_args()
    if arguments.small:
        fits()
        return
    if not arguments.cost:
        fits()
    costs()


if __name__ == "__main__":
    main()
