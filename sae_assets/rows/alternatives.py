"""Whether an SAE fits rows that another activation function gives clearly better than those of the configuration.

Weights do not show which function they were trained with; an SAE that was trained on their rows does. Each function
takes the place of the opened model's own while a few examples are sent through, then the model is as it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sae_assets import ops
from sae_assets.errors import DatasetError

if TYPE_CHECKING:
    from torch import nn

    from sae_assets.artifacts.fit import FitSums
    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.source import RowSource

EXAMPLES = 8  # whose rows are compared
CLEARLY = 0.9  # of the variance that the SAE leaves unexplained: what another function must leave at most
NAMES = ("gelu", "relu", "silu", "swish", "tanh")  # of classes of activation functions, in small letters, contain one


def better_activation(source: "RowSource", kind: str, sae: "OpenedSae", example_ids: Sequence[str]) -> str:
    """The function by which the SAE fits these examples clearly better than by the model's own; empty if there is none.

    Nothing is said where nothing is known: rows of files, an SAE without a decoder, activation functions that are no
    modules. GELU and its approximations are too alike to be told apart in most models.

    Args:
        kind: token kind of the rows, which are embeddings.
    """
    slots = [*_activations(source.network)] if source.network is not None else []
    own = _unexplained(source, kind, sae, example_ids) if slots and sae.decoder is not None else None
    if own is None:
        return ""
    by_name = {}
    for name, function in _functions().items():
        with _replaced(slots, function):
            by_name[name] = _unexplained(source, kind, sae, example_ids)
    name, least = min(by_name.items(), key=lambda item: 1.0 if item[1] is None else item[1])
    if least is None or least >= min(CLEARLY * own, 1.0):
        return ""
    mine = sorted({type(parent.get_submodule(child)).__name__ for parent, child in slots})
    return (
        f"the SAE leaves {own:.0%} of the variance of a few examples unexplained, and {least:.0%} with the activation "
        f"function {name} in place of {', '.join(mine)}: the configuration may name another one than the weights were "
        "trained with"
    )


def _functions() -> "dict[str, nn.Module]":
    import torch
    from torch import nn

    class QuickGelu(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(1.702 * x)

    return {
        "gelu": nn.GELU(), "gelu (tanh)": nn.GELU(approximate="tanh"), "quick_gelu": QuickGelu(), "relu": nn.ReLU(),
        "silu": nn.SiLU(),
    }  # fmt: skip


def _activations(network: "nn.Module") -> "Iterator[tuple[nn.Module, str]]":
    """Every activation function of a network, as its parent and the name of the child."""
    for parent in network.modules():
        for child, module in parent.named_children():
            named = any(name in type(module).__name__.lower() for name in NAMES)
            if named and next(module.parameters(), None) is None and next(module.children(), None) is None:
                yield parent, child


@contextmanager
def _replaced(slots: "Sequence[tuple[nn.Module, str]]", function: "nn.Module") -> Iterator[None]:
    own = [parent.get_submodule(child) for parent, child in slots]
    try:
        for parent, child in slots:
            setattr(parent, child, function)
        yield
    finally:
        for (parent, child), module in zip(slots, own, strict=True):
            setattr(parent, child, module)


def _unexplained(source: "RowSource", kind: str, sae: "OpenedSae", example_ids: Sequence[str]) -> float | None:
    """Fraction of variance unexplained over the rows of these examples; those that cannot be read are left out."""
    fits: list[FitSums] = []
    assert sae.decoder is not None
    for example in example_ids:
        with suppress(DatasetError, OSError):
            (found,) = source.embed([example])
            rows = found.rows[kind]
            if kind in found.silent or not len(rows) or not bool(rows.isfinite().all()):
                continue
            fit = ops.reconstruction.Fit(sae.decoder)
            fit.add(rows, sae.encoder.encode(rows))
            fits.append(fit.sums())
    return ops.reconstruction.merge_fits(fits).fvu if fits else None
