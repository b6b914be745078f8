"""Run by the reference environment's interpreter, not by pytest: the libraries write, read and encode checkpoints.

``encode.py HOME`` takes ``HOME/x.npy`` and the folders of ``HOME/given``, which our tests wrote in the published
formats. It writes, under ``HOME/cases/<name>``, ``checkpoint`` (made by the library's own save function, or the given
one that the library has read) and ``float32.npy`` and ``float64.npy``: dense activations that the library computed in
these precisions. Nothing of this package is imported.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HOME = Path(sys.argv[1])
ROWS = torch.from_numpy(np.load(HOME / "x.npy"))
D, N, K = 32, 300, 12


def randomize(module: nn.Module) -> None:
    """Random weights in place of initial ones, biases and thresholds included."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values.abs() * 2 + 3 if name.endswith("threshold") else values)


def write(case: str, module: nn.Module, activations) -> None:
    """Activations of the module in both precisions; ``activations`` takes the module and rows."""
    folder = HOME / "cases" / case
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for dtype in (torch.float32, torch.float64):
            dense: Tensor = activations(module.to(dtype=dtype), ROWS.to(dtype))
            np.save(folder / f"{str(dtype).removeprefix('torch.')}.npy", dense.numpy())


def scatter(values: Tensor, indices: Tensor) -> Tensor:
    return torch.zeros(len(values), N, dtype=values.dtype).scatter_(1, indices, values)


def saelens() -> None:
    import sae_lens

    def encode(sae, x):
        return sae.encode(x)

    shared = {"d_in": D, "d_sae": N}
    for subtract in (True, False):
        options = {**shared, "apply_b_dec_to_input": subtract}
        for kind, made in {
            "standard": sae_lens.StandardSAE(sae_lens.StandardSAEConfig(**options)),
            "topk": sae_lens.TopKSAE(sae_lens.TopKSAEConfig(**options, k=K)),
            "jumprelu": sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(**options)),
        }.items():
            case = f"saelens-{kind}{'' if subtract else '-plain'}"
            randomize(made)
            made.save_model(HOME / "cases" / case / "checkpoint")
            write(case, made, encode)

    # Saved in half precision, read again by SAELens itself in full precision.
    half = sae_lens.JumpReLUSAE(sae_lens.JumpReLUSAEConfig(**shared, dtype="bfloat16"))
    randomize(half)
    place = HOME / "cases/saelens-jumprelu-bfloat16/checkpoint"
    half.save_model(place)
    write("saelens-jumprelu-bfloat16", sae_lens.SAE.load_from_disk(place, dtype="float32"), encode)

    # A trained BatchTopK SAE, saved for inference: SAELens makes a JumpReLU SAE of it.
    trained = sae_lens.BatchTopKTrainingSAE(sae_lens.BatchTopKTrainingSAEConfig(**shared, k=K))
    randomize(trained)
    trained.topk_threshold = torch.tensor(6.0, dtype=trained.topk_threshold.dtype)
    trained.save_model(HOME / "refused/saelens-batchtopk")
    place = HOME / "cases/saelens-batchtopk-inference/checkpoint"
    trained.save_inference_model(place)
    write("saelens-batchtopk-inference", sae_lens.SAE.load_from_disk(place), encode)

    for kind in ("gated", "transcoder", "matryoshka"):
        make = {
            "gated": lambda: sae_lens.GatedSAE(sae_lens.GatedSAEConfig(**shared)),
            "transcoder": lambda: sae_lens.Transcoder(
                sae_lens.TranscoderConfig(**shared, d_out=D, apply_b_dec_to_input=False)
            ),
            "matryoshka": lambda: sae_lens.MatryoshkaBatchTopKTrainingSAE(
                sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(**shared, k=K, matryoshka_widths=[10, N])
            ),
        }[kind]
        make().save_model(HOME / f"refused/saelens-{kind}")
    normalized = sae_lens.StandardSAEConfig(**shared, normalize_activations="layer_norm")
    sae_lens.StandardSAE(normalized).save_model(HOME / "refused/saelens-normalized")

    for folder in sorted((HOME / "given").glob("saelens-*")):
        shutil.copytree(folder, HOME / "cases" / folder.name / "checkpoint")
        write(folder.name, sae_lens.SAE.load_from_disk(folder), encode)


def gemma_scope() -> None:
    """SAELens's own readers of Gemma Scope, on files that lie in the hub's cache."""
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.saes.sae import SAE
    from safetensors import safe_open

    def shapes(_repo: str, file: str) -> dict:
        # The only thing replaced: SAELens asks the hub for the file's header, and here is no network.
        with safe_open(HOME / "given/gemmascope-2" / Path(file).name, framework="pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118

    loaders.get_safetensors_tensor_shapes = shapes
    for case, repo, folder, loader in (
        ("gemmascope-1", "google/gemma-scope-2b-pt-res", "layer_3/width_16k/average_l0_71", "gemma_2"),
        ("gemmascope-2", "google/gemma-scope-2-4b-pt", "resid_post/layer_17_width_16k_l0_big", "gemma_3"),
    ):
        read = loaders.NAMED_PRETRAINED_SAE_LOADERS[loader]
        cache_hub_files(repo, folder, HOME / "given" / case)
        settings = {"d_in": D, "d_sae": N}
        config, tensors, _ = read(repo, folder, "cpu", False, settings)
        config = loaders.handle_config_defaulting(config)
        sae = SAE.get_sae_class_for_architecture(config["architecture"]).from_dict(config)
        sae.load_state_dict(tensors)
        shutil.copytree(HOME / "given" / case, HOME / "cases" / case / "checkpoint")
        write(case, sae, lambda module, x: module.encode(x))


def cache_hub_files(repo: str, folder: str, files: Path) -> None:
    """As the hub's client leaves files after a download."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    commit = "0123456789012345678901234567890123456789"
    (root / "refs").mkdir(parents=True)
    (root / "refs/main").write_text(commit)
    shutil.copytree(files, root / "snapshots" / commit / folder, dirs_exist_ok=True)


def sparsify() -> None:
    from sparsify import SparseCoder, SparseCoderConfig

    def encode(sae, x):
        output = sae.encode(x)
        return scatter(output.top_acts, output.top_indices)

    for case, config in {
        "sparsify": SparseCoderConfig(k=K, num_latents=N),
        "sparsify-multi": SparseCoderConfig(k=K, num_latents=N, multi_topk=True),
    }.items():
        made = SparseCoder(D, config)
        randomize(made)
        made.save_to_disk(HOME / "cases" / case / "checkpoint")
        write(case, made, encode)
    half = SparseCoder(D, SparseCoderConfig(k=K, num_latents=N), dtype=torch.bfloat16)
    randomize(half)
    half.save_to_disk(HOME / "cases/sparsify-bfloat16/checkpoint")
    write("sparsify-bfloat16", SparseCoder.load_from_disk(HOME / "cases/sparsify-bfloat16/checkpoint"), encode)

    for kind, options in {
        "groupmax": {"activation": "groupmax"},
        "transcoder": {"transcode": True},
        "skip": {"transcode": True, "skip_connection": True},
    }.items():
        SparseCoder(D, SparseCoderConfig(k=K, num_latents=N, **options)).save_to_disk(HOME / f"refused/sparsify-{kind}")

    for folder in sorted((HOME / "given").glob("sparsify-*")):
        shutil.copytree(folder, HOME / "cases" / folder.name / "checkpoint")
        write(folder.name, SparseCoder.load_from_disk(folder), encode)


def clipscope() -> None:
    """CLIP-Scope has no function that saves; what is published is this dictionary, and its own class reads it."""
    from clipscope import TopKSAE

    made = TopKSAE(k=K, n_features=N, d_in=D, device="cpu")
    randomize(made)
    content = {"k": K, "n_features": N, "d_in": D, "model_state_dict": made.state_dict()}
    place = HOME / "cases/clipscope/checkpoint"
    place.mkdir(parents=True)
    torch.save(content, place / "1200013184.pt")
    cache_hub_files("lewington/CLIP-ViT-L-scope", "22_resid", place)
    read = TopKSAE.from_pretrained("22_resid/1200013184.pt", device="cpu")
    write("clipscope", read, lambda module, x: module.forward_verbose(x)["latent"].clamp(min=0))


if __name__ == "__main__":
    saelens()
    gemma_scope()
    sparsify()
    clipscope()
