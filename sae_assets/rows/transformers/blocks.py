"""The residual blocks of a model of ``transformers``: which they are, how many, and a configuration with fewer."""

import copy
from typing import TYPE_CHECKING, Any

from sae_assets.errors import CheckpointError

if TYPE_CHECKING:
    from torch import nn


def find_blocks(network: "nn.Module", n_blocks: int, label: str) -> "nn.ModuleList":
    """Return the list of a network's residual blocks: the outermost ModuleList of that length.

    Where there are several, it is the one whose entries the library itself calls blocks (``_no_split_modules``).

    Raises:
        CheckpointError: there is none, or more than one; the catalog must then name the hook point by ``module``.
    """
    from torch import nn

    lists: dict[str, nn.ModuleList] = {}
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) == n_blocks and not inside:
            lists[name] = module
    if len(lists) > 1:
        named = getattr(network, "_no_split_modules", None) or ()
        lists = {name: blocks for name, blocks in lists.items() if type(blocks[0]).__name__ in named} or lists
    if len(lists) != 1:
        raise CheckpointError(
            f"{label} ({type(network).__name__}) should have one list of {n_blocks} blocks, found "
            f"{', '.join(lists) or 'none'}. Name the hook point by `module` instead."
        )
    return next(iter(lists.values()))


def block_count(config: Any, label: str) -> int:
    """Return how many blocks a configuration promises.

    Raises:
        CheckpointError: the configuration does not say.
    """
    count = getattr(config, "num_hidden_layers", None)
    if not isinstance(count, int) or count < 1:
        raise CheckpointError(f"{label} ({config.model_type}) does not say how many blocks it has; use `module`.")
    return count


def shortened(config: Any, n_blocks: int) -> Any:
    """Return a copy of the configuration with fewer blocks; lists with one entry per block are cut too.

    One that cannot have fewer (Funnel) stays as it is.
    """
    full, result = config.num_hidden_layers, copy.deepcopy(config)
    try:
        for name, value in vars(config).items():
            if isinstance(value, list) and len(value) == full and ("layer" in name or "block" in name):
                setattr(result, name, value[:n_blocks])
        result.num_hidden_layers = n_blocks
    except Exception:  # each configuration refuses in its own way
        return copy.deepcopy(config)
    return result
