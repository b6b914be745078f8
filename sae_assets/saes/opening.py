"""From a catalog entry to a checkpoint that can build its encoder, whatever its format.

A format is a module of ``formats`` with a checkpoint of this protocol. Importing this module does not load torch;
opening a checkpoint does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Sae
from sae_assets.catalog.registry import formats
from sae_assets.saes.files import locate_sae

if TYPE_CHECKING:
    import torch

    from sae_assets.ops.reconstruction import Decoder
    from sae_assets.ops.sparse_activations import Encoder


class Checkpoint(Protocol):
    """The interface that every format's checkpoint offers."""

    @property
    def name(self) -> str:
        """Return what messages call it: the file's or folder's name."""

    @property
    def hook_point(self) -> str | None:
        """Return where in the transformer it was trained, in its own library's words; None where the format does not
        say."""

    @property
    def training(self) -> "Mapping[str, Any]":
        """Return what the checkpoint says of its training, as far as it does: of its texts ``prepend_bos`` and
        ``context_size``; of the model whose rows it saw ``model`` (its name), ``dtype`` (of its computation) and
        ``centred`` (TransformerLens' ``center_writing_weights``)."""

    @property
    def d_model(self) -> int:
        """Return width of the rows that it encodes."""

    @property
    def n_units(self) -> int:
        """Number of its units."""

    def encoder(self, device: "torch.device | str", memory_budget: int) -> "Encoder":
        """Return the encoder, with its weights on the device; ``memory_budget`` in bytes."""


def open_sae(sae: Sae) -> Checkpoint:
    """Find a checkpoint (fetching it from the hub where it is not cached) and read it.

    Raises:
        CheckpointError: it cannot be had, or is not a sound file of the format that the catalog names.
    """
    path = locate_sae(sae, download=True)
    assert path is not None
    checkpoint: Checkpoint = formats()[sae.format].read(path)
    return checkpoint


def open_decoder(sae: Sae, device: "torch.device | str", memory_budget: int) -> "Decoder | None":
    """Return the decoder of a checkpoint, with its weights on the device; its files are read (again) for it.

    None of a format whose decoder is not read.

    Raises:
        CheckpointError: as :func:`open_sae`.
    """
    read = formats()[sae.format].decoder
    if read is None:
        return None
    path = locate_sae(sae, download=True)
    assert path is not None
    decoder: Decoder = read(path, device, memory_budget)
    return decoder
