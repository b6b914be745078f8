"""Every format's decoder gives back what its own library would, ``code @ W_dec + b_dec``, and is read for who asks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sae_assets.catalog import Sae
from sae_assets.catalog.registry import formats
from sae_assets.errors import CheckpointError
from sae_assets.ops.reconstruction import Fit
from sae_assets.saes import open_decoder, open_sae
from sae_assets_tests.reference import reconstruction as reference
from sae_assets_tests.saes.published import published, save
from sae_assets_tests.saes.published_folders import (
    expected,
    rows,
    saelens_config,
    sparsify_weights,
    weights,
    write_gemma_scope_2,
    write_npz,
    write_saelens,
    write_sparsify,
)

CPU = torch.device("cpu")


def write(case: str, folder: Path) -> tuple[Sae, dict[str, torch.Tensor], dict[str, Any]]:
    """A checkpoint, its tensors by SAELens' names, and what the reference of its encoder takes."""
    if case == "clipscope":
        content = published()
        folder.mkdir()
        state = content["model_state_dict"]
        tensors = {"W_enc": state["enc"], "b_enc": torch.zeros(20), "W_dec": state["dec"], "b_dec": state["pre_b"]}
        return Sae(format=case, path=save(folder / "sae.pt", content)), tensors, {"subtract": True, "k": 4}
    if case.startswith("gemmascope"):
        tensors = weights()
        path = write_npz(folder / "params.npz", tensors) if case.endswith("1") else write_gemma_scope_2(folder, tensors)
        return Sae(format="gemmascope", path=path), tensors, {"subtract": False, "threshold": True}
    if case == "sparsify":
        half = {name: tensor.bfloat16() for name, tensor in sparsify_weights().items()}
        tensors = {name: tensor.bfloat16().float() for name, tensor in weights(threshold=False).items()}
        return Sae(format=case, path=write_sparsify(folder, half)), tensors, {"subtract": True, "k": 4}
    _, architecture, subtract = case.split("-")
    options = {"subtract": subtract == "subtract"}
    if architecture != "standard":
        options |= {"k": 4} if architecture == "topk" else {"threshold": True}
    tensors = weights(threshold=architecture == "jumprelu")
    config = saelens_config(architecture, apply_b_dec_to_input=options["subtract"])
    return Sae(format="saelens", path=write_saelens(folder, tensors, config)), tensors, options


CASES = (
    *("clipscope", "gemmascope-1", "gemmascope-2", "sparsify"),
    *(f"saelens-{kind}-{shift}" for kind in ("standard", "topk", "jumprelu") for shift in ("subtract", "plain")),
)


@pytest.mark.parametrize("case", CASES)
def test_reconstructs_as_published(tmp_path: Path, case: str) -> None:
    """The format's own formula on its own code, row by row, and the fraction of variance that it leaves."""
    sae, tensors, options = write(case, tmp_path / "sae")
    x, code = rows(), open_sae(sae).encoder("cpu", 2**20).encode(rows())
    decoder = open_decoder(sae, CPU, 2**20)
    assert decoder is not None and (decoder.n_units, decoder.d_model) == (20, 6)
    activations = expected(x, tensors, **options)
    made = reference.reconstruction(activations, tensors["W_dec"].numpy(), tensors["b_dec"].numpy())
    np.testing.assert_allclose(decoder.decode(code), made, rtol=1e-5, atol=1e-5)
    fit = Fit(decoder)
    fit.add(x, code)
    assert fit.sums().fvu == pytest.approx(reference.fvu(x.numpy(), made), rel=1e-5)


def test_every_format_has_a_case() -> None:
    """A format that says how its decoder is read is tried here."""
    assert {name for name, kind in formats().items() if kind.decoder} == {case.split("-")[0] for case in CASES}


def test_an_sae_that_cannot_be_used_has_no_decoder_either(tmp_path: Path) -> None:
    """What would change the output otherwise is refused in the same words: here a normalization."""
    config = saelens_config(normalize_activations="layer_norm")
    sae = Sae(format="saelens", path=write_saelens(tmp_path / "sae", weights(threshold=False), config))
    with pytest.raises(CheckpointError, match="normalize_activations is 'layer_norm'"):
        open_decoder(sae, "cpu", 2**20)
