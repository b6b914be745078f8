"""Reports of a home at addresses of its UI, so that who looks at an asset there opens its report by a click.

The page is the one of the store. Names in an address are looked for in the catalog, and never become a path themselves.
"""

import asyncio
from urllib.parse import quote

from sae_assets.catalog import load_catalog
from sae_assets.errors import NotMaterializedError, SaeAssetsError
from sae_assets.orchestration.instance.guard import READING, App, Receive, Scope, Send
from sae_assets.pipeline.stages import STAGES
from sae_assets.settings import Settings
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore

PLACE = "/sae_assets/reports/"
# A page is whole in itself: whatever it held, it could load nothing, send nothing and lead nowhere else.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]


def address_in_ui(of: Address) -> str:
    """Return where the UI has the report that an artifact is part of: an address without the server's name."""
    return PLACE + "/".join(quote(str(name), safe="") for name in (of.dataset, of.token_kind, of.model))


class Reports:
    """An ASGI application in front of another one, which answers for reports and nothing else."""

    def __init__(self, app: App, settings: Settings):
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PLACE):
            await self._app(scope, receive, send)
            return
        if scope["method"] in READING:
            status, kind, body = await asyncio.to_thread(self.page, scope["path"].removeprefix(PLACE).split("/"))
        else:
            status, kind, body = 405, "plain", "A report can only be read.\n"
        content = body.encode()
        headers = [(b"content-type", f"text/{kind}; charset=utf-8".encode()), *HEADERS]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})

    def page(self, names: list[str]) -> tuple[int, str, str]:
        """Return status, kind of text and text of what stands at data set, token kind and model."""
        try:
            catalog = load_catalog(self._settings.catalog)
            for name, entry in catalog.datasets.items():
                if len(names) == 3 and names[0] == name and names[1] in entry.token_kinds and names[2] in entry.models:
                    address = STAGES["report"].address(name, names[1], names[2])
                    store = ArtifactStore(self._settings.store)
                    if store.find(address) is None:
                        return 404, "plain", f"{address} has not been made. Run: {address.making}\n"
                    return 200, "html", store.read(address).artifact.html
        except NotMaterializedError as error:  # it was removed meanwhile
            return 404, "plain", f"{error}\n"
        except SaeAssetsError as error:
            return 500, "plain", f"{error}\n"
        return 404, "plain", "The catalog has no data set, token kind and model of these names.\n"
