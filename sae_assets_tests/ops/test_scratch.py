"""What lies in a file is what was written there, whatever memory the system has taken back meanwhile."""

import mmap
from pathlib import Path

import pytest
import torch

from sae_assets.ops import scratch
from sae_assets.ops.scratch import IN_MEMORY, GrowingColumn, ScratchColumn, contiguous, let_go, zeros
from sae_assets.ops.sorted_scores import sort_scores


def mapped_bytes() -> int:
    """Memory of this process that files stand behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_what_was_looked_at_is_let_go_and_read_again() -> None:
    """Of a tensor in a file, and of no other."""
    n = 40 * IN_MEMORY
    column, ordinary = ScratchColumn(n, torch.int64, "cpu"), torch.arange(9)
    for part in torch.arange(n).split(IN_MEMORY):
        column.append(part)
    tensor, total = column.tensor(), n * (n - 1) // 2
    assert int(tensor.sum()) == total
    looked_at = mapped_bytes()
    let_go(tensor, ordinary)
    if hasattr(mmap, "MADV_DONTNEED"):
        assert looked_at - mapped_bytes() > 0.8 * 8 * n
    assert int(tensor.sum()) == total and ordinary.tolist() == list(range(9))


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_units_some_at_a_time_and_by_name_have_their_own_scores(at_once: int) -> None:
    """All of them, in their order, units numbered anew; units without a score, too."""
    unit, value = torch.tensor([0, 0, 2, 2, 2, 5, 6]), torch.tensor([1.0, 2, 3, 3, 1, 4, 4])
    example, labels = torch.tensor([3, 1, 0, 2, 1, 3, 3]), torch.rand(4, 2) < 0.5
    scores = sort_scores(unit, value, example, labels, 8)
    seen = 0
    for first, part in scores.some_units(at_once):
        n = len(part.starts) - 1
        by_name = scores.of_units(torch.arange(first, first + n))
        assert torch.equal(part.keys, by_name.keys) and torch.equal(part.example, by_name.example)
        assert torch.equal(part.starts, by_name.starts)
        kept = (unit >= first) & (unit < first + n)
        fresh = sort_scores(unit[kept] - first, value[kept], example[kept], labels, n)
        assert torch.equal(part.keys, fresh.keys) and torch.equal(part.example, fresh.example)
        assert first == seen
        seen += n
    assert seen == 8
    some = scores.of_units(torch.tensor([2, 6]))
    fresh = sort_scores(torch.tensor([0, 0, 0, 1]), value[[2, 3, 4, 6]], example[[2, 3, 4, 6]], labels, 2)
    assert torch.equal(some.keys, fresh.keys) and torch.equal(some.example, fresh.example)
    assert torch.equal(some.starts, fresh.starts)


@pytest.mark.parametrize("in_memory", [0, 3, 100])
def test_a_column_of_unknown_length_is_all_that_was_added(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its type, in memory or from the part on by which it grew too large in a file."""
    monkeypatch.setattr(scratch, "IN_MEMORY", in_memory)
    column = GrowingColumn(torch.uint8)
    assert column.tensor().tolist() == []
    for part in ([1, 2], [], [3], [4, 255, 6]):
        column.append(torch.tensor(part, dtype=torch.int64))
    assert torch.equal(column.tensor(), torch.tensor([1, 2, 3, 4, 255, 6], dtype=torch.uint8))


@pytest.mark.parametrize("large", [1, scratch.LARGE])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float64])
def test_zeros_are_zeros_that_can_be_written(large: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In large pages and in others, also where the system refuses these; they live as long as they are looked at."""
    monkeypatch.setattr(scratch, "LARGE", large)
    table = zeros(3, 5, dtype=dtype)
    assert torch.equal(table, torch.zeros(3, 5, dtype=dtype)) and table.is_contiguous()
    part = table[1]
    part += 2
    del table
    assert part.tolist() == [2] * 5


@pytest.mark.parametrize("large", [1, scratch.LARGE])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_copy_is_made_of_what_is_not_contiguous_or_of_another_type(large, dtype, monkeypatch):
    """In large pages and in others; what is as it is asked for stays where it is."""
    monkeypatch.setattr(scratch, "LARGE", large)
    table = torch.arange(15, dtype=dtype).view(3, 5)
    for each in table, table.T:
        copy = contiguous(each, torch.float32)
        assert torch.equal(copy, each.float()) and copy.dtype == torch.float32 and copy.is_contiguous()
        assert (copy.data_ptr() == table.data_ptr()) == (dtype == torch.float32 and each is table)
