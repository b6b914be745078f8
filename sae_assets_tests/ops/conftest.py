"""What the tests of ops share: checked shapes, and one thread, since the tensors are too small to share."""

from collections.abc import Iterator

import pytest
import torch
from jaxtyping import config as shapes


@pytest.fixture(autouse=True, scope="package")
def _checked_shapes() -> Iterator[None]:
    shapes.update("jaxtyping_disable", False)
    yield
    shapes.update("jaxtyping_disable", True)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """For a test that does the same with the same shapes again and again: to check each would be a fifth of its CPU."""
    shapes.update("jaxtyping_disable", True)
    yield
    shapes.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
