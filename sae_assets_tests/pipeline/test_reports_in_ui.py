"""Reports at addresses of the UI: the page of the store, and for every other address a sentence."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sae_assets.orchestration.instance.guard import Guard
from sae_assets.orchestration.instance.reports import PLACE, Reports, address_in_ui
from sae_assets.settings import load_settings
from sae_assets.storage.address import Address
from sae_assets_tests.helpers.homes import Homes, Places, places_in
from sae_assets_tests.pipeline.small import damaged_payload, write_catalog


@pytest.fixture
def places(tmp_path: Path, made_home: Homes) -> Places:
    return made_home(tmp_path)


def asked(places: Places, path: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
    """Status, headers and body that a browser gets, through the guard; 418 is what the UI behind it says."""
    sent: list[Any] = []

    async def behind(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    settings = load_settings(places["home"], places["catalog"])
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [(b"host", b"localhost")]}
    asyncio.run(Guard(Reports(behind, settings))(scope, None, send))  # type: ignore[arg-type]
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message["body"] for message in sent[1:]).decode()


def test_a_report_is_the_page_of_the_store(places: Places) -> None:
    """As it lies there, from the address that the metadata of every aggregate has; it can load and send nothing."""
    file = places["home"] / "store" / "small" / "patch" / "clip-mini" / "report" / "all.html"
    address = address_in_ui(Address("small", "best_pairs", "patch", "clip-mini"))
    status, headers, body = asked(places, address)
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8"
    assert body.partition("-->")[2].strip() in file.read_text(encoding="utf-8")
    assert "<h1" in body and "default-src 'none'" in headers["content-security-policy"]
    status, of_head, empty = asked(places, address, "HEAD")
    assert (status, empty, of_head["content-length"]) == (200, "", headers["content-length"])
    assert asked(places, address, "POST")[0] == 405
    assert asked(places, "/assets")[0] == 418

    file.write_bytes(damaged_payload(file.read_bytes()))
    status, headers, body = asked(places, address)
    assert status == 500 and headers["content-type"].startswith("text/plain") and "--from report" in body
    file.unlink()
    status, _, body = asked(places, address)
    assert status == 404 and "sae-assets materialize" in body


@pytest.mark.parametrize(
    "path",
    ["", "small", "small/patch", "small/patch/clip-mini/report", "../small/patch", "small/../clip-mini", "a/b/c",
     "small/cls/clip-mini", "small/patch/..", "small//clip-mini", "./small/patch/clip-mini", "small/patch/clip-mini/"],
)  # fmt: skip
def test_nothing_else_is_handed_out(tmp_path: Path, path: str) -> None:
    places = places_in(tmp_path)
    write_catalog(places["catalog"], places["root"], token_kinds=["patch"])
    status, headers, body = asked(places, PLACE + path)
    assert status == 404 and headers["content-type"].startswith("text/plain")
    assert body == "The catalog has no data set, token kind and model of these names.\n"


def test_names_are_quoted() -> None:
    assert address_in_ui(Address("a b", "report", "patch", "m/ü?")) == f"{PLACE}a%20b/patch/m%2F%C3%BC%3F"
