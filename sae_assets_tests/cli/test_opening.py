"""The page that a command opens: in a browser where there is a screen, and nowhere else."""

from pathlib import Path

import pytest

from sae_assets.cli import report


@pytest.mark.parametrize(
    ("platform", "screen", "opened"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
    ],
)
def test_a_page_is_opened_where_there_is_a_screen(
    platform: str, screen: dict[str, str], opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere programs of the desktop would name every browser that is not there."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in screen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(report.sys, "platform", platform)
    addresses: list[str] = []
    monkeypatch.setattr(report.typer, "launch", addresses.append)
    report._open(tmp_path / "a page.html")
    assert addresses == ([f"{tmp_path.resolve().as_uri()}/a%20page.html"] if opened else [])
