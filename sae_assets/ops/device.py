"""Which device the numerics run on. Everything else about devices is torch's own business."""

import torch

from sae_assets.errors import DeviceError


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` takes CUDA where there is one; ``cpu``, ``cuda`` and ``cuda:1`` mean what they say.

    Raises:
        DeviceError: the name is no device, or there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise DeviceError(f"Unknown device {name!r}: expected auto, cpu, cuda or cuda:<number>.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"Device {name!r} was asked for, but this machine has {torch.cuda.device_count()} CUDA device(s). "
            "Use device 'auto' or 'cpu'."
        )
    return device
