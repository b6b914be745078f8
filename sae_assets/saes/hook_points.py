"""Libraries and publishers give names to the places in a transformer where SAEs are trained.

A name that is understood says a block and what of it: its input or output (the residual stream), or something inside.
Nothing here reads files; which name a checkpoint has is its format's business.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_assets.wording import shortened

INPUT, OUTPUT = "input", "output"  # of a block: the residual stream before and behind it
FINAL_NORM = "the final norm"
UNSAID = "an unknown part"
_SEPARATORS = re.compile(r"[./:\[\]()'\"\s]+")
_LISTS = ("layers", "layer", "h", "resblocks", "blocks", "block")  # what libraries call a model's blocks
_NUMBERED = re.compile(rf"(?:(\w+)_)?({'|'.join(_LISTS)})_(\d+)")  # encoder_layer_7, mlp_out_layer_7
_GEMMA_SCOPE = re.compile(r"(?:gemma[-_]scope(?:[-_]\d)?[-_].*?|^)(res|att|mlp|transcoders?|crosscoders?)(?:$|[-_])")
_NUMBER = re.compile(r"[0-9]{1,6}")  # of a block
_GEMMA_SCOPE_LAYER = re.compile(rf"layer_({_NUMBER.pattern})")
_STREAM = {"resid_pre": INPUT, "in": INPUT, "input": INPUT, "resid_post": OUTPUT, "out": OUTPUT, "": OUTPUT}
_FINAL_NORM = re.compile(
    r"(?:.*\.)?(?:ln_final(?:\.hook_\w+)?|ln_f|norm_f|norm|final_layer_?norm|final_norm|ln_post|post_layernorm|layernorm)"
)
_ENDS = re.compile(  # before the first block and behind the last one: embeddings, and heads
    r"(?:\w+\.)*(?:\w*embed(?:s|ding|dings|_tokens|_in|_out)?|wte|wpe|lm_head|unembed)"
)
_PARTS = (("attention", ("attn", "attention", "hook_z", "hook_q", "hook_k", "hook_v", "hook_result")),
          ("the MLP", ("mlp", "feed_forward", "ffn", "intermediate", "fc1", "fc2", "densereludense", "moe",
                       "output.dense")))  # fmt: skip
# Of what stands before `layer_7` in a name, words that say a place in the block; `encoder` says none.
_BEFORE = ("resid", "transcoder", "crosscoder", "norm", *(word for _, words in _PARTS for word in words))
# What libraries call the part of a model that reads images, or texts.
_TOWERS = {
    "image": ("visual", "vision_model", "vision_tower", "vision_encoder", "vision_transformer", "image_encoder"),
    "text": ("text_model", "text_encoder", "text_transformer", "language_model", "llm"),
}
_OUTPUT_OF_PART = re.compile(  # that of the whole attention or MLP, and of the last matrix in it
    r"(?:hook_)?(?:mlp|ffn|feed_forward|(?:self_?)?attn|(?:self_?)?attention)(?:_out)?"
    r"(?:\.(?:hook_out|down_proj|o_proj|out_proj|c_proj|fc2|dense_4h_to_h))?"
)


@dataclass(frozen=True)
class HookPoint:
    """A place in a transformer.

    Attributes:
        block: counted from 0; None of places outside of blocks.
        part: ``input`` or ``output`` of the block, or what inside of it, in words.
        inside: where in that part, as the name has it; empty of the part's own output.
    """

    block: int | None
    part: str
    inside: str = ""

    @property
    def hidden_state(self) -> int | None:
        """Return index into ``hidden_states`` (0: the first block's input); None off the residual stream between
        blocks."""
        return None if self.block is None or self.part not in (INPUT, OUTPUT) else self.block + (self.part == OUTPUT)

    def __str__(self) -> str:
        return self.part if self.block is None else f"{self.part} of block {self.block}"


def understood(name: str | None) -> HookPoint | None:
    """Return the place that a name stands for; None where there is no name, or one that no rule here knows.

    Indices may be written as ``layers.7``, ``layers[7]``, ``layers/7`` or ``layer_7``. The first one is the block's.
    """
    parts = _split(name)
    if match := _GEMMA_SCOPE_LAYER.fullmatch(name or ""):  # a folder whose kind nothing says
        return HookPoint(int(match[1]), UNSAID)
    lists = [at for at, part in enumerate(parts[:-1]) if part in _LISTS and _NUMBER.fullmatch(parts[at + 1])]
    if not lists:
        return _outside(".".join(parts))
    at = lists[0]
    block, rest = int(parts[at + 1]), parts[at + 2 :]
    if len(lists) == 1:
        return _inside(block, rest)
    # T5 has sublayers in a block. Of other lists in lists (stages of Swin, say) the first counts no blocks.
    if parts[at] == "block" and rest[0] == "layer" and lists[1] == at + 2:
        return _sublayer(block, "decoder" in parts[:at], "encoder" in parts[:at], rest)
    return None


def _split(name: str | None) -> list[str]:
    """Return the name's parts, indices apart; ``output[0]`` of a block that gives a tuple is its output."""
    parts: list[str] = []
    for part in _SEPARATORS.split((name or "").strip()):
        match = _NUMBERED.fullmatch(part)
        parts += [match[2], match[3]] if match else [part] if part else []
        if match and match[1] and any(word in match[1].lower() for word in _BEFORE):
            parts.append(match[1])
    if parts[-2:] in (["output", "0"], ["hook_out", "0"]):
        parts.pop()
    return parts


def _outside(name: str) -> HookPoint | None:
    """TransformerLens outside of blocks, embeddings (Gemma Scope's folder too), heads, and final norms."""
    if _FINAL_NORM.fullmatch(name) and "embed" not in name:
        return HookPoint(None, FINAL_NORM)
    return HookPoint(None, name) if _ENDS.fullmatch(name) or re.fullmatch(r"(?:\w+\.)*hook_\w+", name) else None


def _inside(block: int, rest: Sequence[str]) -> HookPoint:
    """Return what of a block the rest of a name stands for."""
    own = rest[:-1] if rest[1:] and rest[-1] == "output" else rest
    name = ".".join(own)
    stream = name.removeprefix("hook_")
    if stream in _STREAM or name == "output":
        return HookPoint(block, _STREAM.get(stream, OUTPUT))
    lowered = name.lower()
    norm = "norm" in lowered.rpartition(".")[2]  # post_attention_layernorm is none of attention
    part = next((title for title, words in _PARTS if not norm and any(word in lowered for word in words)), f"`{name}`")
    return HookPoint(block, part, "" if _OUTPUT_OF_PART.fullmatch(lowered) else name)


def _sublayer(block: int, decoder: bool, encoder: bool, rest: Sequence[str]) -> HookPoint:
    """T5's: the last one's output, MLP and residual stream, is the block's; what others give is not."""
    number, inner_parts = int(rest[1]), [part for part in rest[2:] if part != "output"]
    if inner_parts:
        return _inside(block, inner_parts)
    if number in (0, 1) and not (encoder and number == 1):
        named = ("the self-attention sublayer", "the cross-attention sublayer" if decoder else UNSAID)
        return HookPoint(block, named[number])
    return HookPoint(block, OUTPUT)


def difference(trained: str | None, hidden_state: int | None, module: str | None, final_norm: str = "") -> str:
    """Return what tells the place where an SAE was trained from the one that is read; empty if they agree, or nobody
    knows.

    Args:
        trained: as the checkpoint names it.
        hidden_state: index into ``hidden_states`` that is read, of the residual stream.
        module: name of the module that is read instead.
        final_norm: what the library has put between the last block and the hidden state that is read; empty: nothing.
    """
    origin = understood(trained)
    if origin is None:
        return ""
    if hidden_state is not None:
        return _from_stream(origin, hidden_state, final_norm)
    same = _split(trained), _split(module)
    shorter = min(map(len, same))
    if module is None or same[0][-shorter:] == same[1][-shorter:]:
        return ""
    read = understood(module)
    if read is None or read == origin or (UNSAID in (origin.part, read.part) and origin.block == read.block):
        return ""
    if origin.hidden_state is not None and origin.hidden_state == read.hidden_state:
        return ""
    if str(origin) == str(read):
        return f"{origin}: {_within(origin)}, not {_within(read)}"
    where = "outside of blocks" if origin.block is None and origin.part != FINAL_NORM else str(origin)
    return f"{where}, not {read}"


def is_before(trained: str | None, hidden_state: int | None, final_norm: str) -> bool:
    """Return whether an SAE was trained at the state that is read, before what the library has put behind it."""
    origin = understood(trained)
    return bool(final_norm) and hidden_state is not None and origin is not None and origin.hidden_state == hidden_state


def tower(name: str | None) -> str | None:
    """Return what the part of a model that a name begins with reads: ``image`` or ``text``; None where it does not
    say."""
    parts = _split(name)
    end = next((at for at, part in enumerate(parts) if part in _LISTS), len(parts))
    return next((modality for modality, words in _TOWERS.items() if {*words} & {*parts[:end]}), None)


def _within(point: HookPoint) -> str:
    return f"`{point.inside}`" if point.inside else "its output"


def _from_stream(origin: HookPoint, hidden_state: int, final_norm: str) -> str:
    if final_norm and origin.part == FINAL_NORM:
        return ""
    if origin.part == UNSAID:
        return "" if origin.block is not None and origin.block + 1 == hidden_state else str(origin)
    if origin.hidden_state == hidden_state:
        return f"before {final_norm}, not behind it" if final_norm else ""
    if origin.hidden_state is not None:
        return f"hidden state {origin.hidden_state}"
    if hidden_state == 0 and _ENDS.fullmatch(origin.part):
        return ""  # of many models the same
    return "not the residual stream" if origin.block is None else f"{origin}, not the residual stream"


def named_by_publisher(path: Path) -> str | None:
    """Return the place that the folders of a published checkpoint name, where its files do not; None if none does.

    Gemma Scope has a repository per kind of place, which may have been saved under the kind alone (``mlp``), and
    ``layer_34`` in the path, which is all that is known where no folder says the kind; CLIP-Scope has ``22_resid``.
    """
    parts = path.parts
    layer = next((match[1] for part in reversed(parts) if (match := _GEMMA_SCOPE_LAYER.fullmatch(part))), None)
    kinds = [match[1] for part in parts if (match := _GEMMA_SCOPE.search(part.lower()))]
    if layer is not None and not kinds:
        return f"layer_{layer}"
    if layer is not None:
        kind = {"att": ".attn", "mlp": ".mlp"}.get(kinds[-1], "")
        coder = kinds[-1].startswith(("trans", "cross"))
        return f"layers.{layer}.{kinds[-1].rstrip('s')}" if coder else f"layers.{layer}{kind}"
    if kinds and "embedding" in parts:
        return "embedding"
    folder = re.fullmatch(r"(\d+)_(\w+)", path.parent.name)
    if folder is not None and path.suffix == ".pt":
        return f"layers.{folder[1]}" if folder[2] == "resid" else f"layers.{folder[1]}.{folder[2]}"
    return None


def in_words(name: str | None) -> str:
    """Return a checkpoint's place as people are told it: the name, and what of it is not known."""
    point = understood(name)
    name = None if name is None else shortened(name)
    if name is None or point is None:
        return "not known" if name is None else f"{name} (not known where that is)"
    return f"{name} (not known: residual stream, MLP or attention)" if point.part == UNSAID else name
