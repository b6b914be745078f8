"""A guard stands in front of Dagster's webserver: it has no login, and would take orders from any page of any site.

Dagster answers mutations by GET and POST whatever ``Origin`` and ``Host`` say, so that a page that a person happens to
have open could delete runs, or start some, and one that gives its own name this machine's address could read all. Let
through is what a person's own browser asks on pages of this server, and what programs ask that are no browser.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from sae_assets.settings import HOSTS_VARIABLE

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READING = ("GET", "HEAD")
ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?", re.IGNORECASE)  # in `Host`
POLICY_VIOLATION = 1008  # of websockets
HEADERS = [(b"x-frame-options", b"DENY"), (b"content-security-policy", b"frame-ancestors 'none'")]


class Guard:
    """An ASGI application in front of another one.

    Args:
        hosts: names, beside those of this machine's loopback, by which browsers may ask for the server.
    """

    def __init__(self, app: App, hosts: Iterable[str] = ()):
        self._app, self._hosts = app, frozenset([*LOOPBACK, *(host.lower() for host in hosts)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = refusal(scope, self._hosts)
        if not reason:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await receive()  # its request to connect
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": reason})
        else:
            text = f"Refused: {reason}.\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": text})


def refusal(scope: Mapping[str, Any], hosts: Collection[str]) -> str:
    """Return why a request is not let through; empty if it is."""
    headers: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    host = headers.get("host", [])
    if len(host) != 1 or _name(host[0]) not in hosts:
        allowed = ", ".join(sorted(hosts))
        return (
            f"Host is {', '.join(host) or 'missing'}, expected one of {allowed} (of a proxy of yours: {HOSTS_VARIABLE})"
        )
    for origin in headers.get("origin", []):
        scheme, _, page = origin.partition("://")
        if scheme not in ("http", "https") or page.lower() != host[0].lower():
            return f"Origin is {origin}, expected a page of {host[0]}"
    if scope["type"] == "websocket":
        return ""
    method, is_graphql = scope["method"], scope["path"].rstrip("/").endswith("/graphql")
    if method not in (*READING, "POST"):
        return f"the method is {method}, expected GET or POST"
    if is_graphql and b"query" in parse_qs(scope.get("query_string", b""), keep_blank_values=True):
        return "queries are not taken from addresses, which any page can link to"
    content_type = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
    if is_graphql and method == "POST" and content_type != "application/json":
        return f"the content type is {content_type or 'missing'}, expected application/json"
    # Browsers say where a request comes from also where they send no Origin: pictures, scripts, forms of old.
    site, mode, into = (headers.get(f"sec-fetch-{name}", [""])[0] for name in ("site", "mode", "dest"))
    followed_a_link = method in READING and mode == "navigate" and into in ("document", "") and not is_graphql
    if site in ("cross-site", "same-site") and not followed_a_link:
        return "it comes from a page of another site"
    return ""


def _name(host: str) -> str:
    """Return the name in a ``Host``, without its port; empty where it is no such."""
    match = ADDRESS.fullmatch(host)
    return (match["six"] or match["name"]).lower() if match else ""


def _unframed(send: Send) -> Send:
    """Return the same answers, which no page may show inside itself, where clicks could be led astray."""

    async def without_frames(message: Any) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", ())}
            headers = [header for header in HEADERS if header[0] not in names]
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return without_frames
