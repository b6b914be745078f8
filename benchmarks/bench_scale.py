"""Seconds (wall and CPU) of what the platform does while nothing is computed, over many chunks and many data sets.

One data set of tiny examples, by default one per chunk, and others that only stand in the catalog. Measured once each,
in process: what the daemon, the webserver and the command line call. A backfill is submitted as the daemon does, its
runs are not executed.

    python benchmarks/bench_scale.py [--chunks 10000] [--examples 1] [--new 50] [--datasets 50] [--backfill 50]
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

import dagster as dg
import yaml

from sae_assets.catalog import load_catalog
from sae_assets.commands.session import Session, open_session
from sae_assets.commands.status import states
from sae_assets.datasets import open_dataset
from sae_assets.orchestration import switches
from sae_assets.orchestration.automation.backfills import launch, n_partitions
from sae_assets.orchestration.build import build_definitions

CONCEPTS = ["color::blue", "color::green", "color::red", "shape::cube", "shape::cylinder", "shape::sphere"]
NAME = "many"


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    start, cpu = time.perf_counter(), time.process_time()
    yield
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what:62} {wall:9.2f} s {used:9.2f} s", flush=True)


def land(root: Path, count: int) -> None:
    """Rows of a table, every image and mask a hard link to one of the packaged ones."""
    source = Path(load_catalog().datasets["clevr_mini"].root)
    header, *rows = (source / "metadata.csv").read_text().splitlines()
    path, split = (header.split(",").index(name) for name in ("image_path", "split"))
    lines = [header]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cells = rows[number % len(rows)].split(",")
        image = Path(cells[path])
        name = f"{number:06d}"
        for old, new in (
            (image, f"images/{name}{image.suffix}"),
            (Path("masks") / f"{image.stem}.png", f"masks/{name}.png"),
        ):
            if not (root / new).exists():
                os.link(source / old, root / new)
        cells[path], cells[split] = f"images/{name}{image.suffix}", ("cal", "test", "train")[number % 3]
        lines.append(",".join(cells))
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def write_catalog(folder: Path, root: Path, datasets: int, chunk_size: int = 1) -> Path:
    entry = {
        "root": str(root), "layout": "clevr", "modality": "image", "concepts": CONCEPTS, "token_kinds": ["patch"],
        "models": ["clip-mini"], "chunk_size": chunk_size, "arrivals": {"settle_seconds": 0, "close_after_seconds": 0},
    }  # fmt: skip
    names = [NAME, *(f"other_{number:02d}" for number in range(1, datasets))]
    path = folder / "catalog.yaml"
    path.write_text(yaml.safe_dump({"datasets": dict.fromkeys(names, entry)}))
    return path


def make_examples(session: Session, chunks: list[str]) -> None:
    """Write what the assets ``examples`` and ``labels`` do, without a run for each."""
    from sae_assets.chunks.contents import describe_examples, describe_labels
    from sae_assets.pipeline.options import Options
    from sae_assets.pipeline.recipes import recipe
    from sae_assets.pipeline.stage import Sources, Target
    from sae_assets.pipeline.stages import STAGES
    from sae_assets.storage.store import stored

    entry = session.catalog.datasets[NAME]
    reader = open_dataset(entry)
    sources = Sources(session.store.root)
    for chunk in chunks:
        inputs: dict[str, Any] = {}
        for name, describe in (("examples", describe_examples), ("labels", describe_labels)):
            stage = STAGES[name]
            target = Target(session.catalog, stage.address(NAME, chunk=chunk))
            provenance = recipe(stage, target, inputs, Options(), sources)
            assert provenance is not None
            inputs[name] = stored(describe(sources.manifest(target), reader), provenance)
            session.store.write(target.address, inputs[name])


def sensor_tick(session: Session, definitions: dg.Definitions, cursor: str | None) -> Any:
    repository = definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=session.instance, repository_def=repository, resources=session.resources, cursor=cursor
    ) as context:
        result = repository.get_sensor_def(switches.REGISTER.name(NAME)).evaluate_tick(context)
    for request in result.dynamic_partitions_requests or ():
        session.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return result


def look(session: Session, definitions: dg.Definitions) -> int:
    """One look of ``follow_…`` as the daemon takes it: how many runs it asks for."""
    repository = definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=session.instance, repository_def=repository, resources=session.resources
    ) as context:
        answer: Any = repository.get_sensor_def(switches.FOLLOW.name(NAME))(context)
    return 0 if isinstance(answer, dg.SkipReason) else len(answer)


def profiled(call: Callable[[], Any], to: Path | None) -> Any:
    if to is None:
        return call()
    import cProfile

    with cProfile.Profile() as profile:
        result = call()
    profile.dump_stats(to)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=10_000, help="with the new ones; four digits number them")
    parser.add_argument("--examples", type=int, default=1, help="of one chunk")
    parser.add_argument("--new", type=int, default=50)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--backfill", type=int, default=50)
    parser.add_argument("--profiles", type=Path, help="folder for a cProfile file of each slow part")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sae_assets_scale_") as folder:
        measure(Path(folder), arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    root, before = folder / "data", arguments.chunks - arguments.new
    land(root, before * arguments.examples)
    catalog = write_catalog(folder, root, arguments.datasets, arguments.examples)
    print(
        f"{arguments.chunks:,} chunks of {arguments.examples} example(s), {arguments.datasets} data sets, "
        f"Python {sys.version.split()[0]}, dagster {dg.__version__}"
    )
    print(f"{'':62} {'wall':>11} {'CPU':>11}")

    def profile(name: str) -> Path | None:
        return arguments.profiles / f"{name}.prof" if arguments.profiles else None

    with open_session(folder / "home", catalog) as session:
        with timed("catalog read"):
            load_catalog(catalog)
        with timed("definitions loaded"):
            definitions = build_definitions(session.catalog, session.resources)
            definitions.get_repository_def()
        with timed("data set opened, first in a process"):
            open_dataset(session.catalog.datasets[NAME])
        with timed("data set opened again, as each stage of a run does"):
            open_dataset(session.catalog.datasets[NAME])
        with timed(f"{before:,} chunks registered by the command line"):
            profiled(lambda: session.register(NAME), profile("register"))
        first = sensor_tick(session, definitions, None)
        with timed("sensor: nothing has changed"):
            idle = sensor_tick(session, definitions, first.cursor)
        assert idle.skip_message and idle.skip_message.startswith("No new examples")
        land(root, arguments.chunks * arguments.examples)
        with timed(f"sensor: {arguments.new} new chunks"):
            grown = profiled(lambda: sensor_tick(session, definitions, first.cursor), profile("sensor"))
        assert len(grown.dynamic_partitions_requests[0].partition_keys) == arguments.new
        chunks = session.chunks_of(NAME)
        with timed("manifests read"):
            session.chunks_of(NAME)

        with timed("follow: a look, everything missing"):
            asked = profiled(lambda: look(session, definitions), profile("follow_missing"))
        assert asked == session.catalog.datasets[NAME].backfills.partitions_per_tick

        with timed("schedule: plan of a backfill, everything missing"):
            batches = profiled(lambda: plan(session, 200), profile("plan_missing"))
        assert n_partitions(batches) == 200
        with timed("sae-assets status, everything missing"):
            profiled(lambda: states(session, [NAME]), profile("status_missing"))
        make_examples(session, chunks)
        with timed("schedule: plan of a backfill, examples made"):
            profiled(lambda: plan(session, 200), profile("plan_made"))
        with timed("sae-assets status, examples made"):
            profiled(lambda: states(session, [NAME]), profile("status_made"))
        with timed("sae-assets status of all data sets"):
            states(session, list(session.catalog.datasets))
        submit(session, arguments.backfill)


def plan(session: Session, limit: int) -> Any:
    return session.outlook(NAME).plan(limit=limit).in_sequence


def submit(session: Session, count: int) -> None:
    """The backfill's record; its runs are submitted by the daemon at about two a second (docs/design.md)."""
    batches = plan(session, count)
    with timed(f"backfill of {count} partitions recorded"):
        launch(session.instance, session.catalog, batches, backfill_id="bench", kind="backfill")
    assert session.instance.get_backfill("bench") is not None


if __name__ == "__main__":
    main()
