"""A CLIP-Scope checkpoint exactly as it is published, but small, and the dense reference of its encoder."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def published(d: int = 6, n: int = 20, k: int = 4, seed: int = 0) -> dict[str, Any]:
    """Keys, nesting, dtypes and the kinds of containers of the published file."""
    generator = torch.Generator().manual_seed(seed)
    state = OrderedDict(
        pre_b=torch.randn(d, generator=generator),
        enc=torch.randn(d, n, generator=generator),
        dec=torch.randn(n, d, generator=generator),
    )
    return {"k": k, "n_features": n, "d_in": d, "model_state_dict": state}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def dense_reference(checkpoint: dict[str, Any], x: Tensor) -> Tensor:
    """``topk((x - pre_b) @ enc, k)`` with ReLU as a dense matrix, in float64, with nothing clever in it."""
    state = checkpoint["model_state_dict"]
    pre = (x.double() - state["pre_b"].double()) @ state["enc"].double()
    best = pre.topk(checkpoint["k"], dim=1)
    return torch.zeros_like(pre).scatter(1, best.indices, best.values.clamp(min=0))
