"""Models and SAEs that this process opened last, kept for the next chunk: opening costs more than encoding a small one.

Each is kept under what it was made from (catalog entry, files as they are now, device, precision), so that a changed
file is read again. What a model or an SAE is, and how it is opened, is said where it is asked for.
"""

import gc
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sae_assets import ops
from sae_assets.catalog import Model, Sae, Transformer
from sae_assets.catalog.registry import libraries
from sae_assets.saes import locate_sae, open_decoder, open_sae
from sae_assets.settings import kept_loaded

if TYPE_CHECKING:
    from sae_assets.ops.reconstruction import Decoder
    from sae_assets.ops.sparse_activations import Encoder

T = TypeVar("T")
SHARE = 4  # one in so many bytes of the machine's memory is kept beside what is opened next
Versions = tuple[tuple[str, int, int, int], ...]  # name, size, time of change and number on its disk of each file


class ObjectCache:
    """The objects of each kind that were used last. Threads share none: a model holds its output while it is read."""

    def __init__(self) -> None:
        self._kinds: dict[str, OrderedDict[Hashable, Any]] = {}
        self._lock = threading.RLock()

    def get(
        self,
        kind: str,
        key: Hashable | None,
        device: Any,
        make: Callable[[], T],
        size_of: Callable[[T], int] = lambda _: 0,
    ) -> T:
        """Return the object made under this key, or a new one, for which the least recently used of its kind may be
        dropped.

        Args:
            key: all that decides what is made; None if that is not known beforehand, and then nothing is kept.
            device: where the object is.
            size_of: bytes that such an object comes to hold, where that is known.
        """
        limit = kept_loaded()
        if limit == 0 or key is None:
            return make()
        with self._lock:
            objects = self._kinds.setdefault(kind, OrderedDict())
            mine = (threading.get_ident(), str(device), key)
            if mine not in objects:
                self._make_room(objects, limit, device, size_of)
                objects[mine] = make()
            objects.move_to_end(mine)
            opened: T = objects[mine]
            return opened

    def clear(self) -> None:
        """Drop everything that is kept."""
        with self._lock:
            self._kinds.clear()
            gc.collect()

    def _make_room(
        self, objects: OrderedDict[Hashable, Any], limit: int, device: Any, size_of: Callable[[Any], int]
    ) -> None:
        count = len(objects)
        while len(objects) >= limit:
            objects.popitem(last=False)
        if objects and _is_crowded(device, sum(map(size_of, objects.values()))):
            objects.clear()
        if len(objects) < count:
            gc.collect()  # hooks refer to the model that holds them
            _give_back(device)


def _is_crowded(device: Any, n_bytes: int) -> bool:
    """Return whether nothing is to be kept beside what is opened next.

    That is where less than half of a GPU's memory is free, or where objects come to hold so many bytes on the CPU that
    they are a good part of its memory.
    """
    if not str(device).startswith("cuda"):
        return 0 < memory_of_machine() < SHARE * n_bytes
    import torch

    free, total = torch.cuda.mem_get_info(torch.device(device).index)
    return free < total / 2


def memory_of_machine() -> int:
    """Return the bytes of memory that this machine has; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return 0


def _give_back(device: Any) -> None:
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


KEPT = ObjectCache()


def keep_transformer(
    kind: str, transformer: Transformer, settings: Hashable, make: Callable[[], T], device: Any = "cpu"
) -> T:
    """Return what is made from a transformer's files: weights at a hook point, its geometry or its tokenizer.

    Args:
        kind: which of these it is, since each is kept apart.
        settings: all else that decides the result, besides the files and the device.
    """
    files = _transformer_files(transformer) if kept_loaded() else None
    key = None if files is None else (transformer.model_dump_json(), settings, files)
    return KEPT.get(kind, key, device, make)


def model_settings(model: Model, precision: str = "") -> Hashable:
    """Return everything in a model's catalog entry except its SAE, and the precision."""
    return model.model_dump_json(exclude={"sae"}), precision


@dataclass(frozen=True)
class OpenedSae:
    """An SAE ready to encode, and to decode where its format's decoder is read; of the rest nothing is kept."""

    name: str
    hook_point: str | None
    training: Mapping[str, Any]
    d_model: int
    encoder: "Encoder"
    decoder: "Decoder | None"

    @property
    def held_bytes(self) -> int:
        """Return what its directions come to hold at most."""
        return self.encoder.held_bytes + (self.decoder.weight.nbytes if self.decoder is not None else 0)


def open_encoder(sae: Sae, device: Any, memory_budget: int) -> OpenedSae:
    """Return the encoder and the decoder of a checkpoint, on the device.

    Raises:
        CheckpointError: as :func:`sae_assets.saes.open_sae`.
    """

    def opened() -> OpenedSae:
        checkpoint = open_sae(sae)
        encoder = checkpoint.encoder(device, memory_budget)
        name, hook_point, training = checkpoint.name, checkpoint.hook_point, checkpoint.training
        d_model = checkpoint.d_model
        del checkpoint  # the decoder's weights are read from the file once more
        return OpenedSae(name, hook_point, training, d_model, encoder, open_decoder(sae, device, memory_budget))

    path = locate_sae(sae, download=False) if kept_loaded() else None
    key = None if path is None else (sae.model_dump_json(), memory_budget, _versions(path))
    return KEPT.get("sae", key, device, opened, lambda each: each.held_bytes)


def open_random_encoders(sae: Sae, encoder: "Encoder", n_seeds: int) -> "list[Encoder]":
    """Return random SAEs of seeds 0, 1, … like this encoder of a checkpoint, each as large as it, on its device."""

    def made() -> "list[Encoder]":
        return [ops.random_saes.random_encoder(encoder, seed) for seed in range(n_seeds)]

    path = locate_sae(sae, download=False) if kept_loaded() else None
    key = None if path is None else (sae.model_dump_json(), encoder.memory_budget, n_seeds, _versions(path))
    return KEPT.get("random", key, encoder.columns.device, made, lambda each: sum(one.held_bytes for one in each))


def _transformer_files(transformer: Transformer) -> Versions | None:
    """Return the files that a transformer is read from, as they are now; None where they are only on the hub."""
    if transformer.path is not None:
        return _versions(transformer.path) if transformer.path.is_dir() else None
    located = libraries()[transformer.library].located(transformer)
    return None if located is None else _versions(located)


def weight_bytes(transformer: Transformer) -> int:
    """Return bytes of the files that a transformer is read from; 0 where they are not known to be on this machine."""
    files = _transformer_files(transformer)
    return 0 if files is None else sum(size for _, size, _, _ in files)


def _versions(path: Path) -> Versions:
    """Return a file, or the files of a folder, as they are now: a replaced one has another number on its disk."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in stats)
