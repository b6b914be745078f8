"""Seconds of the UI's partition page and launch dialog, over many chunks.

A real webserver on a temporary home with registered chunks of which a part was made (told to Dagster's history, no file
is written), and headless Chromium. For an asset by chunk and one by model and chunk: seconds until its partitions are
listed and until the dialog of *Materialize* is there, each GraphQL query that the browser made for it, and the same
queries again over plain HTTP, one after the other.

    python benchmarks/bench_ui.py [--chunks 10000] [--made 2000] [--datasets 50]
"""

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
sys.path.append(str(Path(__file__).parents[1]))  # the tests' way to a webserver and a browser is not installed

import dagster as dg
from bench_scale import NAME, land, write_catalog
from playwright.sync_api import Request

from sae_assets.commands.session import Session, open_session
from sae_assets.orchestration.partitions import chunks_name, multi_key
from sae_assets_tests.browser.screenshots import Window, chromium, window
from sae_assets_tests.browser.server import webserver

MODEL = "clip-mini"
ASSETS = {"examples": f"{NAME}/examples", "sparse_activations": f"{NAME}/patch/sparse_activations"}
Query = dict[str, Any]


def tell(session: Session, chunks: list[str], n_made: int) -> None:
    """Register partitions and record materializations as runs do, without the runs."""
    session.instance.add_dynamic_partitions(chunks_name(NAME), chunks)
    version = {"dagster/data_version": "a"}
    for chunk in chunks[:n_made]:
        for asset, partition in (("examples", chunk), ("sparse_activations", multi_key(MODEL, chunk))):
            key = dg.AssetKey(ASSETS[asset].split("/"))
            session.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition, tags=version))


class Watch:
    """The GraphQL queries of a window, first of each name and variables, and how long the browser waited for each."""

    def __init__(self, shown: Window):
        self.queries: list[tuple[Query, float]] = []
        shown.page.on("requestfinished", self._finished)

    def _finished(self, request: Request) -> None:
        asked = request.post_data_json if "/graphql" in request.url else None
        if isinstance(asked, dict) and asked not in [query for query, _ in self.queries]:
            self.queries.append((asked, request.timing["responseEnd"] / 1000))

    def take(self) -> list[tuple[Query, float]]:
        queries, self.queries = self.queries, []
        return queries


def print_queries(url: str, queries: list[tuple[Query, float]], least: float) -> None:
    for query, waited in queries:
        request = urllib.request.Request(
            f"{url}/graphql", data=json.dumps(query).encode(), headers={"Content-Type": "application/json"}
        )
        start = time.perf_counter()
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as response:
            size = len(response.read())
        seconds = time.perf_counter() - start
        if seconds >= least:
            name = query.get("operationName", "")
            print(f"    {name:42} browser {waited:6.2f} s   HTTP {seconds:6.2f} s   {size / 1000:9,.1f} kB")


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    land(folder / "data", 3)
    catalog = write_catalog(folder, folder / "data", arguments.datasets)
    chunks = [f"{number:04d}" for number in range(arguments.chunks)]
    with open_session(folder / "home", catalog) as session:
        tell(session, chunks, arguments.made)
    print(f"{arguments.chunks:,} chunks of which {arguments.made:,} were made, {arguments.datasets} data sets")
    with webserver(folder / "home", catalog) as server, chromium() as browser:
        if browser is None:
            print("no Chromium on this machine: not measured")
            return
        for visit, (asset, path) in enumerate([("", ASSETS["examples"]), *ASSETS.items()]):
            with window(browser, server.url) as shown:
                watch, start = Watch(shown), time.perf_counter()
                shown.open(f"/assets/{path}?view=partitions")
                shown.page.get_by_text(f"Missing ({arguments.chunks - arguments.made})").first.wait_for()
                shown.page.get_by_text(chunks[0], exact=True).first.wait_for()
                listed = time.perf_counter() - start
                if not visit:  # the first visit, which no other pays for
                    print(f"first page after the webserver's start: {listed:.2f} s")
                    continue
                print(f"{asset}: partitions listed after {listed:.2f} s")
                shown.page.wait_for_timeout(1000)
                print_queries(server.url, watch.take(), arguments.least)
                start = time.perf_counter()
                shown.page.get_by_role("button", name="Materialize").first.click()
                shown.page.get_by_role("button", name="Launch").last.wait_for()
                shown.page.get_by_text("Partition selection").first.wait_for()
                print(f"{asset}: dialog there after {time.perf_counter() - start:.2f} s")
                shown.page.wait_for_timeout(3000)
                print_queries(server.url, watch.take(), arguments.least)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--made", type=int, default=2000)
    parser.add_argument("--datasets", type=int, default=50)
    parser.add_argument("--least", type=float, default=0.05, help="queries that took less over HTTP are not listed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sae_assets_ui_", ignore_cleanup_errors=True) as folder:
        measure(Path(folder), arguments)


if __name__ == "__main__":
    main()
