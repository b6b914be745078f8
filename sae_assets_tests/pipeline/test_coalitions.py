"""Coalitions of a data set without train examples: cal is halved by the hash of its ids."""

import pytest

from sae_assets.commands.session import open_session
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.coalitions import parts_of
from sae_assets_tests.helpers.homes import invoke


@pytest.mark.long
def test_half_of_cal_takes_the_place_of_train(tmp_path, made_home):
    """Each example is in one half, whatever its chunk; what was counted is of these halves and of test."""
    home = made_home(tmp_path, "register")
    table = home["root"] / "metadata.csv"
    table.write_text(table.read_text().replace(",train", ",cal"))
    assert invoke(home, "materialize", "-d", "small", "--to", "coalitions").exit_code == 0
    with open_session(home["home"], home["catalog"]) as session:
        address = STAGES["coalitions"].address("small", "patch", "clip-mini")
        together = session.store.read(address).artifact
        said = [session.store.read(STAGES["labels"].address("small", chunk=key)).artifact for key in ("0000", "0001")]
    parts = [part for labels in said for part in parts_of(labels, True)]
    sizes = [parts.count(part) for part in ("train", "cal", "test")]
    assert together.halved and sizes[0] > 0 and sizes[1] > 0 and sizes[2] == 4
    assert together.counts.sum(-1).tolist() == [[size] * len(together.concepts) for size in sizes]
    assert all(parts_of(labels, False) == labels.splits for labels in said)
