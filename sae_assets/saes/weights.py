"""The readers of formats share named tensors and JSON from files, without pickle, and checks that list problems.

A reader collects the problems of all its files and raises them together. What a format's keys mean stands in the
format's own module.
"""

import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import plain_json
from sae_assets.errors import CheckpointError
from sae_assets.wording import shortened

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# Half precision is read by widening, which is exact: encoding then takes the stored weights as they are.
WIDENED = ("float32", "float16", "bfloat16")
MOST_HEADER = 2**22  # bytes of a safetensors file that name its tensors: some 40,000; a shard of any model has hundreds
MOST_NAMED = 20  # tensors that a message names
MOST_GROWTH, SMALL_BYTES = 1000, 2**24  # of a compressed entry; zeros shrink a thousandfold


def read_safetensors(path: Path) -> "dict[str, Tensor]":
    """Return all tensors of a safetensors file.

    Raises:
        CheckpointError: a file that is missing or is no safetensors file.
    """
    from safetensors.torch import load_file

    try:
        expect_small_header(path)
        return load_file(path)
    except Exception as error:  # OSError, SafetensorError, and what damaged headers make of torch
        raise CheckpointError(f"{path} cannot be read as safetensors ({_first_line(error)}).") from None


def expect_small_header(path: Path) -> None:
    """Before memory is taken for the names of tensors of a safetensors file, see that there are as many as anybody has.

    Raises:
        ValueError: there are far more; OSError: as the file system gives it.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MOST_HEADER < size < path.stat().st_size:  # more than the whole file has is said by who reads it
        raise ValueError(f"its header has {size:,} bytes, expected {MOST_HEADER:,} at most")


def read_npz(path: Path) -> "dict[str, Tensor | np.ndarray]":
    """Return all arrays of an npz file; float32 as tensors, others as they are. Objects (pickle) are refused.

    Raises:
        CheckpointError: a file that is missing or is no npz file, or one that holds objects.
    """
    import numpy as np
    import torch

    try:
        _expect_as_large_as_said(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves broken ones open
            content = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # OSError, BadZipFile, ValueError; AttributeError where the file is one array
        raise CheckpointError(f"{path} cannot be read as npz without pickle ({_first_line(error)}).") from None
    return {name: torch.from_numpy(array) if array.dtype == np.float32 else array for name, array in content.items()}


def _expect_as_large_as_said(path: Path) -> None:
    """Before memory is taken for arrays of an npz file, see that they are there.

    Raises:
        ValueError: an array whose header says more than its entry holds, or an entry far larger than what is stored.
    """
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.file_size > max(MOST_GROWTH * entry.compress_size, SMALL_BYTES):
                raise ValueError(f"{entry.filename} grows from {entry.compress_size:,} to {entry.file_size:,} bytes")
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            size = math.prod(shape) * dtype.itemsize
            if size > entry.file_size:
                raise ValueError(f"{entry.filename} says {size:,} bytes of numbers and has {entry.file_size:,}")


def read_config(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds an object.

    Raises:
        CheckpointError: missing, not JSON, or something else than an object.
    """
    try:
        content = plain_json.read(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({_first_line(error)}).") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def missing_files(folder: Path, names: Sequence[str]) -> list[str]:
    """Return a problem per file that the folder lacks, with what it holds instead."""
    if not folder.is_dir():
        return [f"{folder} is no folder; expected one with {' and '.join(names)}"]
    entries = sorted(path.name for path in folder.iterdir())
    listing = ", ".join(entries[:8]) + (", …" if len(entries) > 8 else "")
    return [f"{name} is missing; found {listing or 'nothing'}" for name in names if name not in entries]


def length_of(tensors: Mapping[str, Any], name: str) -> int | None:
    """Return length of a vector, by which other shapes are checked; None where there is no such vector."""
    shape: tuple[int, ...] = tuple(getattr(tensors.get(name), "shape", ()))
    return int(shape[0]) if len(shape) == 1 else None


def tensor_problems(
    tensors: Mapping[str, Any],
    shapes: Mapping[str, tuple[int | None, ...]],
    dtypes: Sequence[str] = ("float32",),
) -> list[str]:
    """Return tensors that are missing, not known to the format, or of another shape or dtype, or that are not finite.

    Args:
        shapes: expected shape per name; None is a length that is not known.
    """
    import torch

    listed = shortened(", ".join([*tensors][:MOST_NAMED])) or "none"
    problems = [f"tensor {name} is missing; found {listed}" for name in shapes if name not in tensors]
    others = [name for name in tensors if name not in shapes]
    problems += [f"tensor {shortened(name)} is not of this format, which has {', '.join(shapes)}"
                 for name in others[:MOST_NAMED]]  # fmt: skip
    problems += [f"… and {len(others) - MOST_NAMED:,} more tensors"] if len(others) > MOST_NAMED else []
    for name, shape in shapes.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        lengths = tuple(tensor.shape)
        fits = len(lengths) == len(shape) and all(b in (None, a) for a, b in zip(lengths, shape, strict=True))
        if not fits:
            expected = ", ".join("any" if length is None else str(length) for length in shape)
            problems.append(f"{name} has shape {lengths}, expected ({expected}{',' if len(shape) == 1 else ''})")
        elif (dtype := str(tensor.dtype).removeprefix("torch.")) not in dtypes:
            problems.append(f"{name} has dtype {dtype}, expected {' or '.join(dtypes)}")
        elif not bool(torch.isfinite(tensor).all()):
            problems.append(f"{name} holds values that are not finite")
        elif 0 in lengths:
            problems.append(f"{name} has shape {lengths} and holds nothing")
    return problems


def count_problems(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Return entries that are missing or no positive integers."""
    return [f"{name} is {config.get(name)!r}, expected a positive integer" for name in names
            if count_of(config, name) is None]  # fmt: skip


def count_of(config: Mapping[str, Any], name: str) -> int | None:
    """Return a positive integer of a config, or None."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 1 else None


def unsupported(config: Mapping[str, Any], supported: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Return entries whose value is none of the supported ones; a missing entry counts as the first of them."""
    problems = []
    for name, values in supported.items():
        value = config.get(name, values[0])
        if not any(value is option or (type(value) is type(option) and value == option) for option in values):
            problems.append(f"{name} is {value!r}; supported: {', '.join(map(repr, values))}")
    return problems
