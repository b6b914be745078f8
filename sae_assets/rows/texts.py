"""Texts through a language model: one row per token of the hidden state at the hook point, and their mean.

Encoders and causal models alike, without heads. Which tokens a text has is ``tokens``' business, where the hidden state
is read ``transformers_place``'s.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.errors import CatalogError
from sae_assets.rows.source import ExampleRows, RowSource, precomputed_kinds

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.datasets import Reader
    from sae_assets.rows.transformers.tokens import Tokenized, Tokens


class TextRows:
    """Rows of texts: ``token`` is one row per token of the text's own, ``cls`` the mean of them.

    Args:
        reader: texts by example id; model: catalog entry; kinds: ``token`` and/or ``cls``; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16).

    Raises:
        CheckpointError: files that cannot be had or do not fit, or a place that does not exist.
    """

    def __init__(self, reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str):
        import torch

        from sae_assets.datasets import TextReader
        from sae_assets.rows.loaded import keep_transformer, model_settings
        from sae_assets.rows.transformers.hook_point import CutModel

        assert isinstance(reader, TextReader) and model.transformer is not None
        self._reader, self._kinds, self._device = reader, tuple(kinds), device
        self._tokens = tokens = _tokens(model)
        self._network = keep_transformer(
            "text", model.transformer, model_settings(model, precision),
            lambda: CutModel(model, tokens.config, device, precision), device,
        )  # fmt: skip
        self.place = model.place
        ids = torch.tensor([[self._tokens.pad_id]])
        self.d_model = self._network.check(input_ids=ids, attention_mask=torch.ones_like(ids)).shape[2]

    def rows_per_example(self, kind: str) -> int | None:
        return 1 if kind == "cls" else None

    def embed(self, example_ids: Sequence[str]) -> list[ExampleRows]:
        """Rows of these texts; they go through the model together, padded on the right."""
        texts = [self._tokens.encode(self._reader.text(example)) for example in example_ids]
        rows = self._hidden([text for text in texts if len(text.spans)])
        return [self._kept(text, next(rows) if len(text.spans) else None) for text in texts]

    def _hidden(self, texts: "Sequence[Tokenized]") -> "Iterator[Tensor]":
        """Rows of each text's own tokens, in order."""
        import torch

        if not texts:
            return
        length = max(len(text.ids) for text in texts)
        ids = torch.full((len(texts), length), self._tokens.pad_id)
        mask = torch.zeros_like(ids)
        for place, text in enumerate(texts):
            ids[place, : len(text.ids)] = torch.tensor(text.ids)
            mask[place, : len(text.ids)] = 1
        hidden = self._network.rows(input_ids=ids, attention_mask=mask)
        for place, text in enumerate(texts):
            yield hidden[place, text.rows]

    def _kept(self, text: "Tokenized", rows: "Tensor | None") -> ExampleRows:
        import torch

        if rows is None:  # nothing to average: a row that stands for nothing
            empty = {"token": torch.zeros(0, self.d_model), "cls": torch.zeros(1, self.d_model)}
            silent = frozenset({"cls"} & set(self._kinds))
            return ExampleRows({kind: empty[kind].to(self._device) for kind in self._kinds}, text.n_cut, silent)
        found = {"token": rows, "cls": rows.double().mean(0, keepdim=True).float()}
        return ExampleRows({kind: found[kind] for kind in self._kinds}, text.n_cut)


def open_text_rows(reader: "Reader", model: Model, kinds: Sequence[str], device: Any, precision: str) -> RowSource:
    """The source of a text model.

    Raises:
        CheckpointError: as :class:`TextRows`.
    """
    return TextRows(reader, model, kinds, device, precision)


def token_spans(reader: "Reader", dataset: Dataset, model: Model) -> "Callable[[str], Tensor]":
    """Characters [start, end) of an example's token rows, int64 [n_tokens, 2]; weights are not read.

    Raises:
        CatalogError: neither a tokenizer nor the precomputed embeddings say where tokens stand.
        CheckpointError: tokenizer files that cannot be read; DatasetError: embedding files that do not fit.
    """
    if "token" in precomputed_kinds(dataset, model):
        from sae_assets.rows.precomputed.rows import PrecomputedRows

        source = PrecomputedRows(reader, dataset.embeddings[model.name], ("token",), "cpu", model)
        return source.spans
    if model.transformer is None:
        raise CatalogError(
            f"Model {model.name!r} has no transformer and data set {reader.name!r} names no embeddings for `token` "
            f"(`embeddings.{model.name}`): nothing says what its tokens are."
        )
    from sae_assets.datasets import TextReader

    assert isinstance(reader, TextReader)
    tokens = _tokens(model)
    return lambda example: tokens.encode(reader.text(example)).spans


def _tokens(model: Model) -> "Tokens":
    from sae_assets.rows.loaded import keep_transformer, model_settings
    from sae_assets.rows.transformers.tokens import Tokens

    assert model.transformer is not None
    return keep_transformer("tokens", model.transformer, model_settings(model), lambda: Tokens(model))
