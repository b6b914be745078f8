"""Keys through a file: all of them, group by group, whatever is held and however they come."""

import errno
import gc
import io
import os
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_assets.ops import key_runs
from sae_assets.ops.key_runs import KeyRuns
from sae_assets.ops.segments import BITS
from sae_assets_tests.strategies import PROPERTY

PARTS = st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 2**31 - 1), st.integers(0, 99)), max_size=12))


def put_in(runs: KeyRuns, parts: list, *, tagged: bool, in_place: bool = False) -> torch.Tensor:
    """The number of keys of each of seven groups, of which the last has none."""
    counts = torch.zeros(7, dtype=torch.int64)
    for part in parts:
        keys = torch.tensor([group << BITS | bits for group, bits, _ in part], dtype=torch.int64)
        tags = torch.tensor([tag for _, _, tag in part], dtype=torch.int32)
        counts += torch.bincount(keys >> BITS, minlength=7)
        room = runs.room(len(keys) + 2, tagged=tagged) if in_place else None
        if room is None:
            runs.add(keys, tags if tagged else None)
            continue
        room[0][: len(keys)] = keys
        if tagged:
            room[1][: len(keys)] = tags
        runs.filled(len(keys))
    return counts


@PROPERTY
@given(PARTS, st.integers(0, 40), st.booleans(), st.sampled_from([1, 2, 3, key_runs.STEP]), st.booleans())
def test_blocks_are_all_keys_in_the_order_of_their_groups(parts, most, tagged, step, in_place):
    """Each with its tag; no block is larger than allowed, unless it is of one group. Where there is room, keys may be
    put there, and fewer than there is room for."""
    with patch.object(key_runs, "STEP", step):
        _expect_blocks(KeyRuns(most), parts, most, tagged, in_place)


def _expect_blocks(runs, parts, most, tagged, in_place=False):
    counts = put_in(runs, parts, tagged=tagged, in_place=in_place)
    found: Counter = Counter()
    stop = 0
    for block in runs.blocks(counts):
        assert block.start == stop
        stop = block.stop
        assert len(block.keys) == counts[block.start : stop].sum()
        assert len(block.keys) <= max(1, most) or int((counts[block.start : stop] > 0).sum()) == 1
        tags = block.tags.tolist() if tagged else [0] * len(block.keys)
        groups = (block.keys >> BITS) + block.start
        assert len(block.tags) == (len(block.keys) if tagged else 0)
        found.update(zip(groups.tolist(), (block.keys & 2**BITS - 1).tolist(), tags, strict=True))
    assert stop == 7
    assert found == Counter((group, bits, tag if tagged else 0) for part in parts for group, bits, tag in part)


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are not counted here")
@pytest.mark.parametrize(("most", "n_files"), [(1000, 0), (10, 1)])
def test_what_fits_needs_no_file_and_what_does_not_leaves_none(most, n_files, monkeypatch, tmp_path):
    """A file is open while the object lives, without a name; of many runs there is still one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    keys = torch.from_numpy(np.random.default_rng(0).integers(0, 4 << BITS, 1000))
    gc.collect()  # of what other tests left
    before, runs = open_files(), KeyRuns(most)
    for part in keys.split(10):
        runs.add(part)
    assert sum(len(block.keys) for block in runs.blocks(torch.bincount(keys >> BITS))) == 1000
    assert open_files() - before == n_files
    assert not [*tmp_path.iterdir()]
    del runs
    gc.collect()
    assert open_files() == before


def test_a_full_disk_is_named(monkeypatch, tmp_path):
    class Full(io.BytesIO):
        def write(self, _content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    runs = KeyRuns(2)
    with pytest.raises(OSError, match=f"TMPDIR.*{tmp_path}"):
        runs.add(torch.arange(5))


@pytest.mark.parametrize("most", [3, 100])
def test_keys_are_given_back_once(most: int) -> None:
    """Through a file or not, a second time is refused: loops would take counts for keys that are gone."""
    runs = KeyRuns(most)
    counts = put_in(runs, [[(group, 7, 0) for group in range(6)]] * 2, tagged=True)
    assert sum(len(block.keys) for block in runs.blocks(counts)) == 12
    with pytest.raises(RuntimeError, match="12 keys are asked for, and 0 are there"):
        next(runs.blocks(counts))
