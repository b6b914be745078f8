"""The real webserver: orders of pages of other sites are refused, of a real browser too, and SIGTERM ends it."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser

from sae_assets.orchestration.instance.home import open_instance
from sae_assets.settings import load_settings
from sae_assets_tests.browser.server import free_port, webserver
from sae_assets_tests.processes import environment, wait_until

pytestmark = [pytest.mark.living, pytest.mark.xdist_group("guard")]
DELETE = 'mutation { deletePipelineRun(runId: "%s") { __typename } }'
ATTACK = """<!doctype html><title>evil</title><body><script>
const url = "{url}/graphql", query = {query};
const tries = [
  fetch(url, {{method: "POST", headers: {{"Content-Type": "application/json"}}, body: JSON.stringify({{query}})}}),
  fetch(url, {{method: "POST", mode: "no-cors", body: JSON.stringify({{query}})}}),
  fetch(url + "?query=" + encodeURIComponent(query), {{method: "POST", mode: "no-cors"}}),
  fetch(url + "?query=" + encodeURIComponent(query), {{mode: "no-cors"}}),
  new Promise(done => {{
    const image = new Image(); image.onload = image.onerror = done;
    image.src = url + "?query=" + encodeURIComponent(query);
  }}),
  new Promise(done => {{
    const socket = new WebSocket(url.replace("http", "ws"), "graphql-ws");
    socket.onopen = () => {{ document.title = "socket"; done(); }}; socket.onerror = socket.onclose = done;
  }}),
];
Promise.allSettled(tries).then(() => {{ document.title += " done"; }});
</script><iframe name="frame" src="{url}/runs"></iframe>
<form action="{url}/graphql?query=x" method="post" target="frame"></form>"""


def with_run(home: Path) -> str:
    """A home whose history holds a run; its id."""

    @dg.job
    def nothing() -> None: ...

    with open_instance(load_settings(home)) as instance:
        return instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.SUCCESS).run_id


def has_run(home: Path, run_id: str) -> bool:
    with open_instance(load_settings(home)) as instance:
        return instance.get_run_by_id(run_id) is not None


def status(url: str, body: bytes | None = None, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data=body, headers=named), timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def upgraded(url: str, origin: str) -> bool:
    """Whether a websocket is opened for a page of this origin."""
    host = url.removeprefix("http://")
    name, port = host.split(":")
    with socket.create_connection((name, int(port)), timeout=60) as connection:
        connection.sendall(
            f"GET /graphql HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: graphql-ws\r\n\r\n".encode()
        )
        return b" 101 " in connection.recv(200)


@contextmanager
def page_of_another_origin(page: str) -> Iterator[str]:
    """Another server of this machine, which answers everything with a page; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_pages_of_other_sites_give_no_orders(tmp_path: Path, browser: Browser) -> None:
    run_id = with_run(tmp_path)
    query = DELETE % run_id
    body = json.dumps({"query": query}).encode()
    with webserver(tmp_path) as server:
        graphql = f"{server.url}/graphql"
        json_type = {"Content_Type": "application/json"}
        assert status(graphql, body, **json_type, Origin="http://evil.example") == 403
        assert status(graphql, body, **json_type, Host="evil.example") == 403
        assert status(graphql, body, Content_Type="text/plain") == 403
        assert status(f"{graphql}?query={urllib.request.quote(query)}") == 403
        assert status(server.url, Host="evil.example") == 403
        assert not upgraded(server.url, "http://evil.example") and upgraded(server.url, server.url)
        with page_of_another_origin(ATTACK.format(url=server.url, query=json.dumps(query))) as evil:
            page = browser.new_page()
            page.goto(evil)
            page.wait_for_function("document.title.endsWith('done')", timeout=120_000)
            assert page.title() == "evil done"  # no socket was opened
            page.evaluate("document.forms[0].submit()")
            page.wait_for_timeout(500)
            page.close()
        assert has_run(tmp_path, run_id)
        assert status(server.url) == 200
        # The same order of a program that is no browser is carried out: it was a real one.
        assert status(graphql, body, **json_type) == 200
        assert not has_run(tmp_path, run_id)


def test_ui_that_a_script_started_in_the_background_ends_by_sigterm(tmp_path: Path) -> None:
    """A shell lets what it starts with & ignore Ctrl-C, and Dagster takes SIGTERM for that."""
    run = "from sae_assets.cli import run; run()"
    log = tmp_path / "ui.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", run, "ui", "--port", str(free_port())], env=environment(tmp_path), stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, cwd=tmp_path,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )  # fmt: skip
    try:
        wait_until(lambda: b"Launching Dagster services" in log.read_bytes(), "the UI has started", tell=log.read_text)
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        process.wait(120)
        assert time.monotonic() - start < 60, "it was killed by somebody else"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
