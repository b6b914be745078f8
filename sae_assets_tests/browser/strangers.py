"""What a page of another site tries with a webserver of this machine, and how one asks it without a browser."""

import http.server
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

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
