"""Tensors that may be larger than memory: mapped from a temporary file, to which the system moves what has no room."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

IN_MEMORY = 2**22  # elements up to which a tensor is an ordinary one


def scratch(n: int, dtype: torch.dtype) -> Tensor:
    """A tensor [n] on the CPU of any content. Its file lies in the folder of temporary files and goes with it."""
    if n <= IN_MEMORY:
        return torch.empty(n, dtype=dtype, device="cpu")
    with tempfile.TemporaryDirectory(prefix="sae-assets-") as folder:  # what is mapped stays when its name is gone
        path = Path(folder) / "tensor"
        return torch.from_file(str(path), shared=True, size=n, dtype=dtype, device="cpu")
