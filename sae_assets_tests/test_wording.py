"""Counts as people write them."""

from sae_assets.wording import counted


def test_one_is_singular_and_every_other_number_plural():
    assert [counted(count, "row") for count in (0, 1, 2, 1024)] == ["0 rows", "1 row", "2 rows", "1,024 rows"]
    assert counted(1, "entry", "entries") == "1 entry" and counted(2, "entry", "entries") == "2 entries"
