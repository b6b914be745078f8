"""open_clip, imported without torch's compiler, which takes nearly as long as torch itself and is used by nothing here.

open_clip imports torchvision and timm. Each loads ``torch._dynamo`` at a module's head: one for a question that only an
operator of its own asks, one to keep a function from being compiled. Both can wait until then.
"""

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any

COMPILER, UTILS = "torch._dynamo", "torch._dynamo.utils"


@functools.cache
def library() -> Any:
    """Return the library ``open_clip``, with its module ``transform``."""
    with _compiler_put_off():
        import open_clip
        import open_clip.transform
    return open_clip


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
    import torch

    if COMPILER in sys.modules:
        yield
        return
    stand_in: Any = ModuleType(UTILS)
    stand_in.is_compile_supported = is_compile_supported
    loaded, disable = _Loaded(), torch.compiler.disable

    def disable_later(fn: Callable[..., Any] | None = None, recursive: bool = True, **_: Any) -> Any:
        return torch._disable_dynamo(fn, recursive)

    sys.modules[UTILS] = stand_in
    sys.meta_path.insert(0, loaded)
    torch.compiler.disable = disable_later
    try:
        yield
    finally:
        torch.compiler.disable = disable
        sys.meta_path.remove(loaded)
        if sys.modules.get(UTILS) is stand_in:
            del sys.modules[UTILS]
