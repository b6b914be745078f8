"""Texts to token ids and the characters each token stands for: the model's tokenizer, without the model's weights.

Which rows a token gives is ``texts``' business. Special ids are put where the tokenizer's own rule puts them; what a
text says is text, also where it spells a special token.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sae_assets import ops, plain_json
from sae_assets.catalog import Model
from sae_assets.errors import CheckpointError, DatasetError, SaeAssetsError
from sae_assets.rows.texts import Tokenized
from sae_assets.rows.transformers.alignment import align
from sae_assets.rows.transformers.blocks import shortened
from sae_assets.rows.transformers.files import is_failure, locate_hub_folder, quiet, read_config, read_pretrained
from sae_assets.rows.transformers.lengths import one_way_up_to

SPECIAL_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
ROUNDED_UP, MOST_OF = 4096, 0.9  # embeddings beyond the tokens, in number and in share, that a model may have
DIFFERENT = 0.01  # share of the tokens of a vocabulary that may have other ids in another writing of it
UNLIMITED = 10**9  # tokenizers that know no limit say 10**30


class Tokens:
    """The tokenizer of a text model.

    Attributes:
        pad_id: an id to fill up with (it is masked); max_positions: ids that the model takes; None: any number.

    Raises:
        CheckpointError: files that cannot be read, ``prepend_bos`` for a tokenizer without such a token, more tokens
            than the model has embeddings, or texts so long that others decide how they are read.
    """

    def __init__(self, model: Model):
        assert model.transformer is not None
        self._label = model.transformer.label
        self._folder = model.transformer.path or locate_hub_folder(model.transformer)
        self._tokenizer = read_pretrained("AutoTokenizer", model.transformer, "tokenizer")
        if not set(self._tokenizer.get_vocab()) - set(self._tokenizer.all_special_tokens):
            raise CheckpointError(  # transformers makes an empty tokenizer where it finds no files
                f"{self._label} has no vocabulary: tokenizer.json, or the files of its tokenizer, are not there."
            )
        if self._tokenizer.is_fast:
            _spell_special_pieces_out(self._tokenizer)
        self._max_tokens, self._prepend_bos = model.max_tokens, model.prepend_bos
        self.config = read_config(model.transformer, "text_config")
        self._expect_embeddings()
        self.max_positions = _max_positions(self.config, self._tokenizer)
        self.pad_id = int(self._tokenizer.pad_token_id or 0)
        if self._prepend_bos and self._tokenizer.bos_token_id is None:
            raise CheckpointError(f"The tokenizer of {self._label} has no BOS token; leave `prepend_bos` out.")
        unknown = self._tokenizer.unk_token_id
        self._special = frozenset(self._tokenizer.all_special_ids) - {unknown}
        self._expect_one_way()

    @property
    def kind(self) -> str:
        """Return the library's class of it."""
        return type(self._tokenizer).__name__

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Return what becomes of a text, as plain values, for people to look at: special tokens are those around each
        text."""
        with quiet():
            around = self._tokenizer.convert_ids_to_tokens(list(self.encode("a").ids))
        return {"tokenizer": self.kind, "text 'a'": around, "max_positions": self.max_positions}

    @property
    def vocabulary(self) -> dict[str, int]:
        """Return id by token."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    @property
    def special_ids(self) -> list[int]:
        """Return ids that are no text's."""
        return sorted(self._tokenizer.all_special_ids)

    @property
    def mask_id(self) -> int | None:
        """Return the id that stands for a word to be found; None where there is none."""
        mask: int | None = self._tokenizer.mask_token_id
        return mask

    @property
    def has_bos(self) -> bool:
        """Return whether texts begin with a BOS token, by the catalog or by the tokenizer's own rule."""
        bos = self._tokenizer.bos_token_id
        return bos is not None and bos in self.encode("a").ids[:1]

    @property
    def doubts(self) -> list[str]:
        """Return why the tokenizer may be another model's, which nothing in the rows would show; empty where nothing
        says so.

        Embeddings may be a few more than there are tokens, for their number is rounded up (BLOOM, phi, GPT-NeoX).
        """
        n_tokens, size = len(self._tokenizer), getattr(self.config, "vocab_size", None)
        doubts = []
        if isinstance(size, int) and size - n_tokens > ROUNDED_UP and n_tokens < MOST_OF * size:
            doubts.append(f"the tokenizer knows {n_tokens:,} tokens, the model {size:,}: it may be another model's")
        for name in SPECIAL_IDS:
            theirs, own = getattr(self.config, name, None), getattr(self._tokenizer, name)
            ids = theirs if isinstance(theirs, list) else [theirs]
            if own is not None and None not in ids and own not in ids and max(ids) < n_tokens:
                doubts.append(f"the tokenizer's {name} is {own}, the model's {theirs}: it may be another model's")
        return [*doubts, *self._other_vocabularies()]

    def _other_vocabularies(self) -> list[str]:
        """Return vocabularies beside the one that is read, which it should be another writing of."""
        doubts, own = [], self.vocabulary  # made anew each time that it is asked for: as long as it is itself
        for file in (self._folder / name for name in ("vocab.json", "vocab.txt")) if self._folder is not None else ():
            beside = _vocabulary(file)
            other = sum(own.get(token, index) != index for token, index in beside.items())
            if other > DIFFERENT * len(beside):
                doubts.append(
                    f"{other:,} of {len(beside):,} tokens have other ids in {file.name} than in the tokenizer that is "
                    "read: one of them may be another model's"
                )
        return doubts

    def _expect_embeddings(self) -> None:
        """Refuse tokens that the model has no embeddings of: some were added later (Gemma 3's for images), and no text
        has these."""
        n_tokens, size = self._tokenizer.vocab_size, getattr(self.config, "vocab_size", None)
        if isinstance(size, int) and n_tokens > size:
            raise CheckpointError(
                f"The tokenizer of {self._label} ({type(self._tokenizer).__name__}) has {n_tokens:,} tokens, the model "
                f"({self.config.model_type}) {size:,} embeddings: they do not belong together."
            )

    def _expect_one_way(self) -> None:
        """Allow no text so long that the model reads it in another way, nor filling one up to that length."""
        other_way = one_way_up_to(self.config)
        if other_way is None or (self.max_positions is not None and self.max_positions <= other_way[0]):
            return
        limit, what = other_way
        any_text = self.encode("a")
        around = len(any_text.ids) - len(any_text.spans)
        if self._max_tokens is None or self._max_tokens + around > limit:
            raise CheckpointError(
                f"{self._label} ({self.config.model_type}, {what}) reads texts of more than {limit:,} ids in another "
                "way than shorter ones, by what stands beside them or was read before: their rows would depend on "
                f"other texts. Set `max_tokens: {limit - around}` or less."
            )
        self.max_positions = limit

    def encode(self, text: str) -> Tokenized:
        """Return ids and spans of a text.

        Raises:
            DatasetError: tokens that cannot be found in the text, or a text whose tokens are special ones.
            CheckpointError: ids that the model does not know, or the tokenizer fails.
        """
        import torch

        try:
            before, ids, after, spans = self._fast(text) if self._tokenizer.is_fast else self._slow(text)
        except SaeAssetsError:
            raise
        except BaseException as error:  # of a pattern that does not come to an end, too: the library counts its steps
            if not is_failure(error):
                raise
            raise CheckpointError(
                f"The tokenizer of {self._label} fails on the text {text[:60]!r} ({type(error).__name__}: "
                f"{str(error)[:300]}). Correct its tokenizer.json, or take that text out."
            ) from None
        if special := self._special & set(ids):
            names = ", ".join(map(repr, self._tokenizer.convert_ids_to_tokens(sorted(special))))
            raise DatasetError(
                f"The tokenizer of {self._label} makes the special token(s) {names} out of the text {text[:60]!r}; "
                "take that spelling out of the text."
            )
        size = getattr(self.config, "vocab_size", None)
        if size is not None and max(ids, default=0) >= size:
            raise CheckpointError(
                f"The tokenizer of {self._label} gives id {max(ids)}, but the model knows 0..{size - 1}: they "
                "do not belong together."
            )
        before = self._with_bos(before)
        keep = len(ids) if self._max_tokens is None else min(len(ids), self._max_tokens)
        if self.max_positions is not None:
            keep = min(keep, max(self.max_positions - len(before) - len(after), 0))
        offsets = torch.tensor(spans[:keep], dtype=torch.int64, device="cpu").view(-1, 2)
        return Tokenized((*before, *ids[:keep], *after), len(before), offsets, len(ids) - keep)

    def _with_bos(self, before: Sequence[int]) -> list[int]:
        bos = self._tokenizer.bos_token_id
        if self._prepend_bos is False:
            return [token for token in before if token != bos]
        return [bos, *before] if self._prepend_bos and bos not in before else [*before]

    def _fast(self, text: str) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
        batch = self._tokenizer(
            text, return_offsets_mapping=True, return_special_tokens_mask=True, split_special_tokens=True, verbose=False
        )
        ids, own = batch["input_ids"], [not special for special in batch["special_tokens_mask"]]
        first = own.index(True) if any(own) else len(ids)
        last = first + sum(own)
        if not all(own[first:last]):
            raise CheckpointError(f"The tokenizer of {self._label} puts special tokens inside of a text.")
        return ids[:first], ids[first:last], ids[last:], [tuple(span) for span in batch["offset_mapping"][first:last]]

    def _slow(self, text: str) -> tuple[list[int], list[int], list[int], list[tuple[int, int]]]:
        with quiet():  # costs more than a short text's tokens: every logger of the process is told
            tokens = self._tokenizer.tokenize(text, split_special_tokens=True) if text else []
        ids = self._tokenizer.convert_tokens_to_ids(tokens)
        whole = self._tokenizer.build_inputs_with_special_tokens(list(ids))
        places = range(len(whole) - len(ids) + 1)
        first = next((position for position in places if whole[position : position + len(ids)] == ids), None)
        if first is None:
            raise CheckpointError(f"The tokenizer of {self._label} puts special tokens inside of a text.")
        spans = align(text, tokens, self._tokenizer.unk_token)
        if spans is None:
            raise DatasetError(
                f"The tokenizer of {self._label} ({type(self._tokenizer).__name__}) gives no offsets, and its tokens "
                f"cannot be found in the text {text[:60]!r}. Use a tokenizer with tokenizer.json."
            )
        return whole[:first], ids, whole[first + len(ids) :], spans


def _vocabulary(file: Path) -> dict[str, int]:
    """Return id by token of a vocabulary's file; empty where there is none, or one in another form."""
    try:
        if file.suffix == ".txt":
            return {token: index for index, token in enumerate(file.read_text(encoding="utf-8").split("\n")) if token}
        content = plain_json.read(file)
    except (OSError, ValueError):
        return {}
    plain = isinstance(content, dict) and all(isinstance(index, int) for index in content.values())
    return content if plain else {}


def _spell_special_pieces_out(tokenizer: Any) -> None:
    """Make special tokens the last choice of a Unigram vocabulary, which else prefers them where a text spells one."""
    from tokenizers import models

    if type(tokenizer.backend_tokenizer.model).__name__ != "Unigram":
        return
    state = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = [(piece, score) for piece, score in state["vocab"]]
    last = min(score for _, score in vocabulary) - 1000
    special = set(tokenizer.all_special_ids) - {state["unk_id"]}
    scored = [(piece, last if index in special else score) for index, (piece, score) in enumerate(vocabulary)]
    tokenizer.backend_tokenizer.model = models.Unigram(scored, state["unk_id"], bool(state.get("byte_fallback")))


def _max_positions(config: Any, tokenizer: Any) -> int | None:
    """Return ids that model and tokenizer take at most; positions that are set aside for padding (RoBERTa) do not
    count."""
    import torch
    import transformers

    limit = getattr(config, "max_position_embeddings", None)
    if isinstance(limit, int) and limit > 0:
        try:
            # Made and not run, as the library itself does before it reads weights: what a forward pass on the meta
            # device leaves in caches would be read by later models.
            with quiet(), ops.process_state.plain_torch("meta"):
                try:
                    network = transformers.AutoModel.from_config(shortened(config, 1))
                except Exception:  # some cannot be made of one block (Longformer)
                    network = transformers.AutoModel.from_config(config)
        except Exception as error:  # a configuration that the library reads, but has no model for
            raise CheckpointError(
                f"No model can be made of the configuration of {config.model_type} ({type(error).__name__}: "
                f"{str(error)[:300]})."
            ) from error
        for name, module in network.named_modules():
            learned = isinstance(module, torch.nn.Embedding) and "position" in name
            if learned and module.num_embeddings == limit and module.padding_idx is not None:
                limit -= module.padding_idx + 1
    else:
        limit = None
    maximum = tokenizer.model_max_length
    if not isinstance(maximum, (int, float)) or not maximum >= 1:  # NaN is neither
        raise CheckpointError(f"The tokenizer takes {maximum!r} ids (`model_max_length`), expected 1 or more.")
    limits = [value for value in (limit, maximum) if isinstance(value, int) and value < UNLIMITED]
    return min(limits, default=None)
