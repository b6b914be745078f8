"""Computing as in a process that has set nothing, whatever other code of the process has set, and leaving it as it was.

What a thread keeps (gradients, autocast, modes, the default device, how the processor rounds and whether it takes
subnormal numbers for 0) is set aside in the calling thread alone. What torch keeps per process is touched only where it
is not as torch starts with it and no argument says the same, and put back when the last thread is through.
"""

import ctypes
import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.overrides

GRAIN = 2**15  # elements for which torch takes one more thread
AUTOCAST = ("cpu", "cuda")
PRODUCTS = ("cuda.matmul", "mkldnn.matmul")
CONVOLUTIONS = ("cudnn.conv", "cudnn.rnn", "mkldnn.conv", "mkldnn.rnn")
IEEE = ("none", "ieee")
FAKE = torch._C._TorchDispatchModeKey.FAKE
TO_NEAREST = 0  # FE_TONEAREST of x86 and of Arm

Undo = Callable[[], Any]


class Shared:
    """Switches of the whole process: the first thread that enters sets them aside, the last that leaves puts them back.

    Args:
        switches: each sets one aside and gives what puts it back, or None where there is nothing to do.
    """

    def __init__(self, switches: Sequence[Callable[[], Undo | None]]):
        self._switches, self._lock, self._inside, self._undo = switches, threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                with ExitStack() as undo:
                    for switch in self._switches:
                        back = switch()
                        if back is not None:
                            undo.callback(back)
                    self._undo = undo.pop_all()
            self._inside += 1

    def __exit__(self, *_error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


def _ieee(path: str) -> Undo | None:
    """IEEE float32 in one of torch's backends (torch 2.9 and later), where what is effective there is anything else."""
    backend: Any = torch.backends
    for name in path.split("."):
        backend = getattr(backend, name)
    before = backend.fp32_precision
    if before in IEEE:
        return None
    backend.fp32_precision = "ieee"
    return functools.partial(_as_before, backend, before)


def _as_before(backend: Any, before: str) -> None:
    backend.fp32_precision = "none"  # what all backends are set to counts again
    if backend.fp32_precision != before:
        backend.fp32_precision = before


def _highest() -> Undo | None:
    """IEEE float32 products by the one switch that torch has before 2.9."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        return None
    torch.set_float32_matmul_precision("highest")
    return functools.partial(torch.set_float32_matmul_precision, before)


def _no_tf32_convolutions() -> Undo | None:
    if not torch.backends.cudnn.allow_tf32:
        return None
    torch.backends.cudnn.allow_tf32 = False
    return functools.partial(setattr, torch.backends.cudnn, "allow_tf32", True)


def _deterministic_off() -> Undo | None:
    """Nothing here needs torch's deterministic algorithms, and on a GPU some ops would refuse to run."""
    before = torch.get_deterministic_debug_mode() if torch.cuda.is_initialized() else 0
    if before == 0:
        return None
    torch.set_deterministic_debug_mode(0)
    return functools.partial(torch.set_deterministic_debug_mode, before)


def _default_float32() -> Undo | None:
    before = torch.get_default_dtype()
    if before == torch.float32:
        return None
    torch.set_default_dtype(torch.float32)
    return functools.partial(torch.set_default_dtype, before)


def _on(read: Callable[[], bool], write: Callable[[bool], None]) -> Undo | None:
    if read():
        return None
    write(True)
    return functools.partial(write, False)


def _rounding() -> tuple[Callable[[], int], Callable[[int], int]]:
    """Return what reads and sets how a thread rounds; where the C library cannot be asked for it, that is left
    alone."""
    try:
        library = ctypes.CDLL(None)
        return library.fegetround, library.fesetround
    except (AttributeError, OSError, TypeError):
        return (lambda: TO_NEAREST), (lambda _mode: 0)


_THREAD = threading.local()
_ROUNDING, _ROUND = _rounding()
_BY_BACKEND = hasattr(torch.backends, "fp32_precision")
_IEEE_PRODUCTS = Shared([functools.partial(_ieee, path) for path in PRODUCTS] if _BY_BACKEND else [_highest])
_NOT_DETERMINISTIC = Shared([_deterministic_off])
_LIBRARIES = Shared(
    [
        _default_float32,
        *([functools.partial(_ieee, path) for path in CONVOLUTIONS] if _BY_BACKEND else [_no_tf32_convolutions]),
        functools.partial(_on, torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
        functools.partial(
            _on, torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp
        ),
        functools.partial(_on, torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
        functools.partial(_on, torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
        functools.partial(_on, torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled),
    ]
)


@contextmanager
def ieee_products() -> Iterator[None]:
    """Matrix products of float32 are computed in IEEE float32, also where the process allows tf32, bf16 or autocast."""
    with _without_autocast(), _IEEE_PRODUCTS:
        yield


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Numbers come out as in a process that has set nothing; tensors made within ask for no gradient.

    Tensors must name their dtype and their device: the defaults of the process are left as they are.
    """
    with (
        _no_fake_tensors(),
        torch.inference_mode(False),
        torch.no_grad(),
        _without_autocast(),
        _plain_floats(),
        _NOT_DETERMINISTIC,
    ):
        yield


@contextmanager
def plain_torch(device: str | None = None) -> Iterator[None]:
    """Do what :func:`plain_arithmetic` does, for code of libraries: defaults, convolutions, attention and random
    numbers, too.

    Args:
        device: where a library puts the weights of a model that it makes; None for what makes none, such as forward
            passes.
    """
    defaults = _no_modes() if device is None else torch.device(device)
    with plain_arithmetic(), defaults, torch.random.fork_rng(devices=[]), _IEEE_PRODUCTS, _LIBRARIES:
        yield


@contextmanager
def _no_modes() -> Iterator[None]:
    """The thread's default device and whatever else watches torch's functions, under which torch has other kernels."""
    modes = torch.overrides._get_current_function_mode_stack()
    for _ in modes:
        torch.overrides._pop_mode()
    try:
        yield
    finally:
        for mode in modes:
            torch.overrides._push_mode(mode)


@contextmanager
def _without_autocast() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def _no_fake_tensors() -> Iterator[None]:
    """The mode in which tensors have no values; those that only watch operations go on watching."""
    mode = torch._C._unset_dispatch_mode(FAKE)
    try:
        yield
    finally:
        if mode is not None:
            torch._C._set_dispatch_mode(mode)


@contextmanager
def _plain_floats() -> Iterator[None]:
    """Results are rounded to the nearest, and small ones not taken for 0, by this thread and by those that help it.

    A helping thread keeps for good what its first caller had set, and cannot be asked to change: then none helps.
    Asking wakes all of them: what is called within need not ask again, nor a later call with as many of them.
    """
    if getattr(_THREAD, "keeps", False):
        yield
        return
    rounding = _ROUNDING()
    if rounding != TO_NEAREST:
        _ROUND(TO_NEAREST)
    flushed = math.ulp(0.0) * 1.0 == 0  # Python's floats obey the same register
    if flushed:
        torch.set_flush_denormal(False)
    strange, threads = flushed or rounding != TO_NEAREST, torch.get_num_threads()
    prepared = not strange and getattr(_THREAD, "keeping", 1) == threads
    alone = threads > 1 and not prepared and _helpers_differ(threads)
    _THREAD.keeping = 1 if alone else threads
    if alone:
        torch.set_num_threads(1)
    _THREAD.keeps = True
    try:
        yield
    finally:
        _THREAD.keeps = False
        if alone:
            torch.set_num_threads(threads)
        if flushed:
            torch.set_flush_denormal(True)
        if rounding != TO_NEAREST:
            _ROUND(rounding)


def _helpers_differ(threads: int) -> bool:
    """Return whether some thread makes 0, 2 or 3 of 1.25 and 3.75 times the smallest number, where the nearest are 1
    and 4."""
    bits = torch.tensor([1, 3], dtype=torch.int32, device="cpu").repeat(threads * GRAIN // 2)
    products = (bits.view(torch.float32) * 1.25).view(torch.int32).view(-1, 2)
    return bool((products != torch.tensor([1, 4], dtype=torch.int32, device="cpu")).any())
