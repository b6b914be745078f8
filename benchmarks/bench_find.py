"""Milliseconds of a query for units on a finished home of the demo: the first of a run just opened, and another.

python benchmarks/bench_find.py [HOME] [--repeat 5]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sae_assets
from sae_assets.reading import Run


def milliseconds(run: Run, query: dict[str, Any]) -> tuple[float, float]:
    """Wall time and CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    run.find(**query)
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path, nargs="?", help="default: ~/.sae_assets")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()

    def images() -> Run:
        return sae_assets.open(options.home)["clevr_mini"]["clip-mini"]["patch"]

    def texts() -> Run:
        return sae_assets.open(options.home)["moods_mini"]["gemma-mini"]["token"]

    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([{"index": str(unit), "description": f"the label of unit {unit}"} for unit in range(1280)], file)
        file.flush()
        queries: list[tuple[str, Callable[[], Run], list[dict[str, Any]]]] = [
            ("concept, patches", images, [{"concept": "color::red"}, {"concept": "shape::cube"}]),
            ("concept, tokens", texts, [{"concept": "joy"}, {"concept": "fear"}]),
            ("words", texts, [{"words": "laughed"}, {"words": "in the morning"}]),
            ("example, patches", images, [{"example": images().example_ids[9]}, {"example": images().example_ids[99]}]),
            ("example, tokens", texts, [{"example": texts().example_ids[9]}, {"example": texts().example_ids[99]}]),
            ("label", texts, [{"label": "unit 17", "labels": file.name}, {"label": "label 3", "labels": file.name}]),
        ]
        queries[0][1]().find(**queries[0][2][0])  # imports
        for name, opened, (first, second) in queries:
            runs = [opened() for _ in range(options.repeat)]
            times = [[milliseconds(run, query) for run in runs] for query in (first, second)]
            figures = [statistics.median(column) for each in times for column in zip(*each, strict=True)]
            print("{:18} first of a run {:6.1f} ms ({:5.1f} CPU), another {:6.1f} ({:5.1f})".format(name, *figures))


if __name__ == "__main__":
    main()
