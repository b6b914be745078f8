"""Annotations that were damaged are refused or remarked, and never give other figures without a word."""

from pathlib import Path

import pytest

from sae_assets_tests.helpers.damaged_inputs import WORLDS, try_damages


@pytest.mark.parametrize("name", WORLDS)
def test_no_damage_of_annotations_is_silent(tmp_path: Path, name: str) -> None:
    """Drawn ones that leave a trace; ``make fuzz`` tries more."""
    counts, silent = try_damages(WORLDS[name](tmp_path / "data"), seed=1, n=120)
    assert not silent
    assert counts["refused"] > 40
