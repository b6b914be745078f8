"""One device runs the numerics. Everything else about devices is torch's own business."""

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


def memory_budget(mebibytes: int | None, device: torch.device | str) -> int:
    """Return bytes for the largest block of intermediate values: as told, else 256 MiB, on a GPU a sixteenth of its
    memory.

    A GPU is busy only where blocks are large: with 256 MiB, 640 rows of 65,536 units are encoded at once.
    """
    if mebibytes is not None:
        return mebibytes * 2**20
    if torch.device(device).type != "cuda":
        return 256 * 2**20
    return torch.cuda.get_device_properties(device).total_memory // 16


def begin_peak(device: torch.device | str) -> int | None:
    """Return bytes that torch has allocated on a GPU now, from where its peak is counted anew; None on the CPU."""
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def end_peak(device: torch.device | str) -> int | None:
    """Return bytes that torch has allocated on a GPU at most since :func:`begin_peak`; None on the CPU. Waits for the
    GPU."""
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)
