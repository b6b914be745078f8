"""clipscope, SAELens and sparsify: what they write we read, what we take for their format they read, and codes agree.

The libraries run in ``.venv-reference`` (``make test-reference``), because their dependencies are many and none of
them is needed otherwise. Without it these tests are skipped, unless SAE_ASSETS_REQUIRE_REFERENCE is set.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError
from sae_assets.saes import open_sae
from sae_assets_tests.saes.published_folders import (
    GEMMA_SCOPE_2,
    SPARSIFY,
    saelens_config,
    weights,
    write_gemma_scope_2,
    write_npz,
    write_saelens,
    write_sparsify,
)
from sae_assets_tests.saes.reference_libraries.libraries import MARKS, Ask

D, N, K = 32, 300, 12
CASES = (
    *("saelens-standard", "saelens-topk", "saelens-jumprelu"),
    *("saelens-standard-plain", "saelens-topk-plain", "saelens-jumprelu-plain"),
    *("saelens-jumprelu-bfloat16", "saelens-batchtopk-inference"),
    *("saelens-given-standard", "saelens-given-topk", "saelens-given-jumprelu"),
    *("gemmascope-1", "gemmascope-2"),
    *("sparsify", "sparsify-multi", "sparsify-bfloat16", "sparsify-given"),
    "clipscope",
)
REFUSED = {
    "saelens-batchtopk": "architecture is 'batchtopk'; supported: 'standard', 'topk', 'jumprelu'; SAELens saves a",
    "saelens-matryoshka": "architecture is 'matryoshka_batchtopk'; supported: 'standard', 'topk', 'jumprelu'; SAELens",
    "saelens-gated": "architecture is 'gated'; supported: 'standard', 'topk', 'jumprelu'",
    "saelens-transcoder": "architecture is 'transcoder'; supported: 'standard', 'topk', 'jumprelu'",
    "saelens-normalized": "normalize_activations is 'layer_norm'; supported: 'none'",
    "sparsify-groupmax": "activation is 'groupmax'; supported: 'topk'",
    "sparsify-transcoder": "transcode is True; supported: False",
    "sparsify-skip": "skip_connection is True; supported: False",
}

pytestmark = MARKS


def give(folder: Path) -> None:
    """Checkpoints as our own tests write them, for the libraries to read."""
    tensors = weights(D, N, threshold=False)
    with_threshold = weights(D, N) | {"threshold": weights(D, N)["threshold"] + 3}
    sizes = {"d_in": D, "d_sae": N}
    write_saelens(folder / "saelens-given-standard", tensors, saelens_config(**sizes))
    write_saelens(folder / "saelens-given-topk", tensors, saelens_config("topk", **sizes, k=K))
    write_saelens(folder / "saelens-given-jumprelu", with_threshold, saelens_config("jumprelu", **sizes))
    write_npz(folder / "gemmascope-1/params.npz", with_threshold)
    write_gemma_scope_2(folder / "gemmascope-2", with_threshold, GEMMA_SCOPE_2 | {"width": N})
    named = {"encoder.weight": tensors["W_enc"].T, "encoder.bias": tensors["b_enc"]}
    named |= {name: tensors[name] for name in ("W_dec", "b_dec")}
    write_sparsify(folder / "sparsify-given", named, SPARSIFY | {"num_latents": N, "k": K, "d_in": D})


@pytest.fixture(scope="module")
def home(ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the libraries made of it, in one run."""
    folder = tmp_path_factory.mktemp("reference")
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.normal(size=(200, D)).astype(np.float32))
    give(folder / "given")
    ask("encode.py", folder)
    return folder


def opened(kind: str, checkpoint: Path):
    path = checkpoint / "1200013184.pt" if kind == "clipscope" else checkpoint
    return open_sae(Sae(format=kind, path=path))


def test_every_case_was_run(home: Path) -> None:
    """No case is lost between the script and this file."""
    assert {path.name for path in (home / "cases").iterdir()} == set(CASES)
    assert {path.name for path in (home / "refused").iterdir()} == set(REFUSED)


@pytest.mark.parametrize("case", CASES)
def test_codes_agree(home: Path, case: str) -> None:
    """The same units; values to the last bit or two of the library in float64, and to float32's error in float32."""
    folder = home / "cases" / case
    x = torch.from_numpy(np.load(home / "x.npy"))
    checkpoint = opened(case.split("-")[0], folder / "checkpoint")
    assert (checkpoint.d_model, checkpoint.n_units) == (D, N)
    code = checkpoint.encoder("cpu", 2**20).encode(x)
    found = np.zeros((len(x), N), np.float32)
    found[torch.repeat_interleave(torch.arange(len(x)), code.row_offsets.diff()), code.unit_ids] = code.values
    assert 4 < (found > 0).sum(1).mean() < N
    for precision, tolerance in (("float64", {"rtol": 2.0**-22, "atol": 0}), ("float32", {"rtol": 1e-6, "atol": 2e-5})):
        dense = np.load(folder / f"{precision}.npy")
        assert dense.dtype == precision
        np.testing.assert_array_equal(found > 0, dense > 0, err_msg=precision)
        np.testing.assert_allclose(found, dense, **tolerance, err_msg=precision)


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_libraries_write_and_we_do_not_support(home: Path, case: str) -> None:
    """Their own files of other kinds are refused by name."""
    with pytest.raises(CheckpointError) as caught:
        opened(case.split("-")[0], home / "refused" / case)
    assert any(problem.startswith(REFUSED[case]) for problem in caught.value.problems)
