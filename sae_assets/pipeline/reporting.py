"""What a report is made of: tables of a model's stages, and examples of each concept with the rows of its unit.

All chunks are gone through once for the scores of examples, and once more for the rows of those that are shown.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sae_assets import ops, storage
from sae_assets.artifacts.localization import METHODS
from sae_assets.datasets import ImageReader, TextReader
from sae_assets.errors import SaeAssetsError
from sae_assets.pages.figures import StageTable, Tables, figure
from sae_assets.pages.pictures import image_element, marked_tokens, overlaid
from sae_assets.pages.report import Concept, Content, Shown
from sae_assets.pipeline.scoring import pooling_of, score_examples
from sae_assets.pipeline.stage import Pass
from sae_assets.rows.source import is_pooled
from sae_assets.saes import locate_sae, named_l0
from sae_assets.storage.address import Address
from sae_assets.storage.store import ChunkReader

if TYPE_CHECKING:
    import numpy as np

    from sae_assets.artifacts import SparseRows
    from sae_assets.datasets import Reader

TABLES = (
    "unit_stats", "unit_mapping", "pruning_audit", "row_alignment", "chosen_pairs", "best_pairs", "coalitions",
    "localization", "controls",
)  # fmt: skip
SECTIONS = {
    "sparse_activations": "Encode",
    "ground_truth": "Ground truth",
    "unit_stats": "Unit statistics",
    "unit_mapping": "Unit mapping",
    "pruning_audit": "Pruning audit",
    "row_alignment": "Row alignment",
    "chosen_pairs": "Chosen pairs",
    "best_pairs": "Best pairs",
    "coalitions": "Coalitions",
    "localization": "Localisation",
    "controls": "Controls",
}
KINDS = ("top", "hits", "false_positives", "misses", "regular")
N_TOP, N_SHOWN, N_LOCATED = 5, 4, 2  # examples in the table of concepts, of each kind, and with both ways of marking
BEST_UNITS = 5  # of each concept that the table of rows keeps
SMALL, LARGE = 104, 240  # pixels of a picture at most, in the table and in the sections: twice what is seen, and once
MANY = 24  # concepts; of more, pictures are smaller, so that all of them take as much as these
MOST_BYTES = 8_000_000  # of pictures in a page; what would exceed it is left out
CURVE_POINTS = 160


@dataclass(frozen=True)
class _Wanted:
    """An example that a concept shows: kind, place among those, and its score."""

    concept: int
    kind: str
    place: int
    score: float


def gather(run: Pass) -> Content:
    """Everything that the report of a pass shows.

    Raises:
        MismatchError: labels of other concepts than the pairs are of.
    """
    best = run.artifact("best_pairs")
    tables = _tables(run)
    scores, _ = score_examples(run, best.concepts)
    wanted, concepts = _choose(run, scores, _units_of(best))
    examples: dict[int, dict[str, list[Shown]]] = defaultdict(lambda: defaultdict(list))
    for (number, kind, _), shown in sorted(_shown(run, wanted).items(), key=lambda item: item[0][2]):
        examples[number][kind].append(shown)
    concepts = [
        replace(concept, examples={kind: examples[concept.number][kind] for kind in KINDS}) for concept in concepts
    ]
    stats, places = tables["unit_stats"].lines, run.inputs["row_locations"]
    rows = {key: places[key].artifact.n_rows for key in places}
    reasons = tables["unit_mapping"].table["reason"].to_pylist()
    units = [
        {"unit_id": line["unit_id"], "density": line["density"], "p99": line["p99"], "reason": reason}
        for line, reason in zip(stats, reasons, strict=True)
    ]
    return Content(
        dataset=run.target.address.dataset,
        token_kind=run.target.token_kind,
        model=run.target.address.model or "",
        modality=run.target.dataset.modality,
        about=about(run.target),
        tables=tables,
        concepts=concepts,
        n_examples=_n_examples(run),
        sizes=_sizes(run, rows),
        fit=_fit(run, rows),
        units=units,
        provenance=_provenance(run),
        settings=_settings(run, tables),
        commands=_commands(run),
    )


def about(target: Any) -> dict[str, str]:
    """What the data set, the model and the SAE are, as the catalog says; of paths the last part, wherever they lie."""
    entry, model = target.dataset, target.model
    hook_point, transformer = model.hook_point, model.transformer
    if transformer is not None and transformer.path is not None:
        hook_point = hook_point.removesuffix(transformer.label) + transformer.path.name
    facts = {
        "data set": entry.description.rstrip("."),
        "hook point": hook_point,
        "SAE": f"SAE of format {model.sae.format}",
    }
    return {name: text for name, text in facts.items() if text}


def _units_of(best: Any) -> list[int | None]:
    return [unit if unit >= 0 else None for unit in best.unit_ids.tolist()]


def _tables(run: Pass) -> Tables:
    """The stages' tables; of rows only the lines of units that some concept may show."""
    tables = {}
    for name in TABLES:
        if name in run.inputs:
            table, scalars = storage.parquet.to_table(run.artifact(name))
            tables[name] = StageTable(name, table, scalars)
    rows, units = tables["row_alignment"], set(_units_of(run.artifact("best_pairs"))) - {None}
    alignment = run.artifact("row_alignment")
    for first in alignment.best.tolist():
        if first >= 0:
            mine = alignment.concept_ids[first : first + BEST_UNITS] == alignment.concept_ids[first]
            units |= set(alignment.unit_ids[first : first + BEST_UNITS][mine].tolist())
    if "coalitions" in run.inputs:
        units |= set(run.artifact("coalitions").unit_ids.tolist())
    tables["row_alignment"] = rows.only(unit_id=sorted(units))
    return Tables(tables)


def _choose(
    run: Pass, scores: Mapping[str, Any], units: Sequence[int | None]
) -> "tuple[dict[int, list[_Wanted]], list[Concept]]":
    """By number of a test example what it is shown for; and the concepts with their curves."""
    best, alignment = run.artifact("best_pairs"), run.artifact("row_alignment")
    by_rows = run.target.token_kind != "cls"
    judged = alignment.judged.tolist()
    wanted: dict[int, list[_Wanted]] = defaultdict(list)
    concepts = []
    for number, name in enumerate(best.concepts):
        unit, curves = units[number], {}
        if unit is not None:
            threshold = float(best.thresholds[number])
            found = ops.example_figures.sort_out(scores["test"], unit, threshold, number, N_TOP)
            kinds = {
                "top": found.top,
                "hits": found.hits[:N_SHOWN],
                "false_positives": found.false_positives[:N_SHOWN],
                "misses": found.misses[:N_SHOWN],
            }
            if by_rows and judged[number]:
                kinds["regular"] = found.hits[:N_LOCATED]
            for kind, examples in kinds.items():
                for place, example in enumerate(examples):
                    wanted[example].append(_Wanted(number, kind, place, float(found.scores[example])))
            for split in ("cal", "test"):
                curve = ops.example_figures.f1_curve(scores[split], unit, number)
                points = [(x, y) for x, y in curve.tolist() if y == y]
                curves[split] = _thinned(points)
        concepts.append(Concept(name, number, unit, by_rows and judged[number], {}, curves))
    return wanted, concepts


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """So many points that a drawing still shows every bend; the last one stays."""
    step = -(-len(points) // CURVE_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _shown(run: Pass, wanted: "Mapping[int, list[_Wanted]]") -> "dict[tuple[int, str, int], Shown]":
    """The examples that are wanted, by concept, kind and place; chunks without any are not read."""
    best, units = run.artifact("best_pairs"), _units_of(run.artifact("best_pairs"))
    localization = run.artifact("localization")
    examples, labels = run.inputs["examples"], run.inputs["labels"]
    drawing = _Drawing(run)
    found: dict[tuple[int, str, int], Shown] = {}
    number = 0
    for key in labels:
        of_test = labels[key].artifact.in_split("test").nonzero().flatten().tolist()
        mine = {of_test[n - number]: wanted[n] for n in range(number, number + len(of_test)) if n in wanted}
        number += len(of_test)
        if not mine:
            continue
        sparse = run.inputs["sparse_activations"][key].artifact
        truth, places = run.inputs["ground_truth"][key].artifact, run.inputs["row_locations"][key].artifact
        shows_marks = any(each.kind == "regular" for of_example in mine.values() for each in of_example)
        marks = (
            ops.row_marks.mark_rows(sparse, localization, pooling_of(run.target, run.options))  # type: ignore[arg-type]
            if shows_marks
            else None
        )
        names = examples[key].artifact.example_ids
        for example, of_example in mine.items():
            rows = slice(*sparse.example_offsets[example : example + 2].tolist())
            seen = _Seen(names[example], rows, _boxes(places, example), _spans(places, rows), sparse, truth)
            for each in of_example:
                unit = units[each.concept]
                assert unit is not None
                pair = None
                if each.kind == "regular" and marks is not None:
                    pair = [marks[METHODS.index(way), each.concept, rows].numpy() for way in ("regular", "two_stage")]
                threshold = float(best.thresholds[each.concept])
                shown = drawing.shown(seen, best.concepts[each.concept], each, unit, threshold, pair)
                found[each.concept, each.kind, each.place] = shown
    return found


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
        """float32 [n_rows]: the unit's value on every row of the example."""
        import numpy as np

        first, last = self.sparse.row_offsets[[self.rows.start, self.rows.stop]].tolist()
        mine = np.flatnonzero(self.sparse.unit_ids[first:last].numpy() == unit)
        offsets = self.sparse.row_offsets[self.rows.start : self.rows.stop + 1].numpy() - first
        values = np.zeros(self.rows.stop - self.rows.start, np.float32)
        values[np.searchsorted(offsets, mine, side="right") - 1] = self.sparse.values[first:last].numpy()[mine]
        return values

    def true_rows(self, concept: str) -> "np.ndarray":
        """bool [n_rows]: which rows are the concept's."""
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


class _Drawing:
    """Examples as pictures or texts, as long as there is room for them."""

    def __init__(self, run: Pass):
        self._by_rows, self._room = run.target.token_kind != "cls", MOST_BYTES
        share = min(1.0, math.sqrt(MANY / len(run.target.dataset.concepts)))
        self._small, self._large = max(64, round(SMALL * share)), max(128, round(LARGE * share))
        self._reader: Reader | None
        try:
            self._reader = run.sources.reader(run.target.dataset)
        except SaeAssetsError as error:  # it is not on this machine: figures are shown all the same
            self._reader = None
            run.log(f"examples are not shown: {error}")

        # One example is shown for several concepts and kinds, one after another.
        self._image = lru_cache(maxsize=1)(lambda reader, name: reader.image(name))
        self._masks = lru_cache(maxsize=1)(lambda reader, name: reader.masks(name))

    def shown(
        self,
        seen: _Seen,
        concept: str,
        wanted: _Wanted,
        unit: int,
        threshold: float,
        pair: "Sequence[np.ndarray] | None",
    ) -> Shown:
        """An example as it is shown for a concept."""
        caption = f"{seen.name}, {figure(wanted.score)}"
        try:
            if isinstance(self._reader, ImageReader):
                elements = list(self._pictures(self._reader, seen, concept, wanted, unit, threshold, pair))
            elif isinstance(self._reader, TextReader):
                elements = list(self._texts(self._reader, seen, concept, wanted, unit, threshold, pair))
            else:
                return Shown(Markup(""), f"{caption} (the data set is not on this machine)")
        except (SaeAssetsError, OSError) as error:
            return Shown(Markup(""), f"{caption}. It cannot be shown: {str(error).splitlines()[0]}")
        if sum(map(len, elements)) > self._room:
            return Shown(Markup(""), f"{caption} (left out: the page would be too large)")
        self._room -= sum(map(len, elements))
        return Shown(elements[0], caption, elements[1] if len(elements) > 1 else None)

    def _pictures(
        self, reader: ImageReader, seen: _Seen, concept: str, wanted: _Wanted, unit: int, threshold: float, pair: Any
    ) -> Iterator[Markup]:
        import numpy as np

        image, small = self._image(reader, seen.name), wanted.kind == "top"
        words = f"{seen.name}, score {figure(wanted.score)} of unit {unit}"
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
        self, reader: TextReader, seen: _Seen, concept: str, wanted: _Wanted, unit: int, threshold: float, pair: Any
    ) -> Iterator[Markup]:
        text = reader.text(seen.name)
        if not self._by_rows or seen.spans is None:
            yield Markup('<bdi class="text">{}</bdi>').format(text[:400] + ("…" if len(text) > 400 else ""))
            return
        truth = seen.true_rows(concept) if concept in reader.true_concepts(seen.name) else None
        if pair is None:
            around = 8 if wanted.kind == "top" else 20
            yield marked_tokens(text, seen.spans, seen.values(unit), threshold, truth, around)
            return
        for marked in pair:
            yield marked_tokens(text, seen.spans, marked.astype(float), 1.0, truth)


def _n_examples(run: Pass) -> dict[str, int]:
    labels = run.inputs["labels"]
    counts = [labels.header(key).scalars["n_by_split"] for key in labels]
    return {split: sum(each[split] for each in counts) for split in ("train", "cal", "test")}


def _sizes(run: Pass, rows: Mapping[str, int]) -> dict[str, int]:
    """Rows (given by chunk), units and bytes of the activations, without reading them."""
    chunks, address = run.inputs["sparse_activations"], run.target.address
    stored = sum(
        run.store.size(Address(address.dataset, "sparse_activations", address.token_kind, address.model, key))
        for key in chunks
    )
    n_units, n_rows = int(chunks.header(next(iter(chunks))).scalars["n_units"]), sum(rows.values())
    return {
        "n_rows": n_rows,
        "n_units": n_units,
        "n_chunks": len(chunks),
        "stored_bytes": stored,
        "dense_bytes": n_rows * n_units * 4,
    }


def _fit(run: Pass, rows: Mapping[str, int]) -> dict[str, Any]:
    """How well the SAE fits the rows (given by chunk), over all chunks and of each."""
    from sae_assets.storage.tables.sparse_activations import stored_fit  # noqa: PLC0415 - loads torch

    chunks, lines, fits, active = run.inputs["sparse_activations"], [], [], 0.0
    for key in chunks:
        scalars = chunks.header(key).scalars
        fit = stored_fit(scalars)
        summary = scalars.get("summary") or chunks[key].artifact.summary  # headers of ``.pt`` files have none
        mean_l0 = summary.get("mean_l0")
        fits += [] if fit is None else [fit]
        active += (mean_l0 or 0.0) * rows[key]
        lines.append({"chunk": key, "fvu": None if fit is None else fit.fvu, "mean_l0": mean_l0})
    target = run.target
    path = None
    if not is_pooled(target.dataset, target.model, target.token_kind):
        path = locate_sae(target.model.sae, download=False)
    return {
        "fvu": ops.reconstruction.merge_fits(fits).fvu if fits else None,
        "mean_l0": active / sum(rows.values()) if any(rows.values()) else None,
        "stated_l0": None if path is None else named_l0(path),
        "chunks": lines,
    }


def _provenance(run: Pass) -> list[dict[str, str]]:
    """Of every stage that the report reads; of many chunks the first one's."""
    lines = []
    for name, section in SECTIONS.items():
        if name not in run.inputs:
            continue
        item: Any = run.inputs[name]
        made = (item.header(next(iter(item))) if isinstance(item, ChunkReader) else item).provenance
        lines.append(
            {
                "stage": name,
                "section": section,
                "code_version": made.code_version,
                "fingerprint": made.fingerprint,
                "producer": made.producer,
            }
        )
    return lines


def _settings(run: Pass, tables: Tables) -> dict[str, Any]:
    """What chose pairs and what was drawn."""
    chosen, best = tables["chosen_pairs"].scalars, tables["best_pairs"].scalars
    return {
        "pooling": pooling_of(run.target, run.options).label,  # type: ignore[arg-type]
        **{name: chosen[name] for name in ("selection", "choose_by", "min_support", "n_folds")},
        **{name: best[name] for name in ("n_permutations", "seed")},
    }


def _commands(run: Pass) -> list[str]:
    address = run.target.address
    where = f"{address.dataset} {address.model} --token-kind {address.token_kind}"
    return [
        f"sae-assets materialize -d {address.dataset} -m {address.model} --token-kind {address.token_kind}",
        f"sae-assets report {where}",
        "sae-assets verify",
    ]
