"""From results to a detector: its chosen pairs, their worth, their calibration, and what encodes their units."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts import SparseRows, offsets_of
from sae_assets.catalog import match_name
from sae_assets.errors import DetectorError, MismatchError
from sae_assets.package import VERSION
from sae_assets.pipeline.stages import STAGES
from sae_assets.reading.detector import scores_of
from sae_assets.reading.detector_card import detector_card
from sae_assets.reading.detector_file import encoder_tensors, portable, write_detector
from sae_assets.reading.results import Results
from sae_assets.reading.stored_settings import stored_settings
from sae_assets.rows.identity import transformer_identity
from sae_assets.rows.loaded import open_encoder
from sae_assets.saes import locate_sae, sae_hash
from sae_assets.settings import memory_budget_mb

if TYPE_CHECKING:
    from torch import Tensor

    from sae_assets.ops.pooling import Pooling
    from sae_assets.ops.sparse_activations import Encoder

TOPK = "TopK: whether a unit is active depends on all of them"
CUT = "k_stored {}: a unit counts on a row only if it is among its largest, which depends on all units"


def export_detector(
    results: Results,
    folder: Path | str,
    *,
    concepts: Sequence[str] | None = None,
    units_only: bool = False,
    include_encoder: bool = False,
) -> dict[str, Any]:
    """Write the detector of results into a folder, with a model card beside it; what stands in ``detector.json``.

    Args:
        concepts: default: all for which a unit was chosen.
        units_only: encode the needed units alone also where the results keep ``k_stored`` entries of a row: values are
            then theirs whatever else fires, and differ from the pipeline's on rows that were cut.
        include_encoder: write all weights of the SAE's encoder into the detector where all are needed.

    Raises:
        DetectorError: no unit was chosen, a folder that holds something else, or ``units_only`` of a TopK SAE.
        MismatchError: stages that were made from other data than there are now, imported activations.
        CatalogError: an unknown concept.
    """
    settings, pooling = stored_settings(results), _pooling(results)
    lines = _lines(results, concepts)
    chosen = [line for line in lines if line["unit_id"] is not None]
    if not chosen:
        raise DetectorError(f"{results}: no unit was chosen for any of these concepts.")
    sae = open_encoder(results.model_entry.sae, "cpu", ops.device.memory_budget(memory_budget_mb(), "cpu"))
    ids = sorted({line["unit_id"] for line in chosen})
    reason = _why_all(sae.encoder, settings.k_stored, units_only)
    included = include_encoder or not reason
    curves = _calibration(results, chosen, pooling)
    path = locate_sae(results.model_entry.sae, download=False)
    assert path is not None  # it was just opened
    topk = sae.encoder if isinstance(sae.encoder, ops.sparse_activations.TopKEncoder) else None
    figures = {
        "origin": _origin(results, chosen[0]),
        "token_kind": results.token_kind,
        "model_name": results.model,
        "model": portable(results.model_entry),
        "transformer": transformer_identity(results.model_entry.transformer),
        "sae_sha256": sae_hash(path),
        "white": settings.white,
        "k_stored": settings.k_stored if reason else None,
        "precision": settings.precision,
        "forward_batch": settings.forward_batch,
        "stored_values": settings.stored_values,
        "pooling": pooling.name,
        "pooling_k": pooling.k,
        "units": {
            "encoded": "all" if reason else "needed",
            "included": included,
            "reason": reason,
            "ids": ids,
            "n_units": sae.encoder.n_units,
            "d_model": sae.d_model,
            "activation": "topk" if topk else "jumprelu",
            "k": topk.k if topk else None,
        },
        "concepts": [
            {
                "concept": line["concept"],
                "unit": line["unit_id"],
                "threshold": line["threshold"],
                "row_threshold": line.pop("row_threshold"),
                "n_knots": len(knots),
                "figures": line,
            }
            for line, (knots, _) in zip(chosen, curves, strict=True)
        ],
        "without_unit": [line["concept"] for line in lines if line["unit_id"] is None],
    }
    tensors = encoder_tensors(sae.encoder, None if reason else ids) if included else {}
    tensors |= _joined(curves)
    write_detector(Path(folder).expanduser(), figures, tensors, detector_card(figures))
    return figures


def _why_all(encoder: "Encoder", k_stored: int | None, units_only: bool) -> str:
    """Return why the needed units cannot be encoded alone; empty if they can."""
    if isinstance(encoder, ops.sparse_activations.TopKEncoder):
        if units_only:
            raise DetectorError(f"--units-only: not of this SAE. {TOPK}.")
        return TOPK
    return "" if units_only or k_stored is None else CUT.format(k_stored)


def _lines(results: Results, concepts: Sequence[str] | None) -> list[dict[str, Any]]:
    """Return lines of ``best_pairs`` with the row threshold beside them; the stages are of the activations that there
    are."""
    lines = results.best_pairs().to_arrow().to_pylist()
    rows = {line["concept"]: line["row_threshold"] for line in results.table("chosen_pairs").to_arrow().to_pylist()}
    header = results.store.header(results.address("best_pairs"))
    for name, content_hash in header.provenance.inputs.items():
        stage, _, chunk = name.partition("/")
        if stage not in STAGES:  # what lies outside the store
            continue
        address = results.address(stage, chunk or None)
        if results.store.find(address) is None or results.store.header(address).content_hash != content_hash:
            raise MismatchError(
                f"{results}: best_pairs was made from another {name} than the one there is. Materialize it again."
            )
    if concepts is not None:
        names = [match_name(name, rows, "concept") for name in concepts]
        lines = [line for line in lines if line["concept"] in names]
    return [{**line, "row_threshold": rows[line["concept"]]} for line in lines]


def _pooling(results: Results) -> "Pooling":
    config = results.store.header(results.address("best_pairs")).provenance.config
    return ops.pooling.Pooling(config["pooling"], config.get("pooling_k", 1))


def _origin(results: Results, line: dict[str, Any]) -> dict[str, Any]:
    cells = ("tp", "fp", "fn", "tn")
    stages = ("chosen_pairs", "best_pairs")
    return {
        "dataset": results.entry.name,
        "n_cal": sum(line[f"cal_{cell}"] for cell in cells),
        "n_test": sum(line[f"test_{cell}"] for cell in cells),
        "fingerprints": {name: results.store.header(results.address(name)).provenance.fingerprint for name in stages},
        "producer": VERSION,
    }


def _calibration(
    results: Results, lines: Sequence[dict[str, Any]], pooling: "Pooling"
) -> "list[tuple[Tensor, Tensor]]":
    """Return isotonic curves of the units' scores on cal, as ``best_pairs`` fits them, by concept."""
    import torch

    scores, truths = [], []
    for key in results.chunks:
        labels = results.store.read(results.address("labels", key)).artifact
        cal = labels.in_split("cal")
        if not bool(cal.any()):
            continue
        rows = of_units(results.store.read(results.address("sparse_activations", key)).artifact, lines)
        scores.append(scores_of(rows, pooling, [line["unit_id"] for line in lines])[:, cal])
        columns = [labels.concepts.index(line["concept"]) for line in lines]
        truths.append(labels.labels[cal][:, columns].T)
    of_cal, truth = torch.cat(scores, 1), torch.cat(truths, 1)
    return [ops.prevalence_free.isotonic_curve(*pair) for pair in zip(of_cal, truth, strict=True)]


def of_units(rows: SparseRows, lines: Sequence[dict[str, Any]]) -> SparseRows:
    """Return the entries of these lines' units alone, under their own ids."""
    import torch

    ids = torch.tensor([line["unit_id"] for line in lines], dtype=torch.int32, device="cpu")
    mine = torch.isin(rows.unit_ids, ids)
    offsets = offsets_of(torch.bincount(rows.row_of_entry()[mine], minlength=rows.n_rows))
    return SparseRows(
        rows.first_example, rows.example_offsets, offsets, rows.unit_ids[mine], rows.values[mine], rows.n_units
    )


def _joined(curves: "Sequence[tuple[Tensor, Tensor]]") -> "dict[str, Tensor]":
    import torch

    knots, heights = zip(*curves, strict=True)
    return {"knots": torch.cat(knots), "probabilities": torch.cat(heights)}
