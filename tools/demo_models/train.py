"""Train the packaged checkpoints: a small CLIP vision transformer and a TopK SAE on its residual stream.

What lives here: the one script that reproduces ``clip-mini`` and its SAE, seeds fixed, and the transformer's training;
the SAE's is in ``tools.demo_models.train_sae``. Nothing of the pipeline imports it; loading lives in
``sae_assets.rows`` and ``sae_assets.saes``.

    python -m tools.demo_models.train --out DIR [--extra FOLDER]
    python -m tools.demo_models.train --out DIR [--extra FOLDER] --from-transformer FOLDER --tune-steps 0  # SAE alone

``--extra`` is an optional second folder of the same layout with more training images (the packaged checkpoints were
made with 640 more renderings of the same kind); without it the script trains on the packaged train split alone.
Only examples whose split is ``train`` are ever read.
"""

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import sae_assets
from tools.demo_models.train_sae import SEED, K, train_sae

COLOURS, SHAPES = ("blue", "green", "red"), ("cube", "cylinder", "sphere")
WORDS = ["<pad>", "<start>", "<end>", "a", "photo", "of", "thing", "empty", "grey", "floor", *COLOURS, *SHAPES]
CONTEXT_LENGTH = 10
MODEL_CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 224, "layers": 5, "width": 128, "patch_size": 14, "head_width": 32},
    "text_cfg": {"context_length": CONTEXT_LENGTH, "vocab_size": len(WORDS), "width": 64, "heads": 2, "layers": 1},
}
LAYER = 3  # residual stream after this block (0-based): the last but one, as layer 22 of ViT-L-14 is
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic", "resize_mode": "shortest"}


def tokenize(words: str) -> list[int]:
    ids = [WORDS.index(word) for word in ["<start>", *words.split(), "<end>"]]
    length = CONTEXT_LENGTH
    return ids + [0] * (length - len(ids))


def load_train_split(root: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Images uint8 [n, 3, 240, 320], masks bool [n, 240, 320], (colour, shape) int64 [n, 2]: the train split."""
    with (root / "metadata.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    images, masks, kinds = [], [], []
    for row in rows:
        path = root / row["image_path"]
        images.append(np.asarray(Image.open(path).convert("RGB")))
        masks.append(np.asarray(Image.open(root / "masks" / f"{path.stem}.png")).astype(bool))
        colour, shape = row["class"].split("_")
        kinds.append((COLOURS.index(colour), SHAPES.index(shape)))
    return (
        torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack(masks)),
        torch.tensor(kinds),
    )


def augment(images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random crop, flip and brightness; the mask goes through the same transform as its image.

    Returns float32 [B, 3, 224, 224] normalised to [-1, 1] and the masked share of each patch, float32 [B, 256].
    """
    n = len(images)
    rand = torch.rand(n, 6, generator=generator)
    scale = 0.45 + 0.6 * rand[:, 0]  # height of the crop as a share of the image's
    flip = torch.where(rand[:, 1] < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = flip * scale * 240 / 320, scale
    # The window is drawn around the object, so that most crops show most of it.
    share = masks.float()
    mass = share.sum((1, 2)).clamp(min=1)
    centre_x = (share.sum(1) * torch.linspace(-1, 1, 320)).sum(1) / mass
    centre_y = (share.sum(2) * torch.linspace(-1, 1, 240)).sum(1) / mass
    room_x, room_y = 1 - theta[:, 0, 0].abs(), (1 - theta[:, 1, 1]).clamp(min=0.0)
    theta[:, 0, 2] = (centre_x + (rand[:, 2] - 0.5) * 1.2).clamp(-room_x, room_x)
    theta[:, 1, 2] = (centre_y + (rand[:, 3] - 0.5) * 1.2).clamp(-room_y, room_y)
    grid = F.affine_grid(theta, [n, 3, 224, 224], align_corners=False)
    x = F.grid_sample(images.float() / 127.5 - 1, grid, mode="bilinear", padding_mode="border", align_corners=False)
    m = F.grid_sample(share[:, None], grid, mode="nearest", padding_mode="zeros", align_corners=False)
    x = ((x + 1) * (0.8 + 0.4 * rand[:, 4, None, None, None]) - 1).clamp(-1, 1)
    return x, F.avg_pool2d(m, 14).flatten(1)


CAPTIONS = {  # one group per way to say it, each with the empty floor last
    "full": [f"a photo of a {colour} {shape}" for colour in COLOURS for shape in SHAPES],
    "colour": [f"a photo of a {colour} thing" for colour in COLOURS],
    "shape": [f"a photo of a {shape}" for shape in SHAPES],
}
EMPTY = "empty grey floor"
GROUP_WEIGHTS = {"full": 0.25, "colour": 0.15, "shape": 0.6}  # colours are learned in the first steps
N_KEPT = 104  # patches of 256 seen in most of the training


def targets_of(kinds: Tensor) -> dict[str, Tensor]:
    """Index of the matching caption in each group, for (colour, shape) int64 [n, 2]."""
    return {"full": kinds[:, 0] * len(SHAPES) + kinds[:, 1], "colour": kinds[:, 0], "shape": kinds[:, 1]}


def contrastive_loss(embeddings: Tensor, words: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """CLIP's image-to-text loss over a fixed set of captions (Radford et al. 2021, arXiv:2103.00020)."""
    return F.cross_entropy(scale * F.normalize(embeddings, dim=-1) @ F.normalize(words, dim=-1).T, target)


class KeptPatches(nn.Module):
    """CLS and the patches named in ``index`` [B, kept], in place of the transformer's patch dropout; None keeps all.

    Training on part of the patches and tuning on all of them at the end is FLIP's (Li et al. 2022, arXiv:2212.00794);
    here every object patch stays and only part of the empty floor is left out.
    """

    index: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.index is None:
            return x
        rest = x[:, 1:].gather(1, self.index[:, :, None].expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :1], rest], 1)


def caption_losses(
    embeddings: Tensor, words: dict[str, Tensor], targets: dict[str, Tensor], weights: dict[str, float], scale: Tensor
) -> Tensor:
    """Weighted sum of the contrastive losses of several groups of captions."""
    losses = [weights[group] * contrastive_loss(embeddings, words[group], targets[group], scale) for group in weights]
    return torch.stack(losses).sum()


def train_transformer(
    model: Any, images: Tensor, masks: Tensor, kinds: Tensor, *, steps: int, rate: float, whole_from: float, seed: int,
    tune_layer: bool = False,
) -> Any:  # fmt: skip
    """CLIP's contrastive loss on the image embedding, and the same loss on every patch embedding.

    An image matches its caption, the caption of its colour and that of its shape. A patch at least half covered by the
    object matches the same three, one without any object pixel the caption of the empty floor; others do not count.

    Args:
        whole_from: share of the steps after which images are seen whole, not in part of their patches.
        tune_layer: the patches must match colour and shape already after block ``LAYER`` (an early exit through the
            model's own last norm and projection), so that the stream read there says what its patches show.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    all_targets = targets_of(kinds)
    text = {group: torch.tensor([tokenize(c) for c in [*captions, EMPTY]]) for group, captions in CAPTIONS.items()}
    visual = model.train().visual
    visual.output_tokens = True
    kept_patches = visual.patch_dropout = KeptPatches()
    stream: list[Tensor] = []
    hook = visual.transformer.resblocks[LAYER].register_forward_hook(lambda _m, _i, out: stream.append(out))
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    warm = max(1, steps // 30)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min(1, (s + 1) / warm) * 0.5 * (1 + math.cos(math.pi * s / steps))
    )
    for step in range(steps):
        whole = step >= whole_from * steps
        pick = torch.randint(len(images), (40 if whole else 64,), generator=generator)
        x, cover = augment(images[pick], masks[pick], generator)
        kept_patches.index = None
        if not whole:
            order = torch.rand(cover.shape, generator=generator) + (cover > 0)
            kept_patches.index = order.topk(N_KEPT, dim=1).indices
            cover = cover.gather(1, kept_patches.index)
        with torch.autocast("cpu", torch.bfloat16):
            pooled, tokens = visual(x)
            words = {group: model.encode_text(ids).float() for group, ids in text.items()}
            early = visual.ln_post(stream.pop()[:, 1:])
            patches = [(layer @ visual.proj).flatten(0, 1) for layer in ((tokens, early) if tune_layer else (tokens,))]
        scale = model.logit_scale.exp().clamp(max=100)
        inside = (cover >= 0.5).flatten().nonzero().flatten()
        outside = (cover == 0).flatten().nonzero().flatten()
        outside = outside[torch.randperm(len(outside), generator=generator)[: len(inside) // 2]]
        rows = torch.cat([inside, outside])
        of_patch = {
            group: torch.cat(
                [
                    target[pick].repeat_interleave(cover.shape[1])[inside],
                    torch.full((len(outside),), len(CAPTIONS[group])),
                ]
            )
            for group, target in all_targets.items()
        }
        image_words = {group: table[:-1] for group, table in words.items()}
        of_image = {group: target[pick] for group, target in all_targets.items()}
        image_loss = caption_losses(pooled.float(), image_words, of_image, GROUP_WEIGHTS, scale)
        patch_loss = caption_losses(patches[0][rows].float(), words, of_patch, GROUP_WEIGHTS, scale)
        loss = image_loss + patch_loss
        if tune_layer:
            early_loss = caption_losses(patches[1][rows].float(), words, of_patch, {"colour": 1.0, "shape": 1.0}, scale)
            loss = loss + early_loss
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 25 == 0 or step == steps - 1:
            shown = f"image loss {image_loss:.3f} patch loss {patch_loss:.3f}"
            shown += f" early patch loss {early_loss:.3f}" if tune_layer else ""
            print(f"transformer step {step}/{steps} {shown}", flush=True)
    hook.remove()
    visual.patch_dropout = nn.Identity()
    return model.eval()


@torch.inference_mode()
def residual_stream(model: Any, images: Tensor) -> Tensor:
    """Rows (CLS and patches) after block ``LAYER`` of centre crops, float32 [n * 257, width]."""
    outputs: list[Tensor] = []
    hook = model.visual.transformer.resblocks[LAYER].register_forward_hook(lambda _m, _i, out: outputs.append(out))
    for batch in images.split(32):
        x = F.interpolate(batch.float() / 127.5 - 1, size=(224, 299), mode="bicubic", antialias=True)[..., 37:261]
        model.visual(x.clamp(-1, 1))
    hook.remove()
    return torch.cat(outputs).flatten(0, 1).float()


def save_transformer(model: nn.Module, folder: Path) -> None:
    """The folder layout that open_clip publishes and loads (``open_clip_config.json`` and safetensors)."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS}, indent=2) + "\n"
    )


def save_sae(weights: dict[str, Tensor], path: Path) -> None:
    """The CLIP-Scope checkpoint format."""
    d, n_units = weights["enc"].shape
    torch.save({"k": K, "n_features": n_units, "d_in": d, "model_state_dict": weights}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(sae_assets.__file__).parent / "demo"
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--data", type=Path, default=here / "data" / "clevr_mini")
    parser.add_argument("--extra", type=Path, help="folder of the same layout with more training images")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tune-steps", type=int, default=300)
    parser.add_argument("--sae-steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sae-seed", type=int, default=SEED)
    parser.add_argument("--from-transformer", type=Path, help="tune this trained transformer's folder, skip --steps")
    args = parser.parse_args()
    start = time.time()
    parts = [load_train_split(root) for root in [args.data, args.extra] if root]
    images, masks = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    kinds = torch.cat([part[2] for part in parts])
    print(f"{len(images)} training images", flush=True)
    if args.from_transformer:
        model = open_clip.create_model(f"local-dir:{args.from_transformer}", output_dict=True)
    else:
        torch.manual_seed(args.seed)
        model = open_clip.CLIP(**MODEL_CONFIG, output_dict=True)
        data = (images, masks, kinds)
        model = train_transformer(model, *data, steps=args.steps, rate=1.5e-3, whole_from=0.8, seed=args.seed)
        save_transformer(model, args.out / "clip-mini-untuned")
    if args.tune_steps:
        data = (images, masks, kinds)
        model = train_transformer(
            model, *data, steps=args.tune_steps, rate=5e-4, whole_from=0, seed=args.seed + 1, tune_layer=True
        )
    save_transformer(model, args.out / "clip-mini")
    torch.set_num_threads(1)  # sums in one order, whatever the machine's number of cores
    rows = residual_stream(model.eval(), images).clone()
    tokens = len(rows) // len(images)
    save_sae(train_sae(rows, tokens, steps=args.sae_steps, seed=args.sae_seed), args.out / "clip-mini-sae.pt")
    print(f"done in {time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
