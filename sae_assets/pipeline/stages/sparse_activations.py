"""``sparse_activations``: all token kinds' rows of a chunk from one forward pass, through the SAE, sparse.

The same pass makes ``control_inputs`` where they are due.

What is up to date is not encoded again, and what was imported is never replaced by encoding unless somebody forces it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sae_assets import ops
from sae_assets.artifacts.rows import FLOAT16
from sae_assets.catalog import Dataset, Model
from sae_assets.chunks.contents import expect_contents
from sae_assets.datasets import TextReader
from sae_assets.errors import MismatchError, StoredFileError
from sae_assets.pipeline import glances
from sae_assets.pipeline.activation_checks import CHECKS, figures_of_rows
from sae_assets.pipeline.checks import WARNING, Expected
from sae_assets.pipeline.embedding_files import embedding_files
from sae_assets.pipeline.neighbours import summaries_around
from sae_assets.pipeline.options import EncodeOptions
from sae_assets.pipeline.recipes import is_imported
from sae_assets.pipeline.row_plots import plot_sparse_activations
from sae_assets.pipeline.scoring import pooling_of
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target
from sae_assets.rows.blank import blank_examples
from sae_assets.rows.encoding import encode_chunk
from sae_assets.rows.identity import rows_identity
from sae_assets.rows.source import is_pooled, precomputed_kinds
from sae_assets.rows.texts import lengths_beyond
from sae_assets.rows.training import trained_elsewhere
from sae_assets.rows.truth import rows_per_example
from sae_assets.saes import locate_sae, open_sae, sae_hash
from sae_assets.storage.provenance import digest

if TYPE_CHECKING:
    from sae_assets.storage.store import ArtifactStore, Stored

CONTROL_INPUTS = "control_inputs"


def make_rows(work: Pass) -> Made:
    """Return all that is made of rows while they are there."""
    assert isinstance(work.options, EncodeOptions)
    target, examples, settings = work.target, work.artifact("examples"), _of_rows(work.target.model, work.options)
    reader = work.sources.reader(target.dataset)
    _expect_rows(work)
    if not set(work.token_kinds) <= precomputed_kinds(target.dataset, target.model):
        expect_contents(examples, target.chunk, reader)
    encoded = encode_chunk(
        examples,
        work.token_kinds,
        dataset=target.dataset,
        model=target.model,
        reader=reader,
        batch_size=work.options.batch_size,
        device=work.device,
        memory_budget=work.memory_budget,
        step=lambda done, total: work.log(f"{done} of {total} examples encoded"),
        control_kinds=[kind for kind in work.token_kinds if (CONTROL_INPUTS, kind) in work.due],
        control_pooling=pooling_of(target, work.options),
        try_alternatives=examples.first_index == 0,  # once per model
        **settings,
    )

    if encoded.elsewhere:
        work.log(f"Warning: {encoded.elsewhere}")
    if encoded.one_by_one:
        work.log("Examples went through the transformer one by one: its rows depend on what goes with them.")

    def expected(kind: str) -> Expected:
        of_kind = Target(target.catalog, replace(target.address, stage=SPARSE_ACTIVATIONS.name, token_kind=kind))
        encoder = encoder_hash(target.dataset, target.model, kind, _of_kind(target, kind, settings))
        return Expected(
            encoded.rows_per_example[kind],
            limits=limits_of(of_kind),
            elsewhere=encoded.elsewhere,
            others=summaries_around(work.store, of_kind.address, encoder),
            blank=encoded.blank,
            beside=figures_beside(of_kind, encoded.artifacts[kind], encoded.artifacts, work.store),
        )

    once = {"once_cpu_seconds": encoded.once_cpu_seconds} if examples.first_index == 0 else {}
    artifacts = {
        (SPARSE_ACTIVATIONS.name, kind): Result(
            encoded.artifacts[kind], expected(kind), partial(plot_sparse_activations, encoded.artifacts[kind]), once
        )
        for kind in work.token_kinds
    }
    controls = {
        (CONTROL_INPUTS, kind): Result(artifact, measured=once) for kind, artifact in encoded.control_inputs.items()
    }
    return {**artifacts, **controls}


def _expect_rows(work: Pass) -> None:
    """Control inputs are of the rows behind the activations.

    Raises:
        MismatchError: those that they would stand beside were imported.
    """
    for stage, kind in sorted(work.due):
        address = replace(work.target.address, stage=SPARSE_ACTIVATIONS.name, token_kind=kind)
        is_kept = (
            stage == CONTROL_INPUTS and (address.stage, kind) not in work.due and work.store.find(address) is not None
        )
        if is_kept and is_imported(work.store.header(address).provenance):
            raise MismatchError(
                f"{address} was imported: the rows behind it are not here, so controls do not apply to it. Everything "
                "else is made without them; --force encodes the rows and makes both."
            )


def settings_of(target: Target, options: Any) -> dict[str, Any]:
    """Return k_stored (None: all), precision, forward_batch (None: by device), and what values are rounded to, if to
    anything; with the catalog's values filled in."""
    return _of_kind(target, target.token_kind, _of_rows(target.model, options))


def _of_rows(model: Model, options: Any) -> dict[str, Any]:
    """Return the settings of rows that are encoded."""
    assert isinstance(options, EncodeOptions)
    return {
        "k_stored": model.k_stored if options.k_stored is None else options.k_stored or None,
        "precision": options.precision or model.precision,
        "forward_batch": model.forward_batch if options.forward_batch is None else options.forward_batch or None,
        **({"stored_values": FLOAT16} if model.stored_values == FLOAT16 else {}),
    }


def _of_kind(target: Target, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a token kind: pooled rows are kept whole."""
    return {**settings, "k_stored": None} if is_pooled(target.dataset, target.model, kind) else settings


def encoder_identity(target: Target, options: Any) -> dict[str, str] | None:
    encoder = encoder_hash(target.dataset, target.model, target.token_kind, settings_of(target, options))
    return None if encoder is None else {"encoder": encoder}


def catalog_keys(target: Target) -> dict[str, Any]:
    """Return the settings, and where in the transformer rows are read and how texts become tokens: files are not looked
    at."""
    names = ("layer", "hidden_state", "module", "max_tokens", "prepend_bos")
    read = {name: getattr(target.model, name) for name in names}
    if target.model.modality == "text" and target.token_kind == "cls":
        read["cls"] = target.model.cls_of_texts
    return {**settings_of(target, EncodeOptions()), **read, "format": target.model.sae.format}


def encoder_hash(dataset: Dataset, model: Model, token_kind: str, settings: Mapping[str, Any]) -> str | None:
    """Hash of everything that turns an example into stored activations; None while the SAE is not on this machine.

    Args:
        settings: of the stage, the catalog's values filled in.
    """
    sae = locate_sae(model.sae, download=False)
    if sae is None:
        return None
    return digest(
        {
            "rows": rows_identity(dataset, model, token_kind),
            "sae": {"format": model.sae.format, "sha256": sae_hash(sae)},
            "token_kind": token_kind,
            **settings,
        }
    )


def _expected_of_kept(target: Target, stored: "Stored", sources: Sources, store: "ArtifactStore") -> Expected:
    """Return what a file that was encoded earlier has to satisfy, without encoding anything; examples are opened once
    more."""
    limits = limits_of(target)
    others = summaries_around(store, target.address, stored.provenance.identity.get("encoder"))
    if is_imported(stored.provenance):  # neither the model's files nor the examples need be here
        return Expected(limits=limits, others=others)
    reader, ids = sources.reader(target.dataset), sources.manifest(target).example_ids
    opened = () if target.token_kind in precomputed_kinds(target.dataset, target.model) else ids
    # What only whoever encodes can see stands in the file; files of earlier versions do not hold it.
    precision = stored.provenance.config.get("precision", target.model.precision)
    elsewhere = (stored.counts or {}).get(WARNING) or trained_elsewhere(
        open_sae(target.model.sae),
        target.model.model_copy(update={"precision": precision}),
        beyond=lambda limit: (
            lengths_beyond(reader, opened, target.model, limit) if opened and isinstance(reader, TextReader) else None
        ),
    )
    return Expected(
        rows_per_example(target.token_kind, target.dataset, target.model, reader),
        limits=limits,
        elsewhere=elsewhere,
        others=others,
        blank=tuple(blank_examples(reader, opened)),
        beside=figures_beside(target, stored.artifact, {}, store),
    )


def limits_of(target: Target) -> dict[str, Any]:
    """Return what the catalog says of a model's activations that no fingerprint depends on; L0 is of rows that are
    encoded."""
    limits = {"max_dropped_mass": target.model.max_dropped_mass, **target.model.bounds.model_dump()}
    pooled = is_pooled(target.dataset, target.model, target.token_kind)
    return {**limits, "l0": (0.0, math.inf)} if pooled else limits


def figures_beside(target: Target, cls: Any, results: Mapping[str, Any], store: "ArtifactStore") -> dict[str, float]:
    """Return figures of the patch or token rows of a chunk, units being those that as many rows as ``cls`` has would
    have.

    Nothing of rows that are pooled from them, and none where these rows are neither made nor stored.

    Args:
        made: artifacts of the same pass by token kind.
    """
    others = [kind for kind in target.dataset.token_kinds if kind != "cls"]
    if target.token_kind != "cls" or not others or is_pooled(target.dataset, target.model, "cls"):
        return {}
    address = replace(target.address, token_kind=others[0])
    rows = results.get(others[0])
    if rows is None and store.find(address) is not None:
        try:
            rows = store.read(address).artifact
        except StoredFileError:  # whoever reads these rows is told
            return {}
    if rows is None:
        return {}
    return {**figures_of_rows(rows), "units": ops.rarefaction.expected_units(rows, min(cls.n_rows, rows.n_rows))}


def ratios(**parts: tuple[float, float]) -> dict[str, float]:
    """Return quotients by name; one that does not exist, of a chunk without rows or entries, is left out."""
    return {name: top / bottom for name, (top, bottom) in parts.items() if bottom}


def sparse_counts(artifact: Any) -> dict[str, Any]:
    """Return figures of sparse rows: how many there are and how sparse they are."""
    units = len(artifact.active_units())
    return {
        "rows": artifact.n_rows,
        "examples": artifact.n_examples,
        "units": artifact.n_units,
        "entries": artifact.n_entries,
        "active_units": units,
        "coverage": units / artifact.n_units,
        **ratios(mean_entries_per_row=(artifact.n_entries, artifact.n_rows)),
    }


def fit_counts(artifact: Any) -> dict[str, Any]:
    """Return how well the SAE fits the rows; nothing where no decoder was read."""
    fvu = None if artifact.fit is None else artifact.fit.fvu
    return {} if fvu is None else {"fvu": fvu}


def _counts(artifact: Any) -> dict[str, Any]:
    active, figures = int(artifact.l0.sum()), sparse_counts(artifact)
    cut = {"examples_cut_to_max_tokens": artifact.n_cut_examples, "tokens_cut": artifact.n_cut_tokens}
    return {
        **figures,
        "dead_units": figures["units"] - figures["active_units"],
        "k_stored": artifact.k_stored if artifact.k_stored is not None else "all",
        **({} if artifact.stored_values is None else {"stored_values": artifact.stored_values}),
        **ratios(
            l0=(active, artifact.n_rows),
            truncated_rows_share=(artifact.n_truncated_rows, artifact.n_rows),
            dropped_entries_share=(artifact.n_dropped_entries, active),
            dropped_mass_share=(artifact.dropped_mass, artifact.total_mass),
        ),
        **fit_counts(artifact),
        **(cut if artifact.n_cut_examples else {}),
    }


SPARSE_ACTIVATIONS = Stage(
    name="sparse_activations",
    level="chunk",
    description="SAE activations of every row, sparse, from one pass of the transformer.",
    make=make_rows,
    shared="sparse_activations",
    chunk_inputs=("examples",),
    settings=settings_of,
    catalog_keys=catalog_keys,
    identity=encoder_identity,
    outside=embedding_files,
    options=EncodeOptions,
    every_kind=True,
    kept_if_current=True,
    expected_of_kept=_expected_of_kept,
    pool="gpu",
    checks=CHECKS,
    counts=_counts,
    glance=glances.glance_at_activations,
)
