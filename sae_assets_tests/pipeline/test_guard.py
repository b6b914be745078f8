"""Nobody but a person's own browser, on the pages of this server, and programs that are no browser get in."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dagster._cli.utils import get_possibly_temporary_instance_for_cli

import sae_assets
from sae_assets.orchestration.instance.guard import Guard, refusal
from sae_assets.settings import HOSTS_VARIABLE, ui_hosts

URL = "127.0.0.1:3000"
JSON = {"content-type": "application/json"}
SAME = {"origin": f"http://{URL}", "sec-fetch-site": "same-origin"}
EVIL = "http://evil.example"


def request(
    path: str = "/graphql", *, method: str = "POST", query: str = "", kind: str = "http", **headers: str
) -> dict:
    named = {"host": URL, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": kind, "method": method, "path": path, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }  # fmt: skip


def said(scope: dict) -> str:
    return refusal(scope, Guard(None, ["hub.example"])._hosts)  # type: ignore[arg-type]


LET_IN = {
    "the UI asks": request(**JSON, **SAME),
    "by another name": request(**JSON, host="localhost:3000", origin="http://localhost:3000"),
    "through a tunnel": request(**JSON, host="localhost:8888", origin="http://localhost:8888"),
    "IPv6": request(**JSON, host="[::1]:3000", origin="http://[::1]:3000"),
    "through a proxy that was named": request(**JSON, host="hub.example", origin="https://hub.example"),
    "a program": request(**JSON),
    "with a charset": request(content_type="application/json; charset=utf-8"),
    "a page": request("/assets", method="GET"),
    "a page, by a link on another site": request(
        "/runs/1", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="navigate"
    ),
    "in capitals": request(**JSON, host="LOCALHOST:3000", origin="http://localhost:3000"),
    "a link that opens a page": request(
        "/", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="document"
    ),
    "the playground": request(method="GET", accept="text/html", sec_fetch_site="none", sec_fetch_mode="navigate"),
    "a report by a program": request("/report_asset_materialization/a"),
    "subscriptions": request(kind="websocket", origin=f"http://{URL}"),
}  # fmt: skip
MUTATION = "query=mutation+%7B+deletePipelineRun%28runId%3A%221%22%29+%7B__typename%7D%7D"
REFUSED = {
    "another page asks": request(**JSON, origin=EVIL, sec_fetch_site="cross-site"),
    "another page, old browser": request(**JSON, origin=EVIL),
    "a file or a sandbox": request(**JSON, origin="null"),
    "another port of this machine": request(**JSON, origin="http://127.0.0.1:8080"),
    "another port, same site": request(**JSON, sec_fetch_site="same-site"),
    "two origins": request(**JSON, origin=f"http://{URL}, {EVIL}"),
    "an origin in an origin": request(**JSON, origin=f"{EVIL}://{URL}"),
    "a name that was bound to this machine": request(
        **JSON, host="evil.example:3000", origin="http://evil.example:3000"
    ),
    "reading by such a name": request("/assets", method="GET", host="evil.example:3000"),
    "a name that begins alike": request(**JSON, host="127.0.0.1.evil.example"),
    "a user in the name": request(**JSON, host="127.0.0.1@evil.example"),
    "two names in one": request(**JSON, host="localhost:3000,evil.example"),
    "a name and a path": request(**JSON, host="localhost/evil.example"),
    "a port that is none": request(**JSON, host="localhost:3000x"),
    "this machine, another way": request(**JSON, host="127.1:3000"),
    "an origin with a path": request(**JSON, origin=f"http://{URL}/"),
    "an empty origin": request(**JSON, origin=""),
    "a frame": request(
        "/", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="navigate", sec_fetch_dest="iframe"
    ),
    "no name": request(**JSON, host=""),
    "a broken name": request(**JSON, host="[::1"),
    "a mutation by GET": request(method="GET", query=MUTATION),
    "a picture": request(method="GET", query=MUTATION, sec_fetch_site="cross-site", sec_fetch_mode="no-cors"),
    "a link": request(method="GET", query=MUTATION, sec_fetch_site="cross-site", sec_fetch_mode="navigate"),
    "a link with an empty query first": request(method="GET", query="query=&" + MUTATION),
    "a form": request(content_type="text/plain", query=MUTATION),
    "a form that looks like JSON": request(content_type="text/plain; application/json"),
    "no type": request(),
    "a query in the address of a POST": request(**JSON, query=MUTATION),
    "with a slash": request("/graphql/", method="GET", query=MUTATION),
    "another verb": request(**JSON, method="PUT"),
    "a question before": request(method="OPTIONS", origin=EVIL),
    "a report by a page": request("/report_asset_materialization/a", origin=EVIL),
    "a report by a form of old": request("/report_asset_materialization/a", sec_fetch_site="cross-site"),
    "a script of another page": request("/logs/x", method="GET", sec_fetch_site="cross-site", sec_fetch_mode="no-cors"),
    "subscriptions of another page": request(kind="websocket", origin=EVIL),
    "subscriptions by another name": request(kind="websocket", host="evil.example:3000"),
}


@pytest.mark.parametrize("name", LET_IN)
def test_let_in(name: str) -> None:
    assert said(LET_IN[name]) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    assert said(REFUSED[name])


def test_two_hosts_are_refused() -> None:
    scope = request(**JSON)
    scope["headers"].append((b"Host", b"evil.example"))
    assert "expected one of" in said(scope)


def answer(scope: dict) -> list[dict[str, Any]]:
    """What the guard, in front of an application that answers everything, sends."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})

    async def receive() -> dict:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(app)(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_answers() -> None:
    (start,) = answer(LET_IN["the UI asks"])
    assert start["status"] == 200 and (b"x-frame-options", b"DENY") in start["headers"]
    start, body = answer(REFUSED["another page asks"])
    assert start["status"] == 403 and b"Origin is http://evil.example" in body["body"]
    (close,) = answer(REFUSED["subscriptions of another page"])
    assert close["type"] == "websocket.close" and close["code"] == 1008
    assert answer({"type": "lifespan"})[0]["status"] == 200


def test_names_of_a_proxy_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ui_hosts() == []
    monkeypatch.setenv(HOSTS_VARIABLE, "hub.example, other.example,")
    assert ui_hosts() == ["hub.example", "other.example"]


def test_dagster_starts_our_webserver_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be started without the guard, because Dagster does it in another way one day, is not started."""
    from dagster._cli import dev

    from sae_assets.orchestration.internals import serve

    started: list[list[str]] = []
    monkeypatch.setattr(dev, "open_ipc_subprocess", lambda parts, **_: started.append(parts))

    def by(*commands: list[str]) -> None:
        class Command:
            def main(self, arguments: list[str], prog_name: str) -> None:
                for command in commands:
                    dev.open_ipc_subprocess(command)

        monkeypatch.setattr(dev, "dev_command", Command())
        serve([], "ours")

    by([sys.executable, "-m", "dagster_webserver", "--port", "3000"], [sys.executable, "-m", "dagster._daemon", "run"])
    assert [parts[2] for parts in started] == ["ours", "dagster._daemon"] and started[0][3:] == ["--port", "3000"]
    monkeypatch.setattr(dev, "open_ipc_subprocess", lambda parts, **_: started.append(parts))
    with pytest.raises(RuntimeError, match="expected Dagster to start its webserver first"):
        by([sys.executable, "-m", "another_webserver"])
    assert len(started) == 2


def test_no_program_that_loads_the_package_sends_statistics() -> None:
    """However it was started; a person who wants otherwise says so in the environment."""
    code = (
        "import sae_assets, os;print(os.environ['DAGSTER_DISABLE_TELEMETRY'], os.environ['HF_HUB_DISABLE_TELEMETRY'])"
    )
    bare = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    shown = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "1"]


def test_dagster_alone_sends_none_either_where_the_workspace_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its web server and daemon load no package of ours, but the variables of the folder that they are started in."""
    root = Path(sae_assets.__file__).parent.parent
    assert (root / "workspace.yaml").is_file()
    monkeypatch.chdir(root)
    monkeypatch.delenv("DAGSTER_DISABLE_TELEMETRY", raising=False)
    with get_possibly_temporary_instance_for_cli("dagster dev"):
        assert os.environ["DAGSTER_DISABLE_TELEMETRY"] == "yes"
