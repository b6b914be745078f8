"""Texts through a language model: one row per token of the hidden state at the hook point, and one per text.

What a library's language model must offer is the protocols here; ``transformers`` does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Model
from sae_assets.catalog.registry import libraries
from sae_assets.datasets import TextReader
from sae_assets.rows.blank import is_empty
from sae_assets.rows.loaded import keep_transformer, model_settings, weight_bytes
from sae_assets.rows.source import ExampleRows, RowSource
from sae_assets.rows.steady import steady

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader


ANY_TEXT = "this is a text of 13 words and signs, such as it is: no more"  # what models are tried with


@dataclass(frozen=True)
class Tokenized:
    """A text as the model reads it.

    Attributes:
        ids: all ids, special ones among them; first: index of the first token of the text among them.
        spans: int64 [n_tokens, 2], characters [start, end) of the text's own tokens.
        n_cut: tokens of the text that were cut off.
    """

    ids: tuple[int, ...]
    first: int
    spans: "Tensor"
    n_cut: int

    @property
    def rows(self) -> slice:
        """Where the text's own tokens stand among the ids."""
        return slice(self.first, self.first + len(self.spans))


class Tokenizer(Protocol):
    """Tells the tokens of a text, without the model's weights."""

    def encode(self, text: str) -> Tokenized:
        """The tokens of a text, as the model reads them."""
        ...


class Language(Protocol):
    """A loaded language model, cut after the hook point."""

    @property
    def tokens(self) -> Tokenizer: ...

    @property
    def d_model(self) -> int: ...

    def embed(self, texts: Sequence[Tokenized]) -> "Iterable[Tensor]":
        """Rows of each text's own tokens, float32 [n_tokens, d_model] on the device; every text has at least one."""
        ...


class TextRows:
    """Rows of texts: ``token`` is one row per token of the text's own, ``cls`` the last or the mean of them.

    Where ``cls`` is pooled from codes, token rows are given for it.

    Args:
        reader: texts by example id; model: catalog entry; kinds: ``token`` and/or ``cls``; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16).

    Raises:
        CheckpointError: files that cannot be had or do not fit, a hook point that does not exist, or rows that differ
            from call to call.
    """

    def __init__(self, reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str):
        assert isinstance(reader, TextReader) and model.transformer is not None
        self._reader, self._device, self.origin = reader, device, model.hook_point
        self._cls = model.cls_of_texts
        self._kinds = tuple(dict.fromkeys("token" if self._cls == "pooled" else kind for kind in kinds))
        open_language = libraries()[model.transformer.library].language
        assert open_language is not None  # the catalog has seen to it
        transformer = model.transformer

        def opened() -> Language:
            return steady(
                lambda: open_language(model, device, precision), _rows_of_text, lambda: weight_bytes(transformer),
                model.hook_point,
            )  # fmt: skip

        self._language: Language = keep_transformer(
            "text", transformer, model_settings(model, precision), opened, device
        )
        self.d_model = self._language.d_model

    def rows_per_example(self, kind: str) -> int | None:
        return 1 if kind == "cls" else None

    def embed(self, example_ids: Sequence[str]) -> list[ExampleRows]:
        """Rows of these texts; they go through the model together."""
        contents = [self._reader.text(example) for example in example_ids]
        texts = [self._language.tokens.encode(content) for content in contents]
        spoken = [text for text in texts if len(text.spans)]
        rows = iter(self._language.embed(spoken)) if spoken else iter(())
        return [
            self._kept(text, next(rows) if len(text.spans) else None, is_empty(content))
            for text, content in zip(texts, contents, strict=True)
        ]

    def _kept(self, text: Tokenized, rows: "Tensor | None", blank: bool) -> ExampleRows:
        import torch

        if rows is None:  # nothing to average: a row that stands for nothing
            zeros = torch.zeros(1, self.d_model, dtype=torch.float32, device=self._device)
            empty = {"token": zeros[:0], "cls": zeros}
            silent = frozenset({"cls"} & set(self._kinds))
            return ExampleRows({kind: empty[kind] for kind in self._kinds}, text.n_cut, silent, blank)
        by_kind = {
            "token": rows,
            "cls": rows[-1:] if self._cls == "last" else rows.double().mean(0, keepdim=True).float(),
        }
        return ExampleRows({kind: by_kind[kind] for kind in self._kinds}, text.n_cut, blank=blank)


def _rows_of_text(language: Language) -> "Tensor":
    """Rows of one text, the same at each call."""
    (rows,) = language.embed([language.tokens.encode(ANY_TEXT)])
    return rows


def open_text_rows(reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str) -> RowSource:
    """The source of a text model.

    Raises:
        CheckpointError: as :class:`TextRows`.
    """
    return TextRows(reader, model, kinds, device, precision)


def open_tokens(model: Model) -> Tokenizer:
    """The tokenizer of a text model, without the model's weights.

    Raises:
        CheckpointError: files that cannot be read.
    """
    assert model.transformer is not None
    open_tokenizer = libraries()[model.transformer.library].tokens
    assert open_tokenizer is not None  # the catalog has seen to it
    tokens: Tokenizer = keep_transformer(
        "tokens", model.transformer, model_settings(model), lambda: open_tokenizer(model)
    )
    return tokens
