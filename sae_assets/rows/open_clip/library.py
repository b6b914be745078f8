"""open_clip, imported without libraries that take longer than all else of it and are used by nothing here.

open_clip imports transformers for text towers of the hub and timm for vision towers that are not its own: names of
theirs stand in for what they name, which is loaded when it is used. torchvision loads torch's compiler at a module's
head, for a question that only an operator of its own asks; that can wait, too.
"""

import functools
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

COMPILER, UTILS = "torch._dynamo", "torch._dynamo.utils"
# What open_clip 3 takes for towers, at its modules' heads. What generates captions takes more of transformers, and what
# transformers 5 no longer has: it does without, as it would anyway.
LATER = {
    "transformers": ("AutoConfig", "AutoModel", "AutoTokenizer", "PretrainedConfig"),
    "transformers.modeling_outputs": (
        "BaseModelOutput", "BaseModelOutputWithPooling", "BaseModelOutputWithPoolingAndCrossAttentions",
    ),
    "timm": ("create_model",),
    "timm.layers": (
        "AttentionPool2d", "Mlp", "RotAttentionPool2d", "resample_abs_pos_embed", "resample_patch_embed", "to_2tuple",
    ),
}  # fmt: skip


@functools.cache
def library() -> Any:
    """Return the library ``open_clip``, with its module ``transform``."""
    with _compiler_put_off():
        with _libraries_put_off():
            open_clip = _imported()
        if None in (open_clip.hf_model.transformers, open_clip.timm_model.timm):
            # A version that takes other names of them, and now believes that they are not installed.
            for name in [name for name in sys.modules if name.partition(".")[0] == "open_clip"]:
                del sys.modules[name]
            open_clip = _imported()
    return open_clip


def _imported() -> Any:
    import open_clip
    import open_clip.transform

    return open_clip


class LoadedLater:
    """Stands in for a class or function of a module, which is loaded when this is called, or asked for anything."""

    def __init__(self, module: str, name: str):
        self._load = functools.cache(lambda: getattr(importlib.import_module(module), name))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._load()(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._load(), name)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._load())


@contextmanager
def _libraries_put_off() -> Iterator[None]:
    """Let ``LATER`` stand in for the libraries that are not loaded yet."""
    stand_ins = {}
    for module, names in LATER.items():
        if module.partition(".")[0] not in sys.modules or module.partition(".")[0] in stand_ins:
            stand_ins[module] = ModuleType(module)
            vars(stand_ins[module]).update({name: LoadedLater(module, name) for name in names})
            sys.modules[module] = stand_ins[module]
    try:
        yield
    finally:
        for module, stand_in in stand_ins.items():
            if sys.modules.get(module) is stand_in:
                del sys.modules[module]


def is_compile_supported(device: str) -> Any:
    """Answer in place of the compiler's own in torchvision's operators: the compiler is loaded when they ask."""
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device)


class _Loaded(MetaPathFinder):
    """Takes the stand-in away as soon as somebody loads the compiler."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == COMPILER:
            sys.modules.pop(UTILS, None)


@contextmanager
def _compiler_put_off() -> Iterator[None]:
    if COMPILER in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(UTILS)
    stand_in.is_compile_supported = is_compile_supported
    loaded = _Loaded()
    sys.modules[UTILS] = stand_in
    sys.meta_path.insert(0, loaded)
    try:
        yield
    finally:
        sys.meta_path.remove(loaded)
        if sys.modules.get(UTILS) is stand_in:
            del sys.modules[UTILS]
