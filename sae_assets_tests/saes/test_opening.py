"""Every format of the catalog opens through one function, to checkpoints that offer the same things."""

import subprocess
import sys
from pathlib import Path

import pytest

from sae_assets.catalog import Sae
from sae_assets.errors import CheckpointError
from sae_assets.ops.jumprelu import JumpReluEncoder, ReluEncoder
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.saes import open_sae, sae_hash
from sae_assets_tests.saes.published import published, save
from sae_assets_tests.saes.published_folders import (
    rows,
    saelens_config,
    sparsify_weights,
    weights,
    write_gemma_scope_2,
    write_npz,
    write_saelens,
    write_sparsify,
)


@pytest.mark.parametrize(
    ("kind", "name", "encoder"),
    [
        ("clipscope", "sae.pt", TopKEncoder),
        ("gemmascope", "layer_3/width_16k/average_l0_71", JumpReluEncoder),
        ("gemmascope", "layer_17_width_16k_l0_big", JumpReluEncoder),
        ("saelens", "blocks.5", ReluEncoder),
        ("sparsify", "layers.10", TopKEncoder),
    ],
)
def test_opening(tmp_path: Path, kind: str, name: str, encoder: type) -> None:
    """Name, widths, hash and encoder."""
    path = tmp_path / name
    if kind == "clipscope":
        save(path, published(d=6, n=20))
    elif kind == "gemmascope":
        write_npz(path / "params.npz", weights()) if "average" in name else write_gemma_scope_2(path, weights())
    elif kind == "saelens":
        write_saelens(path, weights(threshold=False), saelens_config())
    else:
        write_sparsify(path, sparsify_weights())
    checkpoint = open_sae(Sae(format=kind, path=path))
    assert (checkpoint.name, checkpoint.d_model, checkpoint.n_units) == (name, 6, 20)
    assert (
        checkpoint.hook_point is None
        or "5" in checkpoint.hook_point
        or "17" in checkpoint.hook_point
        or name == "layers.10"
        or checkpoint.hook_point == "layer_3"
    )
    made = checkpoint.encoder("cpu", 2**20)
    assert type(made) is encoder
    assert (made.encode(rows()).l0 > 0).any()
    located = path / "params.npz" if "average" in name else path
    assert len(sae_hash(located)) == 64


@pytest.mark.parametrize(("written", "named"), [("sparsify", "saelens"), ("saelens", "sparsify")])
def test_the_wrong_format_is_refused(tmp_path: Path, written: str, named: str) -> None:
    """Folders of both have a cfg.json; the weights' file tells them apart."""
    if written == "sparsify":
        write_sparsify(tmp_path, sparsify_weights())
    else:
        write_saelens(tmp_path, weights(threshold=False), saelens_config())
    with pytest.raises(CheckpointError, match=r"safetensors is missing; found cfg\.json"):
        open_sae(Sae(format=named, path=tmp_path))


@pytest.mark.slow
def test_importing_the_package_loads_no_torch() -> None:
    """The command line locates and hashes checkpoints that it does not open."""
    script = (
        "import sys, sae_assets.saes; print(sorted({'torch', 'safetensors', 'huggingface_hub'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
