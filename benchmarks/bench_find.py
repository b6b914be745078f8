"""Milliseconds of a query for units on a finished home of the demo: the first of a process that has loaded the package
and opened the results, with all that it loads; the first of others; and another.

python benchmarks/bench_find.py [HOME] [--repeat 5]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sae_assets
from sae_assets.reading import Results


def milliseconds(results: Results, query: dict[str, Any]) -> tuple[float, float]:
    """Wall time and CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    results.find(**query)
    return (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def opened(home: Path | None, results: str) -> Results:
    dataset, kind, model = results.split("/")
    return sae_assets.open(home)[dataset][model][kind]


def first_of_process(home: Path | None, results: str, query: dict[str, Any]) -> tuple[float, float]:
    command = [sys.executable, __file__, "--one", json.dumps([results, query]), *([] if home is None else [str(home)])]
    wall, cpu = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return wall, cpu


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path, nargs="?", help="default: ~/.sae_assets")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--one", type=json.loads, help="results and a query, of which it prints the time")
    options = parser.parse_args()
    home = options.home
    if options.one:
        address, query = options.one
        print(json.dumps(milliseconds(opened(home, address), query)))
        return
    patches, tokens = "clevr_mini/patch/clip-mini", "moods_mini/token/gemma-mini"
    pictures, texts = opened(home, patches).example_ids, opened(home, tokens).example_ids
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([{"index": str(unit), "description": f"the label of unit {unit}"} for unit in range(1280)], file)
        file.flush()
        queries: list[tuple[str, str, list[dict[str, Any]]]] = [
            ("concept, patches", patches, [{"concept": "color::red"}, {"concept": "shape::cube"}]),
            ("concept, tokens", tokens, [{"concept": "joy"}, {"concept": "fear"}]),
            ("words", tokens, [{"words": "laughed"}, {"words": "in the morning"}]),
            ("example, patches", patches, [{"example": pictures[9]}, {"example": pictures[99]}]),
            ("example, tokens", tokens, [{"example": texts[9]}, {"example": texts[99]}]),
            ("label", tokens, [{"label": "unit 17", "labels": file.name}, {"label": "label 3", "labels": file.name}]),
        ]
        print(f"{'':17} first of a process   first of results   another   (ms of wall time, of CPU)")
        for name, address, (first, second) in queries:
            opened(home, address).find(**first)  # imports
            opened_anew = [opened(home, address) for _ in range(options.repeat)]
            times = [[first_of_process(home, address, first) for _ in opened_anew]]
            times += [[milliseconds(results, query) for results in opened_anew] for query in (first, second)]
            figures = [statistics.median(column) for each in times for column in zip(*each, strict=True)]
            print("{:17} {:9.1f} {:8.1f} {:9.1f} {:6.1f} {:6.1f} {:5.1f}".format(name, *figures))


if __name__ == "__main__":
    main()
