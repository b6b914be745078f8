"""Counts and intervals as people write them."""

from pathlib import Path

import pytest

from sae_assets.wording import counted, interval, without_places


def test_one_is_singular_and_every_other_number_plural():
    assert [counted(count, "row") for count in (0, 1, 2, 1024)] == ["0 rows", "1 row", "2 rows", "1,024 rows"]
    assert counted(1, "entry", "entries") == "1 entry" and counted(2, "entry", "entries") == "2 entries"


@pytest.mark.parametrize(
    ("ends", "shown"),
    [
        ((0.84, 0.98), "0.84–0.98"),
        ((-0.05, 0.1), "-0.05 to 0.10"),
        ((0.99612, 1.0), "0.996–1.000"),
        ((0.999991, 0.999999), "0.99999–1.00000"),
        ((None, 1.0), None),
    ],
)
def test_no_interval_is_written_as_a_point(ends, shown):
    assert interval(*ends) == shown


def test_errors_on_pages_name_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    folder = Path("/home/alice/data/cats")
    missing = FileNotFoundError(2, "No such file", str(folder / "a/b.png"))
    assert without_places(missing, folder) == "[Errno 2] No such file: 'a/b.png'"
    gone = ValueError(f"{folder} is no folder, /home/alice/x neither\nmore")
    assert without_places(gone, folder) == "cats is no folder, ~/x neither"
