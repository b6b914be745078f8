"""Texts through a language model: one row per token of the hidden state at the hook point, and one per text.

What a library's language model must offer is the protocols here; ``transformers`` does.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sae_assets.catalog import Model
from sae_assets.catalog.registry import libraries
from sae_assets.datasets import TextReader
from sae_assets.errors import DatasetError
from sae_assets.rows.alternatives import EXAMPLES
from sae_assets.rows.blank import is_empty
from sae_assets.rows.loaded import keep_transformer, model_settings, weight_bytes
from sae_assets.rows.passes import POSITIONS, FixedShapes, ForwardPass, in_groups, padded, positions_at_once, together
from sae_assets.rows.source import ExampleRows, Normalisation, RowSource
from sae_assets.rows.steady import steady

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader


PASSES_OF_A_WINDOW = 16  # whose rows are held, four per thread at least; their texts are sorted by length
ANY_TEXT = "this is a text of 13 words and signs, such as it is: no more"  # what models are tried with
AROUND = 16  # special ids and signs that tokenizers put around a text: fewer


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
        """Return where the text's own tokens stand among the ids."""
        return slice(self.first, self.first + len(self.spans))


class Tokenizer(Protocol):
    """Tells the tokens of a text, without the model's weights."""

    @property
    def max_positions(self) -> int | None:
        """Return ids that the model takes; None: any number."""
        ...

    @property
    def has_bos(self) -> bool:
        """Return whether texts begin with a BOS token, as the catalog and the tokenizer have it."""
        ...

    @property
    def doubts(self) -> Sequence[str]:
        """Return why it may be another model's; empty where nothing says so."""
        ...

    def encode(self, text: str) -> Tokenized:
        """Return the tokens of a text, as the model reads them."""
        ...


class Language(Protocol):
    """A loaded language model, cut after the hook point."""

    @property
    def tokens(self) -> Tokenizer: ...

    @property
    def d_model(self) -> int: ...

    def embed(
        self, texts: Sequence[Tokenized], length: int | None = None, *, refilled: bool = False
    ) -> "Iterable[Tensor]":
        """Return rows of each text's own tokens, float32 [n_tokens, d_model] on the device; every text has at least
        one.

        Args:
            length: ids that texts are filled up to; None: as many as the longest has.
            refilled: whether they are filled up with another id than usual, of which the model takes no notice.

        On a CPU several threads ask at once.
        """
        ...


class TextRows:
    """Rows of texts: ``token`` is one row per token of the text's own, ``cls`` the last or the mean of them.

    Where ``cls`` is pooled from codes, token rows are given for it.

    Args:
        reader: texts by example id; model: catalog entry; kinds: ``token`` and/or ``cls``; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16).
        forward_batch: texts of one pass; None: as many as the device takes.

    Raises:
        CheckpointError: files that cannot be had or do not fit, a hook point that does not exist, or rows that differ
            from call to call.
    """

    def __init__(
        self, reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str,
        forward_batch: int | None = 1,
    ):  # fmt: skip
        assert isinstance(reader, TextReader) and model.transformer is not None
        self._reader, self._device, self.origin = reader, device, model.hook_point
        self._cls, self._forward_batch = model.cls_of_texts, forward_batch
        self._kinds = tuple(dict.fromkeys("token" if self._cls == "pooled" else kind for kind in kinds))
        open_language = libraries()[model.transformer.library].language
        assert open_language is not None  # the catalog has seen to it
        transformer = model.transformer

        def opened() -> _Opened:
            language: Language = steady(
                lambda: open_language(model, device, precision), _rows_of_text, lambda: weight_bytes(transformer),
                model.hook_point,
            )  # fmt: skip

            def forward(texts: Sequence[Tokenized], length: int | None) -> "list[Tensor]":
                return [*language.embed(texts, length)]

            def refilled(texts: Sequence[Tokenized], length: int) -> "list[Tensor]":
                return [*language.embed(texts, length, refilled=True)]

            alone = getattr(language, "one_by_one", False)
            shapes = FixedShapes(
                forward, _one_token, precision, refilled, device=device, alone=alone, length_of=_ids_of
            )
            return _Opened(language, shapes)

        loaded: _Opened = keep_transformer("text", transformer, model_settings(model, precision), opened, device)
        self._language, self._shapes = loaded.language, loaded.shapes
        self.d_model, self.final_norm = self._language.d_model, getattr(self._language, "final_norm", "")
        self.network = getattr(self._language, "network", None)
        self.normalisation: Normalisation | None = None
        self.doubts: Sequence[str] = getattr(self._language, "doubts", ())
        self.longest: int | None = 0

    @property
    def one_by_one(self) -> bool:
        return self._shapes.one_by_one

    def rows_per_example(self, kind: str) -> int | None:
        return 1 if kind == "cls" else None

    def embed(self, example_ids: Sequence[str]) -> Iterator[ExampleRows]:
        """Yield rows of these texts; those of one length go through the model together, a window of texts at a time."""
        for window in self._windows(example_ids):
            indices_of_pass: list[list[int]] = []
            passes: list[ForwardPass[Tokenized]] = []
            by_length: dict[int, list[int]] = {}
            for index, (text, _) in enumerate(window):
                if len(text.spans):
                    length = padded(len(text.ids), self._language.tokens.max_positions)
                    by_length.setdefault(length, []).append(index)
            for length, indices in by_length.items():
                size = together(self._forward_batch, length, self._device)
                for group in in_groups(indices, size):
                    indices_of_pass.append(group)
                    passes.append(ForwardPass([window[index][0] for index in group], size, length))
            rows: dict[int, Tensor] = {}
            for group, rows_of_pass in zip(indices_of_pass, self._shapes.rows(passes), strict=True):
                rows |= zip(group, rows_of_pass, strict=True)
            for index, (text, blank) in enumerate(window):
                yield self._kept(text, rows.pop(index, None), blank)

    def _windows(self, example_ids: Sequence[str]) -> Iterator[list[tuple[Tokenized, bool]]]:
        """Texts and whether they are empty, as many at a time as fill passes of several lengths."""
        window: list[tuple[Tokenized, bool]] = []
        n_passes = max(PASSES_OF_A_WINDOW, 4 * self._shapes.n_beside(1, 1))
        n_ids, full = 0, n_passes * positions_at_once(self._device)
        for example in example_ids:
            content = self._reader.text(example)
            window.append((self._language.tokens.encode(content), is_empty(content)))
            n_ids += len(window[-1][0].ids)
            self.longest = max(self.longest or 0, len(window[-1][0].ids))
            if n_ids >= full:
                yield window
                window, n_ids = [], 0
        if window:
            yield window

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


@dataclass(frozen=True)
class _Opened:
    """A loaded language model, and what was found of its passes."""

    language: Language
    shapes: "FixedShapes[Tokenized]"


def _one_token(text: Tokenized) -> Tokenized:
    """Return the first token of a text, which fills a pass up."""
    return Tokenized(text.ids[:1], 0, text.spans[:1], 0)


def _ids_of(text: Tokenized) -> int:
    return len(text.ids)


def _rows_of_text(language: Language) -> "Tensor":
    """Return rows of a short and of a long text, the same at each call: some models draw at random for long ones
    alone."""
    import torch

    tokens = language.tokens
    short = tokens.encode(ANY_TEXT)
    times = max(POSITIONS // max(len(short.spans), 1), 1)
    return torch.cat([rows for text in (short, tokens.encode(" ".join([ANY_TEXT] * times)))
                      for rows in language.embed([text])])  # fmt: skip


def open_text_rows(
    reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str, forward_batch: int | None = 1
) -> RowSource:
    """Return the source of a text model.

    Raises:
        CheckpointError: as :class:`TextRows`.
    """
    return TextRows(reader, model, kinds, device, precision, forward_batch)


def open_tokens(model: Model) -> Tokenizer:
    """Return the tokenizer of a text model, without the model's weights.

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


def lengths_beyond(reader: TextReader, example_ids: Iterable[str], model: Model, limit: int) -> Iterator[int]:
    """Yield ids of each of these texts that is longer than the limit, as the model reads it; weights are not read.

    Raises:
        CheckpointError: tokenizer files that cannot be read; DatasetError: a text that cannot.
    """
    tokens = open_tokens(model)
    for example in example_ids:
        text = reader.text(example)
        if text.isascii() and len(text) + AROUND <= limit:
            continue  # no token is less than a character
        if (length := len(tokens.encode(text).ids)) > limit:
            yield length


def doubt_of_texts(reader: TextReader, example_ids: Iterable[str], model: Model, most_bytes: int) -> str:
    """Return what the model's library says of the first of these texts that can be read and have anything in them.

    Args:
        most_bytes: of weights, all of which are read; of a larger model nothing is said.
    """
    assert model.transformer is not None
    judge, texts = libraries()[model.transformer.library].doubt_of_texts, list[str]()
    if judge is None or weight_bytes(model.transformer) > most_bytes:
        return ""
    for example in example_ids:
        with suppress(DatasetError, OSError):
            texts.append(reader.text(example))
        if len(texts) == EXAMPLES:
            break
    return judge(model, texts)
