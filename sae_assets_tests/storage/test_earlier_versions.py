"""Files of `controls` that earlier versions wrote (`older/`) are read as what they say, with what they lack as null.

The first had no random SAEs on rows, the second had them, the third has intervals of AUROC and the largest DiffMean
too; none has all controls of rows. Each was written by the code of its time from the artifact of ``small``.
"""

import shutil
from pathlib import Path

import pytest
import torch

from sae_assets.artifacts.controls import EARLIER_ROW_CONTROLS, LARGEST, LEVELS, RANDOM, UNIT, Controls
from sae_assets.pipeline.stages.controls import beaten, verdict
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets_tests.storage.small import CONCEPTS, SMALL, provenance

OLDER = Path(__file__).parent / "older"
ADDRESS = Address("pictures", "controls", "patch", "tiny")


def read(number: int, folder: Path) -> Controls:
    """The file as it lies in a home; its content hash is that of its header, or it would be refused."""
    path = folder / "pictures" / "patch" / "tiny" / "controls" / "all.parquet"
    path.parent.mkdir(parents=True)
    shutil.copy(OLDER / f"controls_{number}.parquet", path)
    return ArtifactStore(str(folder)).read(ADDRESS).artifact


@pytest.mark.parametrize(("number", "random_on_rows", "second_pass"), [(1, None, None), (2, 1, None), (3, 1, True)])
def test_earlier_files_are_read(number: int, random_on_rows: int | None, second_pass: bool | None, tmp_path: Path):
    """Detectors, comparisons and figures are those that were written; what is new is None."""
    got = read(number, tmp_path)
    assert (got.concepts, got.n_row_seeds, got.second_pass, got.row_controls) == (
        *(CONCEPTS, random_on_rows, second_pass, None),
    )
    assert (got.auroc_intervals is None) == (number < 3)
    of_rows = [name for level, name in got.comparisons if level == LEVELS[1]]
    assert of_rows == [*([RANDOM] if random_on_rows else []), *EARLIER_ROW_CONTROLS]
    assert ((LEVELS[0], LARGEST) in got.comparisons) == bool(second_pass)
    now = SMALL["controls"]
    for name in (UNIT, RANDOM):
        assert torch.equal(got.of(got.counts, LEVELS[0], name), now.of(now.counts, LEVELS[0], name))
    assert got.of(got.f1, LEVELS[1], UNIT)[0, 0] == pytest.approx(2 * 9 / (2 * 9 + 1 + 1))
    assert verdict(got).startswith("On examples, by weighted test F1") and beaten(got) == {}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_earlier_files_are_written_again_as_they_are(number: int, tmp_path: Path):
    """By the code of today: the same content, under the same hash."""
    got, store = read(number, tmp_path / "old"), ArtifactStore(str(tmp_path / "new"))
    store.write(ADDRESS, stored(got, provenance(**vars(ADDRESS))))
    assert store.read(ADDRESS).artifact == got
