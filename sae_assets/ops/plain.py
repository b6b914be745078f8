"""Tensors out of files of others: a small file may name one that fills all memory as soon as it is looked at."""

import re
import struct
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch
from torch import Tensor

_CODE = re.compile(r"unsupported global:?\s+(?:global\s+)?([\w.]+)", re.IGNORECASE)  # in torch's error
NO_FILE = "it is no file of torch.save, or is damaged"
MOST_SAID = 300  # characters of another error


def load(source: Path | IO[bytes], *, mmap: bool = False) -> Any:
    """Return what ``torch.load(weights_only=True)`` reads, on the CPU: tensors and containers of them, nothing that is
    code.

    Raises:
        ValueError: the file is none of these, is damaged, or holds what :func:`expect_plain` refuses. Torch's advice to
            read it in a way that runs what is in it is not passed on.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol that a damaged file names
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=mmap or None)
    except (LookupError, struct.error):  # whose messages are a byte that is no instruction, and lengths
        raise ValueError(NO_FILE) from None
    except Exception as error:  # torch's unpickler fails in many ways on files of something else
        raise ValueError(in_words(error)) from None
    expect_plain(content)
    return content


def in_words(error: Exception) -> str:
    """Return the cause that an error of ``torch.load`` names, without its advice."""
    message = str(error)
    if code := _CODE.search(message):
        return f"it needs {code[1]}, which is no tensor and might run code"
    if isinstance(error, UnpicklingError):
        return NO_FILE
    return (message.splitlines() or [f"{type(error).__name__}: it is empty or was cut short"])[0][:MOST_SAID]


def expect_plain(content: Any) -> None:
    """Check that every tensor in what was loaded holds as many numbers as its shape says.

    Sparse tensors, views that repeat a few numbers (stride 0), and tensors of no device do not; nothing of ours or of
    the formats that are read is one.

    Raises:
        ValueError: one that does not; it is named.
    """
    parts: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()  # a container may stand in many others, and in itself
    while parts:
        name, part = parts.pop()
        if isinstance(part, Tensor):
            problem = _problem(part)
            if problem:
                raise ValueError(f"{name or 'it'} is {problem}")
        elif id(part) in seen:
            continue
        elif isinstance(part, (dict, list, tuple)):
            seen.add(id(part))
        if isinstance(part, dict):
            parts += [(f"{name}.{key}" if name else str(key), value) for key, value in part.items()]
        elif isinstance(part, (list, tuple)):
            parts += [(f"{name}[{index}]", value) for index, value in enumerate(part)]


def _problem(tensor: Tensor) -> str:
    shape = f"of shape {[*tensor.shape]}"
    if tensor.layout != torch.strided:
        return f"a sparse tensor {shape}; save a dense one"
    if tensor.device.type == "meta":
        return f"a tensor {shape} without numbers"
    capacity = tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1)
    if tensor.numel() > capacity:
        return f"a view {shape} of {capacity} numbers; save it with `.contiguous()`"
    return ""
