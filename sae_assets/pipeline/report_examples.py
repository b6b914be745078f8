"""Examples as a report shows them: pictures with patches and texts with tokens marked, as long as there is room."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sae_assets import ops
from sae_assets.artifacts.localization import METHODS
from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import SaeAssetsError
from sae_assets.pages.figures import figure
from sae_assets.pages.pictures import image_element, marked_tokens, overlaid
from sae_assets.pages.report import Shown
from sae_assets.pipeline.scoring import pooling_of
from sae_assets.pipeline.stage import Pass
from sae_assets.wording import without_places

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.artifacts import SparseRows
    from sae_assets.datasets import Reader

SMALL, LARGE = 104, 240  # pixels of a picture at most, in the table and in the sections: twice what is seen, and once
MANY = 24  # concepts; of more, pictures are smaller, so that all of them take as much as these
MOST_BYTES = 8_000_000  # of pictures in a page; what would exceed it is left out
PAGE_BYTES = 10_000_000  # of a page at most
FRAME_BYTES, CONCEPT_BYTES = 400_000, 32_000  # of a page without concepts, and of what it says of one beside pictures


@dataclass(frozen=True)
class Wanted:
    """An example that a concept shows: kind, place among those, and its score."""

    concept: int
    kind: str
    index: int
    score: float


def show_examples(
    work: Pass, choices: "Mapping[int, list[Wanted]]", units: Sequence[int | None]
) -> "dict[tuple[int, str, int], Shown]":
    """Return the examples that are wanted, by concept, kind and place; chunks without any are not read.

    Args:
        choices: by number of a test example; units: of each concept, original ids.
    """
    best, localization = work.artifact("best_pairs"), work.artifact("localization")
    examples, labels = work.inputs["examples"], work.inputs["labels"]
    drawing = _Drawing(work)
    by_slot: dict[tuple[int, str, int], Shown] = {}
    number = 0
    for key in labels:
        of_test = labels[key].artifact.in_split("test").nonzero().flatten().tolist()
        mine = {of_test[n - number]: choices[n] for n in range(number, number + len(of_test)) if n in choices}
        number += len(of_test)
        if not mine:
            continue
        sparse = work.inputs["sparse_activations"][key].artifact
        truth, places = work.inputs["ground_truth"][key].artifact, work.inputs["row_locations"][key].artifact
        shows_marks = any(choice.kind == "regular" for of_example in mine.values() for choice in of_example)
        marks = (
            ops.row_marks.mark_rows(sparse, localization, pooling_of(work.target, work.options))  # type: ignore[arg-type]
            if shows_marks
            else None
        )
        names = examples[key].artifact.example_ids
        for example, of_example in mine.items():
            rows = slice(*sparse.example_offsets[example : example + 2].tolist())
            seen = _Seen(names[example], rows, _boxes(places, example), _spans(places, rows), sparse, truth)
            for choice in of_example:
                unit = units[choice.concept]
                assert unit is not None
                pair = None
                if choice.kind == "regular" and marks is not None:
                    pair = [marks[METHODS.index(way), choice.concept, rows].numpy() for way in ("regular", "two_stage")]
                threshold = float(best.thresholds[choice.concept])
                shown = drawing.shown(seen, best.concepts[choice.concept], choice, unit, threshold, pair)
                by_slot[choice.concept, choice.kind, choice.index] = shown
    return by_slot


@dataclass(frozen=True)
class _Seen:
    """An example with its rows: edges of patches or characters of tokens, where something says where they are."""

    name: str
    rows: slice
    boxes: "dict[str, np.ndarray] | None"
    spans: "list[tuple[int, int]] | None"
    sparse: "SparseRows"
    truth: Any

    def values(self, unit: int) -> "np.ndarray":
        """Return float32 [n_rows]: the unit's value on every row of the example."""
        import numpy as np

        first, last = self.sparse.row_offsets[[self.rows.start, self.rows.stop]].tolist()
        mine = np.flatnonzero(self.sparse.unit_ids[first:last].numpy() == unit)
        offsets = self.sparse.row_offsets[self.rows.start : self.rows.stop + 1].numpy() - first
        values = np.zeros(self.rows.stop - self.rows.start, np.float32)
        values[np.searchsorted(offsets, mine, side="right") - 1] = self.sparse.values[first:last].numpy()[mine]
        return values

    def true_rows(self, concept: str) -> "np.ndarray":
        """Return bool [n_rows]: which rows are the concept's."""
        import numpy as np

        number = self.truth.concepts.index(concept)
        first, last = self.truth.row_offsets[[self.rows.start, self.rows.stop]].tolist()
        mine = np.flatnonzero(self.truth.concept_ids[first:last].numpy() == number)
        offsets = self.truth.row_offsets[self.rows.start : self.rows.stop + 1].numpy() - first
        rows = np.zeros(self.rows.stop - self.rows.start, bool)
        rows[np.searchsorted(offsets, mine, side="right") - 1] = True
        return rows


def _boxes(places: Any, example: int) -> "dict[str, np.ndarray] | None":
    if places.transforms is None:
        return None
    boxes = places.boxes(example).numpy()
    return {name: boxes[:, column] for column, name in enumerate(("left", "top", "right", "bottom"))}


def _spans(places: Any, rows: slice) -> list[tuple[int, int]] | None:
    return None if places.spans is None else [(start, end) for start, end in places.spans[rows].tolist()]


def room_for_pictures(n_concepts: int) -> int:
    """Return bytes of pictures beside which a page of so many concepts stays below ``PAGE_BYTES``."""
    return max(0, min(MOST_BYTES, PAGE_BYTES - FRAME_BYTES - CONCEPT_BYTES * n_concepts))


class _Drawing:
    """Examples as pictures or texts, as long as there is room for them."""

    def __init__(self, work: Pass):
        self._by_rows, n_concepts = work.target.token_kind != "cls", len(work.target.dataset.concepts)
        self._room = room_for_pictures(n_concepts)
        share = min(1.0, math.sqrt(MANY / n_concepts))
        self._small, self._large = max(64, round(SMALL * share)), max(128, round(LARGE * share))
        self._root = work.target.dataset.root
        self._reader: Reader | None = None
        try:
            self._reader = work.sources.reader(work.target.dataset)
        except SaeAssetsError as error:  # it is not on this machine: figures are shown all the same
            work.log(f"examples are not shown: {error}")

        # One example is shown for several concepts and kinds, one after another.
        self._image = lru_cache(maxsize=1)(lambda reader, name: reader.image(name))
        self._masks = lru_cache(maxsize=1)(lambda reader, name: reader.masks(name))

    def shown(
        self,
        seen: _Seen,
        concept: str,
        choice: Wanted,
        unit: int,
        threshold: float,
        pair: "Sequence[np.ndarray] | None",
    ) -> Shown:
        """Return an example as it is shown for a concept."""
        caption = f"{seen.name}, {figure(choice.score)}"
        try:
            if isinstance(self._reader, ImageReader):
                elements = list(self._pictures(self._reader, seen, concept, choice, unit, threshold, pair))
            elif isinstance(self._reader, TextReader):
                elements = list(self._texts(self._reader, seen, concept, choice, unit, threshold, pair))
            else:
                return Shown(Markup(""), f"{caption} (the data set is not on this machine)")
        except (SaeAssetsError, OSError) as error:
            return Shown(Markup(""), f"{caption}. It cannot be shown: {without_places(error, self._root)}")
        if sum(map(len, elements)) > self._room:
            return Shown(Markup(""), f"{caption} (left out: the page would be too large)")
        self._room -= sum(map(len, elements))
        return Shown(elements[0], caption, elements[1] if len(elements) > 1 else None)

    def _pictures(
        self, reader: ImageReader, seen: _Seen, concept: str, choice: Wanted, unit: int, threshold: float, pair: Any
    ) -> Iterator[Markup]:
        import numpy as np

        image, small = self._image(reader, seen.name), choice.kind == "top"
        words = f"{seen.name}, score {figure(choice.score)} of unit {unit}"
        if not self._by_rows or seen.boxes is None:
            yield image_element(overlaid(image, self._small if small else self._large), words)
            return
        truth = None
        if not small and reader.has_regions and concept in reader.true_concepts(seen.name):
            mask = self._masks(reader, seen.name).get(concept)
            truth = None if mask is None else np.asarray(mask) > 0
        if pair is None:
            values = seen.values(unit)
            words = f"{words}, above {figure(threshold)} on {int((values >= threshold).sum())} patches"
            size = self._small if small else self._large
            yield image_element(overlaid(image, size, seen.boxes, values, threshold, truth), words)
            return
        for way, marked in zip(("by the unit", "by resemblance"), pair, strict=True):
            picture = overlaid(image, self._large * 2 // 3, seen.boxes, marked.astype(np.float32), 1.0, truth)
            yield image_element(picture, f"{seen.name}, {int(marked.sum())} patches marked {way}")

    def _texts(
        self, reader: TextReader, seen: _Seen, concept: str, choice: Wanted, unit: int, threshold: float, pair: Any
    ) -> Iterator[Markup]:
        text = reader.text(seen.name)
        if not self._by_rows or seen.spans is None:
            yield Markup('<bdi class="text">{}</bdi>').format(text[:400] + ("…" if len(text) > 400 else ""))
            return
        located = reader.has_regions and concept in reader.true_concepts(seen.name)  # else all of the text inherits it
        truth = seen.true_rows(concept) if located else None
        if pair is None:
            around = 8 if choice.kind == "top" else 20
            yield marked_tokens(text, seen.spans, seen.values(unit), threshold, truth, around)
            return
        peak = int(seen.values(unit).argmax())  # both show the same part of the text
        for marked in pair:
            yield marked_tokens(text, seen.spans, marked.astype(float), 1.0, truth, peak=peak)
