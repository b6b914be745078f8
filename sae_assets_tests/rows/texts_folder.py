"""A reader of texts that are given, for tests of what comes behind reading."""

from collections.abc import Mapping, Sequence

from sae_assets.catalog import Dataset
from sae_assets.datasets.reader import Span, TextReader
from sae_assets.datasets.records import Record


class GivenTexts(TextReader):
    """Texts by id ``0``, ``1``, …; without spans unless some are given."""

    def __init__(self, texts: Sequence[str], spans: Mapping[str, Mapping[str, Sequence[Span]]] | None = None):
        entry = Dataset(root=".", layout="spans", modality="text", concepts=("joy",), models=("tiny",))
        super().__init__(entry.named("given"), [Record(str(i), f"{i}.txt", "cal", (True,)) for i in range(len(texts))])
        self._texts, self._spans, self.has_regions = texts, spans or {}, spans is not None

    def text(self, example_id: str) -> str:
        self.record(example_id)
        return self._texts[int(example_id)]

    def spans(self, example_id: str) -> Mapping[str, Sequence[Span]]:
        return self._spans.get(example_id, {})

    def content_hash(self, example_id: str) -> str:
        return self.text(example_id)

    def region_hashes(self, example_id: str) -> dict[str, str]:
        return {concept: str(places) for concept, places in self.spans(example_id).items()}
