"""Train the packaged text checkpoints: a tokenizer, a small Gemma 2 and a JumpReLU SAE on its residual stream.

What lives here: the one script that reproduces ``gemma-mini`` and ``gemma-mini-sae``, seeds fixed, minutes on one CPU
core. Nothing of the pipeline imports it; the text comes from ``text_data``, and how an SAE is fitted to rows lives in
``train_text_sae``.

    python -m tools.demo_models.train_text --out DIR
    python -m tools.demo_models.train_text --out DIR --from-transformer sae_assets/demo/checkpoints/gemma-mini

Only packaged examples whose split is ``train`` are ever read, and text freshly generated from other seeds.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, rms_norm
from torch.nn.utils.rnn import pad_sequence
from transformers import Gemma2Config, Gemma2ForCausalLM, GemmaTokenizer

from tools.demo_models.text_data import CONCEPTS, Paragraph, packaged, paragraphs, split_of
from tools.demo_models.train_text_sae import average_l0, train_sae

SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
PAD, EOS, BOS = 0, 1, 2
VOCABULARY = 1536
N_EXTRA, EXTRA_SEED = 24_000, 1_000
LAYER = 2  # residual stream after this block (0-based): the last but one
CONFIG: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 320,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "max_position_embeddings": 512,
    "sliding_window": 32,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": BOS,
}
BATCH, RATE = 24, 2e-3  # paragraphs
HEAD_WEIGHT, HEAD_SCALE = 1.0, 1.0
SAE_TEXTS = 12_000


def train_tokenizer(texts: list[str]) -> GemmaTokenizer:
    """Byte-pair merges within words, byte fallback, ``▁`` for spaces; then the pipeline that Gemma's tokenizer has."""
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split(Regex(r"[.,:;!']"), "isolated")]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[*SPECIAL, *fallback], show_progress=False, min_frequency=2
    )
    trained.train_from_iterator(texts, trainer)
    trained.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trained.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    content = json.loads(trained.to_str())
    # Byte tokens are ordinary entries, as in Gemma's vocabulary: only the five named ones are special.
    content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] in SPECIAL]
    return GemmaTokenizer(tokenizer_object=Tokenizer.from_str(json.dumps(content)), add_bos_token=True)


def encode(tokenizer: GemmaTokenizer, text: list[Paragraph]) -> tuple[list[Tensor], list[Tensor]]:
    """Token ids int64 [n] with <bos> first, and labels bool [n, n_concepts], per paragraph."""
    encoded = tokenizer([paragraph.text for paragraph in text], return_offsets_mapping=True)
    tokens, labels = [], []
    for paragraph, ids, spans in zip(text, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        of_letter = np.zeros((len(paragraph.text) + 1, len(CONCEPTS)), dtype=bool)
        start = 0
        for word, concepts in zip(paragraph.words, paragraph.labels, strict=True):
            of_letter[start : start + len(word)] = [concept in concepts for concept in CONCEPTS]
            start += len(word) + 1
        tokens.append(torch.tensor(ids))
        labels.append(torch.from_numpy(np.array([of_letter[a:b].any(0) for a, b in spans])))
    return tokens, labels


def batches(tokens: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """One epoch's batches of ``BATCH`` texts of similar length, in random order; what does not fill one is left out."""
    order = torch.randperm(len(tokens), generator=generator)[: len(tokens) // BATCH * BATCH]
    lengths = torch.tensor([len(text) for text in tokens])
    parts = [part[lengths[part].argsort(stable=True)] for part in order.split(BATCH * 32)]
    cut = torch.cat(parts).split(BATCH)
    return [cut[i] for i in torch.randperm(len(cut), generator=generator)]


def train_model(tokens: list[Tensor], labels: list[Tensor], epochs: int, seed: int) -> Gemma2ForCausalLM:
    """Next-token loss, and the loss of a linear head that reads each token's concepts after block ``LAYER``.

    The head sees rows scaled to a mean square of 1 through directions of norm 1, so that a concept must take up a real
    share of a row before the head is sure. It is thrown away.
    """
    torch.manual_seed(seed)
    model = Gemma2ForCausalLM._from_config(Gemma2Config(**CONFIG), attn_implementation="eager").train()
    head = nn.Linear(CONFIG["hidden_size"], len(CONCEPTS))
    decayed = [p for p in model.parameters() if p.ndim == 2]
    plain = [p for p in model.parameters() if p.ndim != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": [*plain, *head.parameters()], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98))
    steps = epochs * (len(tokens) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.08)
    generator = torch.Generator().manual_seed(seed)
    step = 0
    for _ in range(epochs):
        for batch in batches(tokens, generator):
            ids = pad_sequence([tokens[i] for i in batch], batch_first=True, padding_value=PAD)
            truth = pad_sequence([labels[i] for i in batch], batch_first=True)
            used = ids != PAD
            out = model(input_ids=ids, attention_mask=used.long(), output_hidden_states=True, use_cache=False)
            next_token = cross_entropy(out.logits[:, :-1][used[:, 1:]], ids[:, 1:][used[:, 1:]])
            rows = rms_norm(out.hidden_states[LAYER + 1][used], (CONFIG["hidden_size"],))
            logits = HEAD_SCALE * rows @ normalize(head.weight, dim=1).T + head.bias
            concepts = binary_cross_entropy_with_logits(logits, truth[used].float())
            optimiser.zero_grad()
            (next_token + HEAD_WEIGHT * concepts).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            if step % 50 == 0 or step == steps - 1:
                print(f"model step {step}/{steps} next token {next_token:.4f} concepts {concepts:.4f}", flush=True)
            step += 1
    return model.eval()


@torch.inference_mode()
def residual_stream(model: Gemma2ForCausalLM, tokens: list[Tensor]) -> Tensor:
    """Rows after block ``LAYER``, float32 [n_rows, d_model]: every token but <bos>, texts in order."""
    parts = []
    for start in range(0, len(tokens), 64):
        batch = tokens[start : start + 64]
        ids = pad_sequence(batch, batch_first=True, padding_value=PAD)
        used = ids != PAD
        out = model.model(input_ids=ids, attention_mask=used.long(), output_hidden_states=True, use_cache=False)
        used[:, 0] = False
        parts.append(out.hidden_states[LAYER + 1][used])
    return torch.cat(parts)


def text_means(rows: Tensor, tokens: list[Tensor]) -> Tensor:
    """Mean of each text's rows, float32 [n_texts, d_model]: what the token kind ``cls`` encodes."""
    return torch.stack([text.mean(0) for text in rows.split([len(text) - 1 for text in tokens])])


def save_sae(weights: dict[str, Tensor], l0: float, folder: Path) -> Path:
    """The Gemma Scope file layout: ``layer_L/width_Wk/average_l0_N/params.npz``, float32."""
    width = f"width_{len(weights['threshold']) // 1024}k"
    path = folder / f"layer_{LAYER}" / width / f"average_l0_{round(l0)}" / "params.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: tensor.float().numpy() for name, tensor in weights.items()}
    np.savez(path, **arrays)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-transformer", type=Path, help="train the SAE only, on this folder's transformer")
    args = parser.parse_args()
    start = time.time()
    text = [paragraph for index, paragraph in enumerate(packaged()) if split_of(index) == "train"]
    text += paragraphs(N_EXTRA, EXTRA_SEED, reserved=False)
    if args.from_transformer:
        tokenizer = GemmaTokenizer.from_pretrained(args.from_transformer)
        tokens, _ = encode(tokenizer, text)
        model = Gemma2ForCausalLM.from_pretrained(args.from_transformer, attn_implementation="eager").eval()
    else:
        tokenizer = train_tokenizer([paragraph.text for paragraph in text[:6_000]])
        tokens, labels = encode(tokenizer, text)
        print(f"{len(text)} paragraphs, {sum(map(len, tokens))} tokens", flush=True)
        model = train_model(tokens, labels, args.epochs, args.seed)
        model.save_pretrained(args.out / "gemma-mini")
        tokenizer.save_pretrained(args.out / "gemma-mini")
    print(f"model ready after {time.time() - start:.0f} s", flush=True)
    tokens = tokens[:SAE_TEXTS]
    rows = residual_stream(model, tokens)
    weights = train_sae(rows, text_means(rows, tokens), args.seed)
    l0 = average_l0(weights, rows[-50_000:])
    print(f"{save_sae(weights, l0, args.out / 'gemma-mini-sae')} after {time.time() - start:.0f} s, L0 {l0:.1f}")


if __name__ == "__main__":
    main()
