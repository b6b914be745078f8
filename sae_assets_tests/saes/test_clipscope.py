"""The published CLIP-Scope format is read and encodes as published; every malformed file is refused by name."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_assets.errors import CheckpointError
from sae_assets.saes.formats.clipscope import read_clipscope
from sae_assets_tests.saes.published import dense_reference, published, save


def refusal(path: Path) -> str:
    """The message with which a file is refused; it always names the file."""
    with pytest.raises(CheckpointError) as caught:
        read_clipscope(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_published_file_is_read(tmp_path: Path) -> None:
    """Weights, k and widths come out as they went in."""
    content = published(d=6, n=20, k=4)
    read = read_clipscope(save(tmp_path / "sae.pt", content))
    assert (read.k, read.d_model, read.n_units) == (4, 6, 20)
    for name in ("pre_b", "enc", "dec"):
        tensor = getattr(read, name)
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, content["model_state_dict"][name])


@pytest.mark.parametrize(("d", "n", "k"), [(6, 20, 4), (1, 1, 1), (3, 5, 5), (16, 64, 1), (7, 2, 2)])
@pytest.mark.parametrize("memory_budget", [1, 2**20])
def test_encodes_as_the_dense_reference(tmp_path: Path, d: int, n: int, k: int, memory_budget: int) -> None:
    """Active units and their values are those of topk((x - pre_b) @ enc, k) with ReLU."""
    content = published(d, n, k, seed=d)
    x = torch.randn(40, d, generator=torch.Generator().manual_seed(n)) * 3
    expected = dense_reference(content, x)
    code = read_clipscope(save(tmp_path / "sae.pt", content)).encoder("cpu", memory_budget).encode(x)
    row = torch.repeat_interleave(torch.arange(len(x)), code.row_offsets.diff())
    found = torch.zeros(len(x), n, dtype=torch.float64)
    found[row, code.unit_ids.long()] = code.values.double()
    assert torch.equal(found > 0, expected > 0)
    torch.testing.assert_close(found, expected, rtol=2e-7, atol=1e-7)
    assert torch.equal(code.l0.long(), (expected > 0).sum(1))
    assert (expected > 0).any()


def test_negative_winners_are_not_active(tmp_path: Path) -> None:
    """A row whose best pre-activations are negative has no active unit at all."""
    content = published(d=2, n=3, k=2)
    content["model_state_dict"] |= {"pre_b": torch.zeros(2), "enc": -torch.ones(2, 3)}
    code = read_clipscope(save(tmp_path / "sae.pt", content)).encoder("cpu", 2**20).encode(torch.ones(1, 2))
    assert code.l0.tolist() == [0]
    assert len(code.values) == 0


def test_old_torch_files_are_read(tmp_path: Path) -> None:
    """A checkpoint in torch's older, unzipped form is the same checkpoint."""
    torch.save(published(), tmp_path / "sae.pt", _use_new_zipfile_serialization=False)
    assert read_clipscope(tmp_path / "sae.pt").n_units == 20


def without(content: dict[str, Any], key: str) -> dict[str, Any]:
    if key in content:
        return {name: value for name, value in content.items() if name != key}
    state = {name: value for name, value in content["model_state_dict"].items() if name != key.split(".")[1]}
    return {**content, "model_state_dict": state}


def with_tensor(name: str, tensor: Any) -> dict[str, Any]:
    content = published()
    return {**content, "model_state_dict": {**content["model_state_dict"], name: tensor}}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("k", "n_features, d_in, model_state_dict"),
        ("n_features", "k, d_in, model_state_dict"),
        ("d_in", "k, n_features, model_state_dict"),
        ("model_state_dict", "k, n_features, d_in"),
        ("model_state_dict.pre_b", "enc, dec"),
        ("model_state_dict.enc", "pre_b, dec"),
        ("model_state_dict.dec", "pre_b, enc"),
    ],
)
def test_missing_key_is_named_with_what_is_there(tmp_path: Path, key: str, found: str) -> None:
    """A key that is not there: its full name, and the keys that are."""
    message = refusal(save(tmp_path / "sae.pt", without(published(), key)))
    assert f"key {key} is missing; found {found}" in message


def test_all_missing_keys_are_named_at_once(tmp_path: Path) -> None:
    """An SAE of another format lacks most keys; each is one problem."""
    with pytest.raises(CheckpointError) as caught:
        read_clipscope(save(tmp_path / "sae.pt", {"W_enc": torch.zeros(2, 3), "model_state_dict": {"W_enc": 1}}))
    assert [problem.split(" ")[1] for problem in caught.value.problems] == [
        "k",
        "n_features",
        "d_in",
        "model_state_dict.pre_b",
        "model_state_dict.enc",
        "model_state_dict.dec",
    ]


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("pre_b", (7,), (6,)),
        ("pre_b", (1, 6), (6,)),
        ("enc", (20, 6), (6, 20)),
        ("enc", (120,), (6, 20)),
        ("dec", (6, 20), (20, 6)),
    ],
)
def test_wrong_shape(tmp_path: Path, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """A tensor of another shape, such as one stored transposed: key, found and expected shape."""
    message = refusal(save(tmp_path / "sae.pt", with_tensor(name, torch.zeros(shape))))
    assert f"model_state_dict.{name} has shape {shape}, expected {expected}" in message


@pytest.mark.parametrize("name", ["pre_b", "enc", "dec"])
@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float64, torch.float16, torch.bfloat16]
)
def test_wrong_dtype(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    """The published weights are float32; anything else is refused with what was found, and never rounded silently."""
    tensor = published()["model_state_dict"][name].to(dtype)
    message = refusal(save(tmp_path / "sae.pt", with_tensor(name, tensor)))
    assert f"model_state_dict.{name} has dtype {dtype}, expected float32" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["pre_b", "enc", "dec"])
def test_values_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    """One NaN or infinity anywhere in the weights is refused by the tensor's name."""
    tensor = published()["model_state_dict"][name].clone()
    tensor.view(-1)[-1] = value
    message = refusal(save(tmp_path / "sae.pt", with_tensor(name, tensor)))
    assert f"model_state_dict.{name} holds values that are not finite" in message


@pytest.mark.parametrize("value", [[0.0] * 6, "weights", None, 3])
def test_value_that_is_no_tensor(tmp_path: Path, value: Any) -> None:
    """A list or a number in a tensor's place: the message says what it is."""
    message = refusal(save(tmp_path / "sae.pt", with_tensor("pre_b", value)))
    assert f"model_state_dict.pre_b has shape {type(value).__name__}, expected (6,)" in message


@pytest.mark.parametrize("key", ["k", "n_features", "d_in"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "4", None, True])
def test_sizes_must_be_positive_integers(tmp_path: Path, key: str, value: Any) -> None:
    """A size that is no positive integer: key and value."""
    message = refusal(save(tmp_path / "sae.pt", {**published(), key: value}))
    assert f"{key} is {value!r}, expected a positive integer" in message


def test_k_beyond_the_units(tmp_path: Path) -> None:
    """TopK cannot choose more units than there are; as many is fine."""
    assert "k is 21, more than the 20 units" in refusal(save(tmp_path / "sae.pt", published(n=20, k=21)))
    assert read_clipscope(save(tmp_path / "sae.pt", published(n=20, k=20))).k == 20


def test_several_problems_are_reported_together(tmp_path: Path) -> None:
    """Wrong k, wrong shape and non-finite values: three lines."""
    content = with_tensor("enc", torch.zeros(2, 2))
    content["k"] = 0
    content["model_state_dict"]["dec"] = torch.full((20, 6), torch.nan)
    with pytest.raises(CheckpointError) as caught:
        read_clipscope(save(tmp_path / "sae.pt", content))
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), "text", 3, None])
def test_file_that_holds_no_dictionary(tmp_path: Path, content: Any) -> None:
    """A file of something else: what it holds and what is expected."""
    message = refusal(save(tmp_path / "sae.pt", content))
    assert f"holds a {type(content).__name__}, expected a dictionary" in message


@pytest.mark.parametrize("state", [[1, 2], torch.zeros(3), None])
def test_state_that_is_no_dictionary(tmp_path: Path, state: Any) -> None:
    """``model_state_dict`` of another kind: the message says what was found in its place."""
    message = refusal(save(tmp_path / "sae.pt", {**published(), "model_state_dict": state}))
    assert "model_state_dict" in message and type(state).__name__ in message


class Harmful:
    """Unpickling this creates a folder: the proof that code in a checkpoint would have run."""

    def __init__(self, trace: str):
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.trace,)


class Plain:
    """A class of someone's own, harmless, but code nonetheless."""


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    """A pickle that calls a function when loaded is refused, and the function is not called."""
    trace, path = tmp_path / "trace", tmp_path / "sae.pt"
    torch.save({**published(), "extra": Harmful(str(trace))}, path, _use_new_zipfile_serialization=zipped)
    assert "weights_only=True" in refusal(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.is_dir()  # it would have worked


def test_custom_classes_are_refused(tmp_path: Path) -> None:
    """An object of a class that is no tensor and no container is refused."""
    assert "weights_only=True" in refusal(save(tmp_path / "sae.pt", {**published(), "config": Plain()}))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_file(tmp_path: Path, share: float, zipped: bool) -> None:
    """A download that stopped early is refused by the file's name, wherever it stopped."""
    path = tmp_path / "sae.pt"
    torch.save(published(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "is not a CLIP-Scope checkpoint" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n",
        b"hello world\n",
        b"<html>",
        b"\x80\x02.",
        bytes(64),
    ],
)
def test_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    """Nothing, a web page, a Git LFS pointer: refused as no checkpoint, whatever the unpickler makes of it."""
    path = tmp_path / "sae.pt"
    path.write_bytes(content)
    assert "is not a CLIP-Scope checkpoint" in refusal(path)


def test_folder_instead_of_file(tmp_path: Path) -> None:
    """A folder in the file's place is refused by name."""
    refusal(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    """A checkpoint that has gone since it was located is refused by name."""
    refusal(tmp_path / "nowhere.pt")
