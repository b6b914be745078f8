"""What other code of a process may have set before ours runs, each as a context, and a picture of all of it."""

import ctypes
import functools
import platform
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sae_assets_tests.helpers.threads import torch_threads

T = TypeVar("T")
# Where torch keeps the precision of float32 products, in the words of 2.9 and later; older versions have two switches.
FP32 = ("", "cuda.matmul", "cudnn", "cudnn.conv", "cudnn.rnn", "mkldnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")
UPWARD, DOWNWARD, TOWARD_ZERO = (0x800, 0x400, 0xC00) if platform.machine() == "x86_64" else (1 << 22, 2 << 22, 3 << 22)
HAS_FP32 = hasattr(torch.backends, "fp32_precision")


def _owner(path: str) -> Any:
    return functools.reduce(getattr, filter(None, path.split(".")), torch.backends)


def _fp32(path: str, value: str) -> Callable[[], AbstractContextManager]:
    @contextmanager
    def state() -> Iterator[None]:
        before = _owner(path).fp32_precision
        _owner(path).fp32_precision = value
        try:
            yield
        finally:
            _owner(path).fp32_precision = before

    return state


def _switch(write: Callable[[Any], Any], value: Any, before: Any) -> Callable[[], AbstractContextManager]:
    @contextmanager
    def state() -> Iterator[None]:
        write(value)
        try:
            yield
        finally:
            write(before)

    return state


@contextmanager
def _deterministic(mode: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.set_deterministic_debug_mode(mode)
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode("default")


@contextmanager
def _default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def _filled_memory(fill: bool) -> Iterator[None]:
    import torch.utils.deterministic as deterministic

    before = deterministic.fill_uninitialized_memory
    with _deterministic("error"):
        deterministic.fill_uninitialized_memory = fill
        try:
            yield
        finally:
            deterministic.fill_uninitialized_memory = before


@contextmanager
def _print_options() -> Iterator[None]:
    torch.set_printoptions(precision=1, threshold=2, sci_mode=True)
    try:
        yield
    finally:
        torch.set_printoptions(profile="default")


@contextmanager
def _flushed() -> Iterator[None]:
    """Two threads: the helping one begins with what the thread has set that asks for it first, and keeps it."""
    with torch_threads(2):
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


@contextmanager
def _rounded(mode: int) -> Iterator[None]:
    """In the thread and in the one that helps it, which begins with what the thread has set."""
    library = ctypes.CDLL(None)
    with torch_threads(2):
        library.fesetround(mode)
        try:
            yield
        finally:
            library.fesetround(0)


class _Watching(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


class _Dispatching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def _warnings_as_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextmanager
def _many() -> Iterator[None]:
    with ExitStack() as stack:
        for name in ("float64", "meta device", "autocast to bfloat16", "gradients", "deterministic"):
            stack.enter_context(STATES[name]())
        torch.set_flush_denormal(True)
        stack.callback(torch.set_flush_denormal, False)
        yield


STATES: dict[str, Callable[[], AbstractContextManager]] = {
    "matmul precision high": _switch(torch.set_float32_matmul_precision, "high", "highest"),
    "matmul precision medium": _switch(torch.set_float32_matmul_precision, "medium", "highest"),
    "float64": _switch(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": _switch(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "meta device": lambda: _default_device("meta"),
    "meta device as a context": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "gradients": torch.enable_grad,
    "inference mode": torch.inference_mode,
    "deterministic": lambda: _deterministic("error"),
    "deterministic with warnings": lambda: _deterministic("warn"),
    "memory not filled": lambda: _filled_memory(False),
    "memory filled": lambda: _filled_memory(True),
    "one thread": lambda: torch_threads(1),
    "three threads": lambda: torch_threads(3),
    "subnormals to 0": _flushed,
    "rounded up": lambda: _rounded(UPWARD),
    "rounded down": lambda: _rounded(DOWNWARD),
    "rounded to 0": lambda: _rounded(TOWARD_ZERO),
    "fake tensors": FakeTensorMode,
    "functions are watched": _Watching,
    "operations are watched": _Dispatching,
    "no oneDNN": _switch(torch._C._set_mkldnn_enabled, False, True),
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "print options": _print_options,
    "numpy raises": lambda: np.errstate(all="raise"),
    "no flash attention": _switch(torch.backends.cuda.enable_flash_sdp, False, True),
    "no cuDNN attention": _switch(torch.backends.cuda.enable_cudnn_sdp, False, True),
    "no fast path of attention": _switch(torch.backends.mha.set_fastpath_enabled, False, True),
    "warnings as errors": _warnings_as_errors,
    "many at once": _many,
}
if HAS_FP32:
    STATES |= {
        f"{path or 'all backends'} {value}": _fp32(path, value)
        for path, value in (
            ("", "tf32"),
            ("cuda.matmul", "tf32"),
            ("cuda.matmul", "ieee"),
            ("cudnn.conv", "ieee"),
            ("mkldnn", "bf16"),
            ("mkldnn.matmul", "bf16"),
            ("mkldnn.matmul", "tf32"),
            ("mkldnn.conv", "bf16"),
        )
    }
# Five of the others at once, and what touches tensors most, in `make test`; every one by itself with the long tests.
AT_ONCE = ("many at once", "inference mode", "meta device as a context", "three threads")
EACH = [pytest.param(state, marks=() if state in AT_ONCE else pytest.mark.long) for state in STATES]


def picture() -> dict[str, Any]:
    """All of a process's and a thread's state that a computation could leave changed."""
    import torch.utils.deterministic as deterministic

    try:
        named: str | None = torch.get_float32_matmul_precision()
    except RuntimeError:  # set by backend in another way
        named = None
    return {
        "matmul precision": named,
        **({path: _owner(path).fp32_precision for path in FP32} if HAS_FP32 else {}),
        "dtype": torch.get_default_dtype(),
        "device": str(torch.get_default_device()),
        "modes": (len(torch.overrides._get_current_function_mode_stack()), torch._C._len_torch_dispatch_stack()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "autocast": [(torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")],
        "deterministic": (torch.get_deterministic_debug_mode(), deterministic.fill_uninitialized_memory),
        "threads": torch.get_num_threads(),
        "subnormals": float("5e-324") * float("1") > 0,
        "rounding": ctypes.CDLL(None).fegetround(),
        "attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.cudnn_sdp_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
        ),
        "random": torch.get_rng_state().tolist(),
        "numpy": np.geterr(),
    }


def in_new_thread(work: Callable[[], T]) -> T:
    """What the work gives in a thread of its own."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def under(state: str, work: Callable[[], T]) -> T:
    """What the work gives under a state, in a thread of its own; the state must be the same afterwards."""

    def run() -> T:
        with STATES[state]():
            before = picture()
            result = work()
            after = picture()
        assert after == before
        return result

    return in_new_thread(run)
