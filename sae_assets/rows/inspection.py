"""A model of a data set is looked at before anything is encoded: what it is, and whether its SAE goes with it.

Plain values for the command line and tests. One example goes through the transformer and the SAE on the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.catalog import Dataset, Model
from sae_assets.datasets import TextReader
from sae_assets.datasets.inputs import InputImages, InputTexts, inputs_entry
from sae_assets.errors import CheckpointError, DatasetError, SaeAssetsError
from sae_assets.rows.alternatives import EXAMPLES, better_alternatives
from sae_assets.rows.images import noise, open_geometry
from sae_assets.rows.loaded import memory_of_machine, open_encoder
from sae_assets.rows.opening import open_sources
from sae_assets.rows.source import is_pooled, precomputed_kinds
from sae_assets.rows.texts import ANY_TEXT, doubt_of_texts, lengths_beyond, open_tokens
from sae_assets.rows.training import properties_of
from sae_assets.saes.hook_points import in_words

if TYPE_CHECKING:
    from sae_assets.datasets import Reader
    from sae_assets.rows.loaded import OpenedSae
    from sae_assets.rows.source import RowSource


MOST_OF_MEMORY = 0.5  # that the weights of a model may take which is read whole, though a part of it is used
STAND_IN = "a stand-in"  # for the first example of a data set that is not there


def inspect_model(model: Model, dataset: Dataset, reader: "Reader | None", memory_budget: int) -> dict[str, Any]:
    """Open a model and its SAE, and send the first example through both.

    ``preprocessing`` is what becomes of an image or text before the transformer; ``rows`` and ``mean_l0`` are the
    example's, by token kind; ``properties`` are what files say of the training beside what is used, by name, with None
    where that is not known; ``differences`` says how the SAE was trained otherwise than it is used. ``problems`` are
    all errors that would end a run, of the SAE, the preprocessing, and the rows of each token kind; ``sound`` says that
    there are none. ``example_is`` says what was sent through.

    Args:
        reader: None of a data set that cannot be read: then something made up stands in for its first example, and
            embeddings made elsewhere are not looked at.
        memory_budget: bytes for the largest block of intermediate values.
    """
    report: dict[str, Any] = {"hook_point": model.hook_point, "differences": "", "problems": [], "rows": {}}
    report |= {"mean_l0": {}, "properties": {}}
    with ops.process_state.plain_arithmetic():
        sae, final_norm = None, None
        doubts: list[str] = []
        with _noting(report):
            sae = open_encoder(model.sae, "cpu", memory_budget)
            report["sae"] = {
                "name": sae.name,
                "trained_at": in_words(sae.hook_point),
                "d_model": sae.d_model,
                "units": sae.encoder.n_units,
            }
        if model.transformer is not None:
            with _noting(report):
                what = open_geometry(model.transformer) if model.modality == "image" else open_tokens(model)
                report["preprocessing"] = getattr(what, "preprocessing", {})
        example, opened = (STAND_IN, _stand_in(model)) if reader is None else (reader.records[0].example_id, reader)
        report["example_is"] = "first example" if reader is not None else STAND_IN
        computed = [kind for kind in dataset.token_kinds if kind not in precomputed_kinds(dataset, model)]
        if computed and isinstance(reader, TextReader):
            with _noting(report):  # first, so that the whole model and its part are not in memory together
                doubts.append(doubt_of_texts(reader, reader.by_id, model, int(memory_of_machine() * MOST_OF_MEMORY)))
        for kind in dataset.token_kinds:
            if reader is None and kind in precomputed_kinds(dataset, model):
                continue
            with _noting(report):
                source = _send(report, kind, example, opened, model, dataset, sae)
                final_norm = source.final_norm or final_norm or ""
                doubts += source.doubts
                if sae is not None and reader is not None and [kind] == computed[:1]:
                    rows_of = "token" if is_pooled(dataset, model, kind) else kind
                    doubts += better_alternatives(source, rows_of, sae, [*reader.by_id][:EXAMPLES])
        with _noting(report):
            properties = properties_of(
                sae,
                model,
                final_norm,
                lambda limit: (
                    lengths_beyond(reader, reader.by_id, model, limit) if isinstance(reader, TextReader) else None
                ),
            )
            report["properties"] = {each.name: each.plain() for each in properties}
            differences = [*(each.differs for each in properties), *doubts]
            report["differences"] = "; ".join(dict.fromkeys(filter(None, differences)))
    report["sound"] = not report["problems"]
    return report


@contextmanager
def _noting(report: dict[str, Any]) -> Iterator[None]:
    """Errors become problems, each named once, and what is looked at next is looked at all the same."""
    try:
        yield
    except (SaeAssetsError, OSError) as error:
        if str(error) not in report["problems"]:
            report["problems"].append(str(error))


def _stand_in(model: Model) -> "Reader":
    if model.modality == "text":
        return InputTexts(inputs_entry(model), {STAND_IN: ANY_TEXT})
    return InputImages(inputs_entry(model), {STAND_IN: noise()})


def _send(
    report: dict[str, Any], kind: str, example: str, reader: "Reader", model: Model, dataset: Dataset,
    sae: "OpenedSae | None",
) -> "RowSource":  # fmt: skip
    """One example to rows of a token kind, and through the SAE if there is one that takes them."""
    ((_, source),) = open_sources(reader, dataset, model, (kind,), "cpu", model.precision)
    if sae is not None and source.d_model != sae.d_model:
        raise CheckpointError(
            f"SAE {sae.name} takes rows of width {sae.d_model}, but {source.origin} gives width {source.d_model}"
        )
    (rows,) = source.embed([example])
    embeddings = rows.rows["token" if is_pooled(dataset, model, kind) else kind]
    if not bool(embeddings.isfinite().all()):
        raise DatasetError(f"{kind} rows of {example!r} hold values that are not finite")
    report["rows"][kind] = len(embeddings)
    if sae is not None:
        report["mean_l0"][kind] = float(sae.encoder.encode(embeddings).l0.double().mean()) if len(embeddings) else 0.0
    return source
