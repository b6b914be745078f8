"""What is installed from the wheel, outside the clone, runs the demo and makes its report: all it needs is in it.

The demo's home, which many tests look at, is made by it (fixture ``demo``).
"""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from sae_assets_tests.helpers.wheel import ROOT, run

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("demo")]


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(demo: dict[str, Any]) -> None:
    with zipfile.ZipFile(demo["wheel"]) as content:
        held = {name for name in content.namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sae_assets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there


def test_its_demo_has_figures_and_a_report(demo: dict[str, Any], tmp_path: Path) -> None:
    figures = demo["summary"]
    assert {"clevr_mini/patch/clip-mini", "moods_mini/token/gemma-mini"} <= {*figures}
    assert all(each["weighted_test_f1"] > 0.5 and not each["stale_stages"] for each in figures.values())
    page = tmp_path / "report.html"
    run(
        [demo["command"], "report", "clevr_mini", "clip-mini", "--out", str(page), "--home", str(demo["home"])],
        tmp_path,
    )
    text = page.read_text(encoding="utf-8")
    assert "color::red" in text and "data:image/" in text and len(text) > 100_000
