"""Where in a transformer an SAE was trained, by the names that libraries and publishers give to such places.

A name that is understood says a block and what of it: its input or output (the residual stream), or something inside.
Nothing here reads files; which name a checkpoint has is its format's business.
"""

import re
from dataclasses import dataclass
from pathlib import Path

INPUT, OUTPUT = "input", "output"  # of a block: the residual stream before and behind it
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_MODULE = re.compile(r"(?:.*\.)?(?:layers|layer|h|resblocks|blocks)\.(\d+)(?:\.(.+))?")
_GEMMA_SCOPE = re.compile(r"(?:gemma[-_]scope(?:[-_]\d)?[-_].*?|^)(res|att|mlp|transcoders?|crosscoders?)(?:$|[-_])")
_RESIDUAL = {"hook_resid_pre": INPUT, "hook_resid_post": OUTPUT}
_PARTS = (("attention", ("attn", "attention", "hook_z", "hook_q", "hook_k", "hook_v", "hook_result")),
          ("the MLP", ("mlp", "feed_forward", "ffn", "intermediate", "fc1", "fc2")))  # fmt: skip


@dataclass(frozen=True)
class HookPoint:
    """A place in a transformer.

    Attributes:
        block: counted from 0; None of places outside of blocks.
        part: ``input`` or ``output`` of the block, or what inside of it, in words.
    """

    block: int | None
    part: str

    @property
    def hidden_state(self) -> int | None:
        """Index into ``hidden_states`` (0: the first block's input); None off the residual stream between blocks."""
        return None if self.block is None or self.part not in (INPUT, OUTPUT) else self.block + (self.part == OUTPUT)


def understood(name: str | None) -> HookPoint | None:
    """The place that a name stands for; None where there is no name, or one that no rule here knows."""
    name = name or ""
    if match := _TRANSFORMER_LENS.fullmatch(name):
        part = match[2]
        if part in _RESIDUAL:
            return HookPoint(int(match[1]), _RESIDUAL[part])
        if re.search(r"hook_\w+$", part):
            return HookPoint(int(match[1]), _described(part))
    if match := _MODULE.fullmatch(name):
        part = (match[2] or OUTPUT).removesuffix(".output")
        return HookPoint(int(match[1]), OUTPUT if part == OUTPUT else _described(part))
    if re.fullmatch(r"(?:\w+\.)*hook_\w+|embedding", name):  # TransformerLens outside of blocks, Gemma Scope's folder
        return HookPoint(None, name)
    return None


def _described(part: str) -> str:
    lowered = part.lower()
    return next((name for name, words in _PARTS if any(word in lowered for word in words)), f"`{part}`")


def difference(trained: str | None, hidden_state: int | None, module: str | None) -> str:
    """What tells the place where an SAE was trained from the one that is read; empty if they agree, or nobody knows.

    Args:
        trained: as the checkpoint names it.
        hidden_state: index into ``hidden_states`` that is read, of the residual stream.
        module: name of the module that is read instead.
    """
    origin = understood(trained)
    if origin is None:
        return ""
    if hidden_state is not None:
        if origin.hidden_state == hidden_state:
            return ""
        of = "not the residual stream" if origin.hidden_state is None else f"hidden state {origin.hidden_state}"
        if origin.hidden_state is None and origin.part != trained:
            of = f"{origin.part} of block {origin.block}, {of}"
        return of
    if trained is None or module is None or module.endswith(trained) or trained.endswith(module):
        return ""
    read = understood(module)
    if read is None or read.block is None or (read.block, read.part) == (origin.block, origin.part):
        return ""
    if origin.hidden_state is not None and origin.hidden_state == read.hidden_state:
        return ""
    where = "outside of blocks" if origin.block is None else f"{origin.part} of block {origin.block}"
    return f"{where}, not {read.part} of block {read.block}"


def named_by_publisher(path: Path) -> str | None:
    """The place that the folders of a published checkpoint name, where its files do not; None if none does.

    Gemma Scope has a repository per kind of place, which may have been saved under the kind alone (``mlp``), and
    ``layer_34`` in the path; CLIP-Scope has ``22_resid``.
    """
    parts = path.parts
    layer = next((match[1] for part in reversed(parts) if (match := re.fullmatch(r"layer_(\d+)", part))), None)
    kinds = [match[1] for part in parts if (match := _GEMMA_SCOPE.search(part.lower()))]
    if layer is not None:
        kind = {"att": ".attn", "mlp": ".mlp"}.get(kinds[-1], "") if kinds else ""
        coder = bool(kinds) and kinds[-1].startswith(("trans", "cross"))
        return f"layers.{layer}.{kinds[-1].rstrip('s')}" if coder else f"layers.{layer}{kind}"
    if kinds and "embedding" in parts:
        return "embedding"
    folder = re.fullmatch(r"(\d+)_(\w+)", path.parent.name)
    if folder is not None and path.suffix == ".pt":
        return f"layers.{folder[1]}" if folder[2] == "resid" else f"layers.{folder[1]}.{folder[2]}"
    return None
