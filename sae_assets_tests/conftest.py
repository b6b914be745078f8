"""What all tests share: checked shapes in ops, a clean environment, no network, no telemetry."""

import os
import socket

os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("SAE_ASSETS_") and "TEST" not in name]:
    if name not in ("SAE_ASSETS_SCREENSHOTS", "SAE_ASSETS_REQUIRE_BROWSER", "SAE_ASSETS_REQUIRE_REFERENCE"):
        del os.environ[name]
os.environ.pop("DAGSTER_HOME", None)

import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("sae_assets.ops", "beartype.beartype")  # before anything imports ops

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to anywhere but this machine fails the test that makes it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a command sets in the environment ends with its test; nothing reaches the person's own home."""
    before = dict(os.environ)
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
