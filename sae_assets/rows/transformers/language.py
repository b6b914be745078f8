"""Language models of ``transformers``: the hidden state of texts at the hook point (protocol ``Language``).

Encoders and causal models alike, without heads. Which tokens a text has is ``tokens``' business, where the hidden state
is read ``hook_point``'s.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Model
from sae_assets.rows.texts import Tokenized
from sae_assets.rows.transformers.belonging import doubts_of_spelling
from sae_assets.rows.transformers.hook_point import CutModel
from sae_assets.rows.transformers.lengths import has_experts
from sae_assets.rows.transformers.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor


class TransformersLanguage:
    """A loaded language model, cut at the hook point.

    Args:
        model: catalog entry; device: torch device.
        precision: of weights and forward pass (float32, bfloat16, float16); rows come out as float32 in any case.

    Raises:
        CheckpointError: files that cannot be had or do not fit, or a hook point that does not exist.
    """

    def __init__(self, model: Model, device: Any = "cpu", precision: str = "float32"):
        import torch

        self.tokens = Tokens(model)
        self._network = CutModel(model, self.tokens.config, device, precision)
        ids = torch.tensor([[self.tokens.pad_id]], dtype=torch.int64, device="cpu")
        self.d_model = self._network.check(input_ids=ids, attention_mask=torch.ones_like(ids)).shape[2]
        self.final_norm, self.network = self._network.final_norm, self._network.network
        self.one_by_one = has_experts(self.tokens.config)
        embeddings = self.network.get_input_embeddings()
        self.doubts = doubts_of_spelling(self.tokens.vocabulary, embeddings.weight) if embeddings is not None else []

    def embed(
        self, texts: "Sequence[Tokenized]", length: int | None = None, *, refilled: bool = False
    ) -> "Iterator[Tensor]":
        """Return rows of each text's own tokens, in order; texts go through the model together, padded on the right."""
        import torch

        length = length or max(len(text.ids) for text in texts)
        filling = int(self.tokens.pad_id == 0) if refilled else self.tokens.pad_id
        ids = torch.full((len(texts), length), filling, dtype=torch.int64, device="cpu")
        mask = torch.zeros_like(ids)
        for index, text in enumerate(texts):
            ids[index, : len(text.ids)] = torch.tensor(text.ids, dtype=torch.int64, device="cpu")
            mask[index, : len(text.ids)] = 1
        hidden = self._network.rows(input_ids=ids, attention_mask=mask)
        for index, text in enumerate(texts):
            yield hidden[index, text.rows]
