"""What a model of a data set is and whether it goes together with its SAE: looked at before anything is encoded.

Plain values for the command line and tests. One example goes through the transformer and the SAE on the CPU.
"""

from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Dataset, Model
from sae_assets.errors import SaeAssetsError
from sae_assets.rows.encoding import trained_elsewhere
from sae_assets.rows.images import open_geometry
from sae_assets.rows.loaded import open_encoder
from sae_assets.rows.opening import open_sources
from sae_assets.rows.source import is_pooled
from sae_assets.rows.texts import open_tokens
from sae_assets.saes.hook_points import in_words

if TYPE_CHECKING:
    from sae_assets.datasets import Reader


def inspect_model(model: Model, dataset: Dataset, reader: "Reader", memory_budget: int) -> dict[str, Any]:
    """Open a model and its SAE, and send the first example through both.

    ``preprocessing`` is what becomes of an image or text before the transformer; ``rows`` and ``mean_l0`` are the
    example's, by token kind; ``differences`` says how the SAE was trained otherwise than it is used. ``problems`` are
    errors that would end a run; ``sound`` says that there are none.

    Args:
        memory_budget: bytes for the largest block of intermediate values.
    """
    report: dict[str, Any] = {"hook_point": model.hook_point, "differences": "", "problems": []}
    try:
        with ops.process_state.plain_arithmetic():
            _look(report, model, dataset, reader, memory_budget)
    except (SaeAssetsError, OSError) as error:
        report["problems"].append(str(error))
    report["sound"] = not report["problems"]
    return report


def _look(report: dict[str, Any], model: Model, dataset: Dataset, reader: "Reader", memory_budget: int) -> None:
    sae = open_encoder(model.sae, "cpu", memory_budget)
    report["sae"] = {
        "name": sae.name,
        "trained_at": in_words(sae.hook_point),
        "d_model": sae.d_model,
        "units": sae.encoder.n_units,
    }
    report["differences"] = trained_elsewhere(sae, model)
    if model.transformer is not None:
        what = open_geometry(model.transformer) if model.modality == "image" else open_tokens(model)
        report["preprocessing"] = getattr(what, "preprocessing", {})
    sources = open_sources(reader, dataset, model, dataset.token_kinds, "cpu", model.precision)
    report["rows"], report["mean_l0"] = {}, {}
    example = reader.records[0].example_id
    for kinds, source in sources:
        if source.d_model != sae.d_model:
            report["problems"].append(
                f"SAE {sae.name} takes rows of width {sae.d_model}, but {source.origin} gives width {source.d_model}"
            )
            continue
        (rows,) = source.embed([example])
        for kind in kinds:
            found = rows.rows["token" if is_pooled(dataset, model, kind) else kind]
            if not bool(found.isfinite().all()):
                report["problems"].append(f"{kind} rows of {example!r} hold values that are not finite")
                continue
            report["rows"][kind] = len(found)
            report["mean_l0"][kind] = float(sae.encoder.encode(found).l0.double().mean()) if len(found) else 0.0
