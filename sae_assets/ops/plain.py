"""Tensors out of files of others: a small file may name one that fills all memory as soon as it is looked at."""

from typing import Any

import torch
from torch import Tensor


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
