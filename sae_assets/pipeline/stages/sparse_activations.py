"""``sparse_activations``: all token kinds' rows of a chunk from one forward pass, through the SAE, sparse.

What is up to date is not encoded again, and what was imported is never replaced by encoding unless somebody forces it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sae_assets.catalog import Dataset, Model
from sae_assets.chunks.contents import expect_contents
from sae_assets.pipeline.checks import ROW_COUNTS, Check, Expected, Outcome
from sae_assets.pipeline.options import EncodeOptions
from sae_assets.pipeline.stage import Made, Pass, Result, Sources, Stage, Target
from sae_assets.rows.encoding import encode_chunk, trained_elsewhere
from sae_assets.rows.identity import outside_hashes, rows_identity
from sae_assets.rows.source import precomputed_kinds
from sae_assets.rows.truth import rows_per_example
from sae_assets.saes import locate_sae, open_sae, sae_hash
from sae_assets.storage.provenance import digest

if TYPE_CHECKING:
    from sae_assets.storage.store import Stored


def _make(run: Pass) -> Made:
    assert isinstance(run.options, EncodeOptions)
    target, examples = run.target, run.artifact("examples")
    reader = run.sources.reader(target.dataset)
    if not set(run.token_kinds) <= precomputed_kinds(target.dataset, target.model):
        expect_contents(examples, target.chunk, reader)
    encoded = encode_chunk(
        examples,
        run.token_kinds,
        dataset=target.dataset,
        model=target.model,
        reader=reader,
        batch_size=run.options.batch_size,
        device=run.device,
        memory_budget=run.memory_budget,
        step=lambda done, total: run.log(f"{done} of {total} examples encoded"),
        **_settings(target, run.options),
    )
    return {
        (SPARSE_ACTIVATIONS.name, kind): Result(
            encoded.artifacts[kind],
            Expected(encoded.rows_per_example[kind], limits=_limits(target.model), elsewhere=encoded.elsewhere),
        )
        for kind in run.token_kinds
    }


def _settings(target: Target, options: Any) -> dict[str, Any]:
    """k_stored (None: all), precision and forward_batch, with the catalog's values filled in."""
    assert isinstance(options, EncodeOptions)
    k_stored = target.model.k_stored if options.k_stored is None else options.k_stored or None
    return {
        "k_stored": k_stored,
        "precision": options.precision or target.model.precision,
        "forward_batch": options.forward_batch or target.model.forward_batch,
    }


def _identity(target: Target, options: Any) -> dict[str, str] | None:
    encoder = encoder_hash(target.dataset, target.model, target.token_kind, _settings(target, options))
    return None if encoder is None else {"encoder": encoder}


def _catalog_keys(target: Target) -> dict[str, Any]:
    """The settings, and where in the transformer rows are read and how texts become tokens: files are not looked at."""
    names = ("layer", "hidden_state", "module", "max_tokens", "prepend_bos")
    read = {name: getattr(target.model, name) for name in names}
    return {**_settings(target, EncodeOptions()), **read, "format": target.model.sae.format}


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


def _outside(target: Target, sources: Sources, _options: Any) -> dict[str, str]:
    if target.token_kind not in target.dataset.embeddings.get(target.model.name, {}):
        return {}
    ids = sources.manifest(target).example_ids
    return outside_hashes(target.dataset, target.model, target.token_kind, ids)


def _expected_of_kept(target: Target, kept: "Stored", sources: Sources) -> Expected:
    """What a file that was encoded earlier has to satisfy, without encoding anything."""
    if kept.provenance.config.get("imported"):  # the model's files need not be here
        return Expected(limits=_limits(target.model))
    elsewhere = trained_elsewhere(open_sae(target.model.sae).hook_point, target.model)
    rows = rows_per_example(target.token_kind, target.dataset, target.model, sources.reader(target.dataset))
    return Expected(rows, limits=_limits(target.model), elsewhere=elsewhere)


def _limits(model: Model) -> dict[str, Any]:
    return {"max_dropped_mass": model.max_dropped_mass}


def _little_mass_dropped(artifact: Any, expected: Expected) -> Outcome:
    share = artifact.dropped_mass / artifact.total_mass if artifact.total_mass else 0.0
    limit = expected.limits["max_dropped_mass"]
    return Outcome(share <= limit, {"dropped_mass_share": share, "max_dropped_mass": limit})


def _read_where_trained(_artifact: Any, expected: Expected) -> Outcome:
    return Outcome(not expected.elsewhere, {"sae": expected.elsewhere or "no other place is named"})


def ratios(**parts: tuple[float, float]) -> dict[str, float]:
    """Quotients by name; one that does not exist, of a chunk without rows or entries, is left out."""
    return {name: top / bottom for name, (top, bottom) in parts.items() if bottom}


def sparse_counts(artifact: Any) -> dict[str, Any]:
    """Figures of sparse rows: how many there are and how sparse they are."""
    units = artifact.unit_ids.unique().numel()
    return {
        "rows": artifact.n_rows,
        "examples": artifact.n_examples,
        "units": artifact.n_units,
        "entries": artifact.n_entries,
        "active_units": units,
        "coverage": units / artifact.n_units,
        **ratios(mean_entries_per_row=(artifact.n_entries, artifact.n_rows)),
    }


def _counts(artifact: Any) -> dict[str, Any]:
    active = int(artifact.l0.sum())
    return {
        **sparse_counts(artifact),
        "k_stored": artifact.k_stored if artifact.k_stored is not None else "all",
        **ratios(
            l0=(active, artifact.n_rows),
            truncated_rows_share=(artifact.n_truncated_rows, artifact.n_rows),
            dropped_entries_share=(artifact.n_dropped_entries, active),
            dropped_mass_share=(artifact.dropped_mass, artifact.total_mass),
        ),
        "examples_cut_to_max_tokens": artifact.n_cut_examples,
        "tokens_cut": artifact.n_cut_tokens,
    }


SPARSE_ACTIVATIONS = Stage(
    name="sparse_activations",
    level="chunk",
    description="SAE activations of every row, sparse, from one pass of the transformer.",
    make=_make,
    chunk_inputs=("examples",),
    settings=_settings,
    catalog_keys=_catalog_keys,
    identity=_identity,
    outside=_outside,
    options=EncodeOptions,
    every_kind=True,
    kept_if_current=True,
    expected_of_kept=_expected_of_kept,
    pool="gpu",
    checks=(
        ROW_COUNTS,
        Check(
            "little_mass_dropped",
            "k_stored drops at most `max_dropped_mass` (catalog) of the activation mass.",
            _little_mass_dropped,
            blocking=False,
        ),
        Check(
            "read_where_trained",
            "Rows come from the place that the SAE's checkpoint names as its own, where it names one.",
            _read_where_trained,
            blocking=False,
        ),
    ),
    counts=_counts,
)
