"""A model that does not give the same rows for the same input whenever it is asked is refused.

A model may shuffle or mask at random (ViTMAE, whatever its ``mask_ratio``), or read memory that nothing set. Its rows
would look like any others. Which input a model is asked about is ``images``' and ``texts``' business.
"""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from sae_assets.errors import CheckpointError
from sae_assets.package import without_looks

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

BUILT_TWICE = 2**32  # bytes of weights up to which a model is also built twice: beyond, reading them takes minutes


def steady(make: Callable[[], T], rows: Callable[[T], "Tensor"], n_bytes: Callable[[], int], hook_point: str) -> T:
    """The model, after two passes over one input have agreed bit for bit, before the second of which it is built anew.

    Random numbers that a pass draws differ between the two.

    Args:
        make: builds the model; rows: its rows of an input that is the same at each call.
        n_bytes: size of the weights, asked after the first build; models above ``BUILT_TWICE`` are built once.
        hook_point: as messages name it.

    Raises:
        CheckpointError: the rows differ, or those of one pass from those of the next.
    """
    with without_looks():
        looks = _looks()
        model = make()
        first = _pass(model, rows, seed=1)
        if n_bytes() <= BUILT_TWICE:
            del model
            # Hooks refer to the model that holds them. Where nobody has looked meanwhile, all of it is young; through
            # all objects, torch's and Dagster's too, takes half a second.
            gc.collect(1 if _looks() == looks else 2)
            model = make()
    for seed in (2, 3):
        differ = _differing(first, _pass(model, rows, seed))
        if differ:
            raise CheckpointError(
                f"{hook_point} gives other rows for the same input each time it is asked ({differ}): the model "
                "shuffles or masks at random (ViTMAE does), or reads memory that nothing has set. Such rows cannot be "
                "compared; use another model, or an encoder saved without its random part (of ViTMAE, as a ViTModel)."
            )
    return model


def _looks() -> list[int]:
    """Return how often this process has looked for cycles among objects that are not the youngest."""
    return [generation["collections"] for generation in gc.get_stats()[1:]]


def _pass(model: T, rows: Callable[[T], "Tensor"], seed: int) -> "Tensor":
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return rows(model).to("cpu", copy=True)


def _differing(one: "Tensor", other: "Tensor") -> str:
    """Return how many rows differ in a bit; empty if none does."""
    import torch

    if one.shape != other.shape:
        return f"{list(one.shape)} and {list(other.shape)}"
    bits = (one.contiguous().view(torch.int32) != other.contiguous().view(torch.int32)).flatten(0, -2).any(-1)
    return f"{int(bits.sum())} of {len(bits)} rows" if bool(bits.any()) else ""
