"""Weights know their tokens, and so tell whether a tokenizer is the model's own.

Nothing in a model's files says which tokenizer it was trained with, and rows of another's tokens look like any others.
But a trained model finds texts likelier than the same texts with each token exchanged for another one, and gives tokens
that are spelt alike (``the``, ``The``, ``▁the``) embeddings that are alike. What ``tokens`` compares needs no weights.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Model
from sae_assets.rows.transformers.files import quiet, read_pretrained
from sae_assets.rows.transformers.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.rows.texts import Tokenized

MARKS = "▁Ġ#"  # by which tokenizers mark the beginning of a word, or its continuation
PAIRS, TOKENS = 1000, 8000  # fewer alike tokens, or fewer tokens, do not decide
MOST_PAIRS = 2000  # compared, from all of the vocabulary: all of a large one's would be gigabytes in float64
STANDARD_ERRORS = 5.0  # that alike tokens must be nearer by; a trained model's are by dozens
IDS = 128  # of a text that are looked at
ANSWERS = 50  # tokens that are to be foretold; fewer do not decide
GAIN = 1.0  # nats per token that real texts must be likelier by; a trained model finds them likelier by several
EVERY = 7  # of the tokens of a text, the one that a model of masked words is to find


def doubts_of_spelling(vocabulary: Mapping[str, int], embeddings: "Tensor") -> list[str]:
    """Return what is to be said where tokens that are spelt alike have embeddings no more alike than any two; mostly
    nothing.

    Args:
        vocabulary: id by token; embeddings: float [n_ids, width].
    """
    import torch

    alike: dict[str, list[int]] = {}
    for token, index in vocabulary.items():
        spelling = token.removesuffix("</w>").lstrip(MARKS).casefold()
        if index < len(embeddings) and any(map(str.isalpha, spelling)):
            alike.setdefault(spelling, []).append(index)
    pairs = [(one, other) for ids in alike.values() for one in sorted(ids) for other in sorted(ids) if one < other]
    if len(pairs) < PAIRS or len(vocabulary) < TOKENS:
        return []
    pairs = pairs[:: -(-len(pairs) // MOST_PAIRS)]
    first, second = torch.tensor(pairs, dtype=torch.int64, device="cpu").T
    used, inverse = torch.cat([first, second]).unique(return_inverse=True)
    rows = embeddings[used.to(embeddings.device)].to("cpu").double()
    rows = torch.nn.functional.normalize(rows - rows.mean(0), dim=1)
    first, second = inverse.view(2, -1)
    near = (rows[first] * rows[second]).sum(1)
    shift = len(pairs) // 2  # the same tokens, each beside one that is spelt otherwise
    apart = (rows[first] * rows[second.roll(shift)]).sum(1)
    error = float((near.var() + apart.var()) / len(pairs)) ** 0.5
    if float(near.mean() - apart.mean()) > STANDARD_ERRORS * error:
        return []
    return [
        "tokens that are spelt alike have embeddings no more alike than any two: the tokenizer may be another model's, "
        "or the weights untrained"
    ]


def doubt_of_texts(model: Model, texts: Sequence[str]) -> str:
    """Return what is to be said where the whole model finds texts hardly likelier than the same ones in exchanged
    tokens.

    Empty where it finds them likelier, and where nothing is known: the files hold no head that foretells tokens, or the
    texts are too short. It reads the weights once more, the whole of them, on the CPU.

    Raises:
        CheckpointError: files that cannot be read; DatasetError: a text without tokens of its own.
    """
    tokens = Tokens(model)
    head = _head(tokens.config)
    encoded = [text for text in map(tokens.encode, texts) if len(text.spans)]
    if not head or sum(min(len(text.ids), IDS) for text in encoded) // (EVERY if "Masked" in head else 1) < ANSWERS:
        return ""
    import torch

    assert model.transformer is not None
    mask = tokens.mask_id if "Masked" in head else None
    network, loaded = read_pretrained(
        head, model.transformer, "weights", output_loading_info=True, dtype=getattr(torch, model.precision),
        use_safetensors=True,
    )  # fmt: skip
    if loaded["missing_keys"] or loaded["mismatched_keys"] or ("Masked" in head and mask is None):
        return ""
    network.eval()
    size = min(int(network.get_input_embeddings().num_embeddings), tokens.config.vocab_size)
    exchanged = _exchanged(size, tokens.special_ids)
    try:
        own = _nats(network, encoded, torch.arange(size, device="cpu"), mask)
        other = _nats(network, encoded, exchanged, mask)
    except Exception:  # whatever a model raises for what it does not take is said where its rows are read
        return ""
    if own < other - GAIN:
        return ""
    return (
        f"the model finds the first texts hardly likelier ({own:.1f} nats per token) than the same texts with every "
        f"token exchanged for another ({other:.1f}): the tokenizer may be another model's, or the weights untrained"
    )


def _head(config: Any) -> str:
    """Return the class that reads a checkpoint with its head, where that is what was saved; else empty."""
    from transformers.models.auto import modeling_auto as auto

    saved = set(getattr(config, "architectures", None) or ())
    heads = {
        "AutoModelForCausalLM": auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "AutoModelForMaskedLM": auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    }
    kind = getattr(config, "model_type", "")
    return next((name for name, models in heads.items() if models.get(kind) in saved), "")


def _exchanged(size: int, special: Sequence[int]) -> "Tensor":
    """Return another id for each, int64 [size], the same at each call; special ones stay."""
    import torch

    ids = torch.arange(size, device="cpu")
    free = ids[~torch.isin(ids, torch.tensor(special, dtype=torch.int64, device="cpu"))]
    order = torch.randperm(len(free), generator=torch.Generator().manual_seed(0), device="cpu")
    return ids.scatter(0, free[order], free[order.roll(1)])


def _nats(network: Any, texts: "Sequence[Tokenized]", exchanged: "Tensor", mask: int | None) -> float:
    """Return mean of −ln p of the texts' own tokens, each given those before it or, with ``mask``, those around it."""
    import torch

    total, count = 0.0, 0
    for text in texts:
        own = torch.zeros(len(text.ids), dtype=torch.bool, device="cpu")
        own[text.rows] = True
        ids = torch.tensor(text.ids, dtype=torch.int64, device="cpu")
        ids = torch.where(own, exchanged[ids], ids)[:IDS]
        own = own[:IDS]
        inputs = ids.clone()
        if mask is not None:
            own &= torch.arange(len(ids), device="cpu") % EVERY == EVERY // 2
            inputs[own] = mask
        with quiet(), ops.process_state.plain_torch("cpu"), torch.inference_mode():
            logits = network(input_ids=inputs[None], attention_mask=torch.ones_like(inputs)[None]).logits[0].double()
        if mask is None:
            logits, ids, own = logits[:-1], ids[1:], own[1:]
        log_likelihoods = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0][own]
        total, count = total - float(log_likelihoods.sum()), count + len(log_likelihoods)
    return total / max(count, 1)
