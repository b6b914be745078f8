"""An SAE may fit rows clearly better that another activation function or normalisation of pixels gives.

Weights do not show what they were trained with; an SAE that was trained on their rows does. Each alternative takes the
place of the opened model's own while a few examples are sent through, then the model is as it was.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.errors import DatasetError
from sae_assets.rows.source import Normalisation

if TYPE_CHECKING:
    from torch import nn

    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.source import ExampleRows, RowSource

EXAMPLES = 8  # whose rows are compared
ROWS = 1024  # that are enough: of examples that have as many, fewer are compared
FEWEST = 2  # examples: one may be odd
CLEARLY = 0.9  # of the variance that the SAE leaves unexplained: what another function must leave at most
NORMALISATIONS: dict[str, Normalisation] = {
    "mean and standard deviation 0.5": ((0.5,) * 3, (0.5,) * 3),
    "OpenAI's of CLIP": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "those of ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "nothing (0 to 1)": ((0.0,) * 3, (1.0,) * 3),
}
NAMES = ("gelu", "relu", "silu", "swish", "tanh")  # of classes of activation functions, in small letters, contain one


def better_alternatives(source: "RowSource", kind: str, sae: "OpenedSae", example_ids: Sequence[str]) -> list[str]:
    """Return what makes the SAE fit these examples clearly better than the model's own configuration, in sentences.

    Nothing is said where nothing is known: rows of files, an SAE without a decoder, activation functions that are no
    modules. GELU and its approximations are too alike to be told apart in most models.

    Args:
        kind: token kind of the rows, which are embeddings.
    """
    network = source.network
    example_ids = example_ids[: max(FEWEST, -(-ROWS // (source.rows_per_example(kind) or 1)))]
    own = None if network is None or sae.decoder is None else _unexplained(source, kind, sae, example_ids)
    if network is None or own is None:
        return []
    slots = [*_activations(network)]
    mine = sorted({type(parent.get_submodule(child)).__name__ for parent, child in slots})
    as_it_is = {repr(parent.get_submodule(child)) for parent, child in slots}
    functions = {
        name: _replaced(slots, function)
        for name, function in _functions().items()
        if slots and {repr(function)} != as_it_is  # its own would give the same rows once more
    }
    tried = {f"the activation function {{}} in place of {', '.join(mine)}": functions}
    if source.normalisation is not None:
        own_one = source.normalisation
        others = {name: other for name, other in NORMALISATIONS.items() if other != own_one}
        named = {name: _normalised(network, own_one, other) for name, other in others.items()}
        tried |= {f"pixels normalised by {{}} in place of {_shown(source.normalisation)}": named}
    doubts = []
    for what, ways in tried.items():
        by_name = {}
        for name, way in ways.items():
            with way:
                by_name[name] = _unexplained(source, kind, sae, example_ids)
        name, least = min(by_name.items(), key=lambda item: 1.0 if item[1] is None else item[1], default=("", None))
        if least is not None and least < min(CLEARLY * own, 1.0):
            doubts.append(
                f"the SAE leaves {own:.0%} of the variance of a few examples unexplained, and {least:.0%} with "
                f"{what.format(name)}: the configuration may be another than the weights were trained with"
            )
    return doubts


def _shown(normalisation: Normalisation) -> str:
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in normalisation)
    return f"mean ({mean}) and standard deviation ({std})"


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
    """Return every activation function of a network, as its parent and the name of the child."""
    for parent in network.modules():
        for child, module in parent.named_children():
            named = any(name in type(module).__name__.lower() for name in NAMES)
            if named and next(module.parameters(), None) is None and next(module.children(), None) is None:
                yield parent, child


@contextmanager
def _normalised(network: "nn.Module", own: Normalisation, other: Normalisation) -> Iterator[None]:
    """Give the network its pixels in another normalisation than they come in."""
    import torch

    (own_mean, own_std), (mean, std) = (
        [torch.tensor(values, dtype=torch.float64, device="cpu").view(3, 1, 1) for values in each]
        for each in (own, other)
    )

    def renormalised(pixels: Any) -> Any:
        if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4:
            return pixels
        scale, shift = own_std / std, (own_mean - mean) / std
        return pixels * scale.to(pixels) + shift.to(pixels)

    def entered(_network: Any, args: Any, kwargs: Any) -> Any:
        return tuple(map(renormalised, args)), {name: renormalised(value) for name, value in kwargs.items()}

    handle = network.register_forward_pre_hook(entered, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


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
    """Return fraction of variance unexplained over the rows of these examples; those that cannot be read are left
    out."""
    import torch

    assert sae.decoder is not None
    spoken = [one.rows[kind] for one in _embedded(source, example_ids) if kind not in one.silent]
    every = [rows for rows in spoken if len(rows) and bool(rows.isfinite().all())]
    if not every:
        return None
    fit = ops.reconstruction.Fit(sae.decoder)
    for rows in torch.cat(every).split(sae.encoder.rows_at_once):
        fit.add(rows, sae.encoder.encode(rows))
    return fit.sums().fvu


def _embedded(source: "RowSource", example_ids: Sequence[str]) -> "list[ExampleRows]":
    """Return rows of these examples from one pass or, where some cannot be read, from one for each of the others."""
    try:
        return [*source.embed(example_ids)]
    except (DatasetError, OSError):
        readable: list[ExampleRows] = []
        for example in example_ids:
            with suppress(DatasetError, OSError):
                readable += source.embed([example])
        return readable
