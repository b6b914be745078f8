"""What a plan says that it will cost, beside what its runs then record: predicted, actual and their ratio.

Images of the packaged data arrive in steps, chunk by chunk. Before each step but the first the plan is asked
(`materialize --dry-run --json`), then carried out by the command, each in a process of its own. Figures of the same
stage are added up; "of all" are sums over the stages, of memory the largest. Seconds are of CPU.

    python benchmarks/bench_preflight.py [--chunks 2 4 8] [--examples 40]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from bench_scale import CONCEPTS, NAME, land

from sae_assets.commands.session import open_session
from sae_assets.orchestration.metadata import number_of
from sae_assets.orchestration.partitions import asset_key
from sae_assets.pipeline.stages import STAGES

FIGURES = {
    "rows": "table_rows",
    "bytes": "stored_bytes",
    "cpu_seconds": "cpu_seconds",
    "peak_bytes": "peak_bytes",
}
SHOWN = {"rows": 1.0, "bytes": 1e6, "cpu_seconds": 1.0, "peak_bytes": 2.0**20}


def command(folder: Path, *options: str) -> dict[str, Any]:
    """What ``sae-assets materialize`` prints as JSON."""
    line = [sys.executable, "-c", "from sae_assets.cli import run; run()", "materialize", "-d", NAME, "--json"]
    places = ["--home", str(folder / "home"), "--catalog", str(folder / "catalog.yaml")]
    done = subprocess.run([*line, *options, *places], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def recorded(folder: Path, stage: dict[str, Any]) -> dict[str, float]:
    """What the last runs of a stage recorded, as many as were planned."""
    with open_session(folder / "home", folder / "catalog.yaml") as session:
        address = STAGES[stage["stage"]].address(NAME, stage["token_kind"], stage["model"], "0000")
        page = session.instance.fetch_materializations(asset_key(address), limit=stage["runs"])
        made = [record.asset_materialization.metadata for record in page.records if record.asset_materialization]
    values = {name: [number_of(one[label].value) for one in made] for name, label in FIGURES.items()}
    return {name: max(each) if name == "peak_bytes" else sum(each) for name, each in values.items()}


def report(step: str, expected: dict[str, Any], actual: dict[str, dict[str, float]]) -> None:
    print(f"{step:22}" + "".join(f"{name:>28}" for name in ("MB on disk", "CPU seconds", "peak MiB")))
    print(f"{'':22}" + f"{'predicted':>11}{'actual':>9}{'ratio':>8}" * 3)
    lines = {each["stage"]: each for each in expected["stages"]}
    sums = {name: sum(each[name] for each in actual.values()) for name in ("bytes", "cpu_seconds")}
    lines["of all"] = expected["total"]
    for name, each in lines.items():
        found = actual.get(name) or {**sums, "peak_bytes": max(one["peak_bytes"] for one in actual.values())}
        cells = ""
        for figure in ("bytes", "cpu_seconds", "peak_bytes"):
            predicted, took = each[figure] / SHOWN[figure], found[figure] / SHOWN[figure]
            digits = 0 if figure == "peak_bytes" else 2
            cells += f"{predicted:11,.{digits}f}{took:9,.{digits}f}{predicted / took:8.2f}"
        print(f"{name:22}{cells}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[2, 4, 8], help="that are there at each step")
    parser.add_argument("--examples", type=int, default=40, help="of a chunk")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sae_assets_preflight_", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        entry = {
            "root": str(folder / "data"), "layout": "clevr", "modality": "image", "concepts": CONCEPTS,
            "token_kinds": ["patch"], "models": ["clip-mini"], "chunk_size": given.examples, "controls": {},
            "unit_rows": True,
        }  # fmt: skip
        (folder / "catalog.yaml").write_text(yaml.safe_dump({"datasets": {NAME: entry}}))
        for number, count in enumerate(given.chunks):
            land(folder / "data", count * given.examples)
            expected = command(folder, "--dry-run")["datasets"][NAME]["expected"]
            command(folder)
            if number:
                actual = {each["stage"]: recorded(folder, each) for each in expected["stages"]}
                report(f"{given.chunks[number - 1]} to {count} chunks", expected, actual)


if __name__ == "__main__":
    main()
