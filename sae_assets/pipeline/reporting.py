"""A report is made of tables of a model's stages, and of examples of each concept with the rows of its unit.

All chunks are gone through once for the scores of examples, and once more for the rows of those that are shown.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import normpath
from pathlib import Path
from typing import Any

from sae_assets import ops, storage
from sae_assets.pages.figures import StageTable, Tables
from sae_assets.pages.report import Concept, Content, Shown
from sae_assets.pipeline.report_examples import Wanted, show_examples
from sae_assets.pipeline.scoring import pooling_of, score_examples
from sae_assets.pipeline.stage import Pass
from sae_assets.rows.source import is_pooled
from sae_assets.saes import locate_sae, named_l0
from sae_assets.storage.address import Address
from sae_assets.storage.chunk_reader import ChunkReader

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
CURVE_POINTS = 160


def gather(work: Pass) -> Content:
    """Return everything that the report of a pass shows.

    Raises:
        MismatchError: labels of other concepts than the pairs are of.
    """
    best = work.artifact("best_pairs")
    tables = _tables(work)
    scores, _ = score_examples(work, best.concepts)
    units_of_concepts = _units_of(best)
    choices, concepts = _choose(work, scores, units_of_concepts)
    shown_examples = show_examples(work, choices, units_of_concepts)
    examples: dict[int, dict[str, list[Shown]]] = defaultdict(lambda: defaultdict(list))
    for (number, kind, _), shown in sorted(shown_examples.items(), key=lambda item: item[0][2]):
        examples[number][kind].append(shown)
    concepts = [
        replace(concept, examples={kind: examples[concept.number][kind] for kind in KINDS}) for concept in concepts
    ]
    stats, places = tables["unit_stats"].lines, work.inputs["row_locations"]
    rows = {key: places[key].artifact.n_rows for key in places}
    reasons = tables["unit_mapping"].table["reason"].to_pylist()
    units = [
        {"unit_id": line["unit_id"], "density": line["density"], "p99": line["p99"], "reason": reason}
        for line, reason in zip(stats, reasons, strict=True)
    ]
    return Content(
        dataset=work.target.address.dataset,
        token_kind=work.target.token_kind,
        model=work.target.address.model or "",
        modality=work.target.dataset.modality,
        about=about(work.target),
        tables=tables,
        concepts=concepts,
        n_examples=_n_examples(work),
        sizes=_sizes(work, rows),
        rows={
            name: value if math.isfinite(value) else None
            for name, value in work.artifact("row_alignment").summary.items()
        },
        fit=_fit(work, rows),
        units=units,
        provenance=_provenance(work),
        settings=_settings(work, tables),
        commands=_commands(work),
    )


def about(target: Any) -> dict[str, str]:
    """Return what the data set, the model and the SAE are, as the catalog says; of paths the last part, wherever they
    lie."""
    entry, model = target.dataset, target.model
    hook_point, transformer = model.hook_point, model.transformer
    if transformer is not None and transformer.path is not None:
        folder = Path(normpath(transformer.path))  # a name however it is spelled: `..` is none
        hook_point = hook_point.removesuffix(transformer.label) + folder.name
    facts = {
        "data set": entry.description.rstrip("."),
        "hook point": hook_point,
        "SAE": f"SAE of format {model.sae.format}",
    }
    return {name: text for name, text in facts.items() if text}


def _units_of(best: Any) -> list[int | None]:
    return [unit if unit >= 0 else None for unit in best.unit_ids.tolist()]


def _tables(work: Pass) -> Tables:
    """Return the stages' tables; of rows only the lines of units that some concept may show."""
    tables = {}
    for name in TABLES:
        if name in work.inputs:
            table, scalars = storage.parquet.to_table(work.artifact(name))
            tables[name] = StageTable(name, table, scalars)
    rows, units = tables["row_alignment"], set(_units_of(work.artifact("best_pairs"))) - {None}
    alignment = work.artifact("row_alignment")
    for first in alignment.best.tolist():
        if first >= 0:
            mine = alignment.concept_ids[first : first + BEST_UNITS] == alignment.concept_ids[first]
            units |= set(alignment.unit_ids[first : first + BEST_UNITS][mine].tolist())
    if "coalitions" in work.inputs:
        units |= set(work.artifact("coalitions").unit_ids.tolist())
    tables["row_alignment"] = rows.only(unit_id=sorted(units))
    return Tables(tables)


def _choose(
    work: Pass, scores: Mapping[str, Any], units: Sequence[int | None]
) -> "tuple[dict[int, list[Wanted]], list[Concept]]":
    """Return by number of a test example what it is shown for; and the concepts with their curves."""
    best, alignment = work.artifact("best_pairs"), work.artifact("row_alignment")
    by_rows = work.target.token_kind != "cls"
    judged = alignment.judged.tolist()
    choices: dict[int, list[Wanted]] = defaultdict(list)
    concepts = []
    for number, name in enumerate(best.concepts):
        unit, curves = units[number], {}
        if unit is not None:
            threshold = float(best.thresholds[number])
            outcomes = ops.example_figures.sort_out(scores["test"], unit, threshold, number, N_TOP)
            kinds = {
                "top": outcomes.top,
                "hits": outcomes.hits[:N_SHOWN],
                "false_positives": outcomes.false_positives[:N_SHOWN],
                "misses": outcomes.misses[:N_SHOWN],
            }
            if by_rows and judged[number]:
                kinds["regular"] = outcomes.hits[:N_LOCATED]
            for kind, examples in kinds.items():
                for index, example in enumerate(examples):
                    choices[example].append(Wanted(number, kind, index, float(outcomes.scores[example])))
            for split in ("cal", "test"):
                curve = ops.example_figures.f1_curve(scores[split], unit, number)
                points = [(x, y) for x, y in curve.tolist() if y == y]
                curves[split] = _thinned(points)
        concepts.append(Concept(name, number, unit, by_rows and judged[number], {}, curves))
    return choices, concepts


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return so many points that a drawing still shows every bend; the last one stays."""
    step = -(-len(points) // CURVE_POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _n_examples(work: Pass) -> dict[str, int]:
    labels = work.inputs["labels"]
    counts = [labels.header(key).scalars["n_by_split"] for key in labels]
    return {split: sum(by_split[split] for by_split in counts) for split in ("train", "cal", "test")}


def _sizes(work: Pass, rows: Mapping[str, int]) -> dict[str, int]:
    """Return rows (given by chunk), units and bytes of the activations, without reading them."""
    chunks, address = work.inputs["sparse_activations"], work.target.address
    stored = sum(
        work.store.size(Address(address.dataset, "sparse_activations", address.token_kind, address.model, key))
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


def _fit(work: Pass, rows: Mapping[str, int]) -> dict[str, Any]:
    """Return how well the SAE fits the rows (given by chunk), over all chunks and of each."""
    from sae_assets.storage.tables.sparse_activations import stored_fit  # noqa: PLC0415 - loads torch

    chunks, lines, fits, active = work.inputs["sparse_activations"], [], [], 0.0
    for key in chunks:
        scalars = chunks.header(key).scalars
        fit = stored_fit(scalars)
        summary = scalars.get("summary") or chunks[key].artifact.summary  # headers of ``.pt`` files have none
        mean_l0 = summary.get("mean_l0")
        fits += [] if fit is None else [fit]
        active += (mean_l0 or 0.0) * rows[key]
        lines.append({"chunk": key, "fvu": None if fit is None else fit.fvu, "mean_l0": mean_l0})
    target = work.target
    path = None
    if not is_pooled(target.dataset, target.model, target.token_kind):
        path = locate_sae(target.model.sae, download=False)
    return {
        "fvu": ops.reconstruction.merge_fits(fits).fvu if fits else None,
        "mean_l0": active / sum(rows.values()) if any(rows.values()) else None,
        "stated_l0": None if path is None else named_l0(path),
        "chunks": lines,
    }


def _provenance(work: Pass) -> list[dict[str, str]]:
    """Return the provenance of every stage that the report reads; of many chunks the first one's."""
    lines = []
    for name, section in SECTIONS.items():
        if name not in work.inputs:
            continue
        item: Any = work.inputs[name]
        provenance = (item.header(next(iter(item))) if isinstance(item, ChunkReader) else item).provenance
        lines.append(
            {
                "stage": name,
                "section": section,
                "code_version": provenance.code_version,
                "fingerprint": provenance.fingerprint,
                "producer": provenance.producer,
            }
        )
    return lines


def _settings(work: Pass, tables: Tables) -> dict[str, Any]:
    """Return what chose pairs and what was drawn."""
    chosen, best = tables["chosen_pairs"].scalars, tables["best_pairs"].scalars
    return {
        "pooling": pooling_of(work.target, work.options).label,  # type: ignore[arg-type]
        **{name: chosen[name] for name in ("selection", "choose_by", "min_support", "n_folds")},
        **{name: best[name] for name in ("n_permutations", "seed")},
    }


def _commands(work: Pass) -> list[str]:
    address = work.target.address
    where = f"{address.dataset} {address.model} --token-kind {address.token_kind}"
    return [
        f"sae-assets materialize -d {address.dataset} -m {address.model} --token-kind {address.token_kind}",
        f"sae-assets report {where}",
        "sae-assets verify",
    ]
