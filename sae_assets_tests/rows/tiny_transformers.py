"""Tiny models of ``transformers`` with random weights, saved as local folders in the library's published layout."""

import functools
import json
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from sae_assets.catalog import Model, Pruning, Sae, Transformer
from sae_assets.rows.transformers.files import quiet

WIDTH, LAYERS, PATCH, SIZE, VOCABULARY = 16, 3, 8, 32, 500
VISION = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "image_size": SIZE, "patch_size": PATCH,
}  # fmt: skip
TEXT = {
    "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
}  # fmt: skip
SQUARE = {"height": SIZE, "width": SIZE}
CORPUS = ["Hello world this is a cafe naive ok text spaces new line < > / b o s e"] * 50


def long_but(usual: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Cases of a test, all but the usual ones for the long tests alone: other models through the same code."""
    return [each if each in usual else pytest.param(each, marks=pytest.mark.long) for each in cases]


def clip_both_towers() -> hf.CLIPModel:
    text = {**TEXT, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 1}
    config = {"vision_config": {**VISION, "projection_dim": 8}, "text_config": text, "projection_dim": 8}
    return hf.CLIPModel(hf.CLIPConfig(**config))


# By name: the model, and its image processor with a resize that is no no-op for every other one.
VISION_MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "clip_vision": (
        lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**VISION)),
        lambda: hf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SQUARE),
    ),
    "clip": (clip_both_towers, lambda: hf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SQUARE)),
    "siglip": (
        lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**VISION)),
        lambda: hf.SiglipImageProcessor(size=SQUARE),
    ),
    "dinov2": (  # trained at another size: position embeddings are interpolated
        lambda: hf.Dinov2Model(hf.Dinov2Config(**{**VISION, "image_size": 64})),
        lambda: hf.BitImageProcessor(size={"shortest_edge": 41}, crop_size=SQUARE),
    ),
    "dinov2_registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**VISION, num_register_tokens=4)),
        lambda: hf.BitImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE),
    ),
    "dinov3": (
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**VISION, num_register_tokens=4)),
        lambda: hf.DINOv3ViTImageProcessor(size=SQUARE),
    ),
    "vit": (lambda: hf.ViTModel(hf.ViTConfig(**VISION)), lambda: hf.ViTImageProcessor(size=SQUARE)),
    "vit_wide": (
        lambda: hf.ViTModel(hf.ViTConfig(**{**VISION, "image_size": [32, 48]})),
        lambda: hf.ViTImageProcessor(size={"height": 32, "width": 48}),
    ),
    "vit_remainder": (  # 35 pixels: four patches and 3 pixels that no patch covers
        lambda: hf.ViTModel(hf.ViTConfig(**{**VISION, "image_size": 35})),
        lambda: hf.ViTImageProcessor(size={"height": 35, "width": 35}),
    ),
    "deit": (
        lambda: hf.DeiTModel(hf.DeiTConfig(**VISION)),
        lambda: hf.DeiTImageProcessor(size={"height": 37, "width": 37}, crop_size=SQUARE),
    ),
    "aimv2": (  # its CLS token is the head's
        lambda: hf.Aimv2VisionModel(hf.Aimv2VisionConfig(**VISION)),
        lambda: hf.CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=SQUARE),
    ),
    "beit": (  # a table of relative positions that the library keeps for the whole process
        lambda: hf.BeitModel(hf.BeitConfig(**VISION, use_relative_position_bias=True)),
        lambda: hf.BeitImageProcessor(size=SQUARE, do_center_crop=False),
    ),
    "beit_shared": (
        lambda: hf.BeitModel(hf.BeitConfig(**VISION, use_shared_relative_position_bias=True)),
        lambda: hf.BeitImageProcessor(size=SQUARE, do_center_crop=False),
    ),
    "data2vec": (
        lambda: hf.Data2VecVisionModel(hf.Data2VecVisionConfig(**VISION, use_relative_position_bias=True)),
        lambda: hf.BeitImageProcessor(size=SQUARE, do_center_crop=False),
    ),
    "mae_unmasked": (  # shuffles its patches in every pass
        lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VISION, mask_ratio=0.0)),
        lambda: hf.ViTImageProcessor(size=SQUARE),
    ),
    "mae": (lambda: hf.ViTMAEModel(hf.ViTMAEConfig(**VISION)), lambda: hf.ViTImageProcessor(size=SQUARE)),
    "swin": (
        lambda: hf.SwinModel(
            hf.SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4)
        ),
        lambda: hf.ViTImageProcessor(size=SQUARE),
    ),
    "naflex": (
        lambda: hf.Siglip2VisionModel(
            hf.Siglip2VisionConfig(**{k: v for k, v in VISION.items() if k != "image_size"}, num_patches=16)
        ),
        lambda: hf.Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=16),
    ),
}


def gemma_tokenizer() -> Any:
    """As Gemma's: BPE with byte pieces, spaces as ``▁``, <bos> in front."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    made = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=names, show_progress=False))
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    content = json.loads(made.to_str())
    content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] in special]
    return hf.GemmaTokenizer(tokenizer_object=Tokenizer.from_str(json.dumps(content)), add_bos_token=True)


def unigram_tokenizer() -> Any:
    """As XLM-RoBERTa's: Unigram with special pieces in the vocabulary, <s> and </s> around a text."""
    made = Tokenizer(models.Unigram())
    made.normalizer, made.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    around = [("<s>", 0), ("</s>", 2)]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def byte_tokenizer() -> Any:
    """As GPT-2's: BPE over printable bytes, nothing added to a text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return hf.GPT2Tokenizer(tokenizer_object=made)


WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "wor", "##ld", "this", "is", "a", "cafe", "na", "##ive",
    "ok", "<", ">", "/", ",", "[", "]", "c", "##ls", "b", "##os", "text", "##t", "s", "hi", "e", "日", "本", ".", "!",
]  # fmt: skip


def word_tokenizer() -> Any:
    """As BERT's: word pieces, lower case, [CLS] and [SEP] around a text."""
    return hf.BertTokenizer(vocab={word: place for place, word in enumerate(WORDS)})


GEMMA = {
    **TEXT, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": 8, "attn_logit_softcapping": 2.0,
    "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
GPT = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 2, "vocab_size": VOCABULARY, "n_positions": 64}
TEXT_MODELS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "gemma2": (lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GEMMA)), gemma_tokenizer),
    "gpt2": (lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT, bos_token_id=0, eos_token_id=0)), byte_tokenizer),
    "llama": (lambda: hf.LlamaModel(hf.LlamaConfig(**TEXT)), gemma_tokenizer),
    "bert": (lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT, max_position_embeddings=64)), word_tokenizer),
    "roberta": (lambda: hf.RobertaModel(hf.RobertaConfig(**TEXT, max_position_embeddings=66)), unigram_tokenizer),
}


def write_transformer(folder: Path, name: str) -> Path:
    """A model by name with its image processor or tokenizer; the same weights every time."""
    make_model, make_other = (VISION_MODELS | TEXT_MODELS)[name]
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        network = make_model()
        for parameter in network.parameters():  # the library's own start is so small that blocks hardly differ
            torch.nn.init.normal_(parameter, std=0.3)
        network.save_pretrained(folder)
        make_other().save_pretrained(folder)
    return folder


@functools.cache
def full_model(folder: Path) -> Any:
    """The library's own model, whole, of a folder."""
    with quiet():
        return hf.AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()


def local(folder: Path) -> Transformer:
    return Transformer(library="transformers", path=folder)


def entry(folder: Path, modality: str = "image", sae: Path = Path("no-sae.pt"), **changes: Any) -> Model:
    """A catalog entry; block 1 unless another place is named."""
    if not {"layer", "hidden_state", "module"} & set(changes):
        changes["layer"] = 1
    return Model(
        modality=modality,
        transformer=local(folder),
        sae=Sae(format="clipscope", path=sae),
        pruning=Pruning(min_active=1, max_density=1, strength_percentile=0, target_units=100),
        **changes,
    ).named("tiny")
