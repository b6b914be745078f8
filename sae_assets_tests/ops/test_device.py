"""Names of devices."""

from types import SimpleNamespace

import pytest
import torch

from sae_assets.errors import DeviceError
from sae_assets.ops.device import memory_budget, resolve_device


def test_cpu_is_the_cpu():
    """A name that exists everywhere means what it says."""
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_exactly_where_there_is_one(monkeypatch):
    """``auto`` follows what torch finds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    assert resolve_device() == torch.device("cpu")


@pytest.mark.parametrize(("name", "count"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)])
def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch, name, count):
    """The message names the device and how many there are."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(DeviceError, match=rf"'{name}' was asked for, but this machine has {count} CUDA device"):
        resolve_device(name)


@pytest.mark.parametrize(("name", "count"), [("cuda", 1), ("cuda:1", 2)])
def test_a_cuda_device_that_is_there_is_given(monkeypatch, name, count):
    """The number is counted from 0."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "nonsense"])
def test_an_unknown_name_is_refused(name):
    """A typing mistake is answered with the names that exist."""
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:<number>"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["meta", "mps", "xpu"])
def test_devices_of_other_kinds_are_refused(name):
    """torch knows more kinds of devices than this package runs on: they are no device here."""
    with pytest.raises(DeviceError):
        resolve_device(name)


def test_the_error_is_a_runtime_error():
    """It can be caught as the built-in that it is."""
    assert issubclass(DeviceError, RuntimeError)


def test_blocks_take_what_was_told_or_what_suits_the_device(monkeypatch):
    """A sixteenth of a GPU's memory, 256 MiB of the CPU's."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=2**36))
    assert memory_budget(None, "cpu") == 2**28 and memory_budget(None, "cuda:1") == 2**32
    assert memory_budget(3, "cpu") == memory_budget(3, "cuda") == 3 * 2**20
