"""``sparse_activations``: all token kinds' rows of a chunk from one forward pass, through the SAE, sparse.

One multi-asset per data set; each token kind can be selected alone. What is up to date is not encoded again.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Dataset, Model
from sae_assets.errors import MismatchError, StoredFileError
from sae_assets.orchestration.assets.dataset_assets import GPU_POOL, Graph
from sae_assets.orchestration.checks import Expected, specs
from sae_assets.orchestration.config import EncodeConfig
from sae_assets.orchestration.metadata import IMPORTED, Clock
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient

if TYPE_CHECKING:
    from sae_assets.storage.provenance import Provenance
    from sae_assets.storage.store import ArtifactStore, Stored

STAGE = "sparse_activations"
ENCODE_IMPORTED = (
    "Import it again (sae-assets import), or encode it anew (materialize --force; in the launchpad `force: true`)."
)


def build(graphs: Mapping[str, Graph]) -> dg.AssetsDefinition:
    """The multi-asset of all token kinds of one data set (``graphs`` by token kind)."""
    first = next(iter(graphs.values()))

    @dg.multi_asset(
        name=f"{first.dataset}__{STAGE}",
        outs={
            kind: dg.AssetOut(key=graph.key(STAGE), is_required=False, **graph.description(STAGE))
            for kind, graph in graphs.items()
        },
        ins=first.inputs(STAGE),
        partitions_def=first.partitions(STAGE),
        check_specs=[
            spec for graph in graphs.values() for spec in specs(STAGE, graph.key(STAGE), graph.partitions(STAGE))
        ],
        can_subset=True,
        pool=GPU_POOL,
    )
    @retrying_transient
    def sparse_activations(
        context: dg.AssetExecutionContext,
        config: EncodeConfig,
        compute: ComputeResource,
        artifact_store: StoreResource,
        examples,
    ):
        from sae_assets.rows.encoding import RowsPerKind, encode_chunk
        from sae_assets.rows.source import precomputed_kinds

        clock = Clock()
        device = compute.torch_device
        dataset, model = (first.dataset, first.entry), first.model_of(context)
        settings = config.result_for(model[1])
        wanted = [kind for kind, graph in graphs.items() if graph.key(STAGE) in context.selected_asset_keys]
        kept: dict[str, Stored] = {}
        for kind in () if config.force else wanted:
            there = _kept(graphs[kind], context, artifact_store.store, examples, settings)
            if there is not None:
                kept[kind] = there
        due = [kind for kind in wanted if kind not in kept]
        found = RowsPerKind({}, {})
        if due and not set(due) <= precomputed_kinds(first.entry, model[0]):
            first.expect_contents(examples.artifact, first.address(context, STAGE).chunk or "")
        if due:
            found = encode_chunk(
                examples.artifact,
                due,
                dataset=dataset,
                model=model,
                batch_size=config.batch_size,
                device=device,
                memory_budget=compute.memory_budget,
                step=lambda done, total: context.log.info(f"{done} of {total} examples encoded"),
                **settings,
            )
        # Only now, so that an encoding that is tried again hands nothing on twice.
        for kind, item in kept.items():
            context.log.info(f"{item.provenance.fingerprint[:12]} of {kind} rows is up to date: nothing is encoded")
            yield from graphs[kind].emit(
                context, STAGE, item.artifact, item.provenance, clock=None, store=artifact_store, output=kind,
                expected=_expected_of(item, kind, dataset, model),
            )  # fmt: skip
        for kind in due:
            provenance = _provenance(graphs[kind], context, examples, settings)
            assert provenance is not None  # the checkpoint was just read
            yield from graphs[kind].emit(
                context, STAGE, found.artifacts[kind], provenance, clock=clock, store=artifact_store, device=device,
                output=kind, expected=Expected(
                    found.rows_per_example[kind], model[1].max_dropped_mass, elsewhere=found.elsewhere
                ),
            )  # fmt: skip

    return sparse_activations


def _provenance(
    graph: Graph, context: dg.AssetExecutionContext, examples: "Stored", settings: dict[str, Any]
) -> "Provenance | None":
    """Of what would be encoded; None while the SAE is not on this machine."""
    from sae_assets.pipeline.recipes import encoder_hash
    from sae_assets.rows.identity import outside_hashes

    model = graph.model_of(context)
    encoder = encoder_hash(graph.entry, model, graph.token_kind, settings)
    if encoder is None:
        return None
    ids = examples.artifact.example_ids
    outside = outside_hashes((graph.dataset, graph.entry), model[0], graph.token_kind, ids)
    inputs, identity = {"examples": examples}, {"encoder": encoder}
    return graph.provenance(context, STAGE, inputs, settings, identity=identity, outside=outside)


def _kept(
    graph: Graph,
    context: dg.AssetExecutionContext,
    store: "ArtifactStore",
    examples: "Stored",
    settings: dict[str, Any],
) -> "Stored | None":
    """The file that is there, if it is whole and what would be encoded now.

    A person, or a backfill over everything, may ask for what is there: that is not worth the hours of encoding.

    Raises:
        MismatchError: it was imported, so that nothing here can make it again, and its examples have changed since.
        StoredFileError: it was imported and is damaged.
    """
    from sae_assets.pipeline.recipes import is_as_made_now

    address = graph.address(context, STAGE)
    try:
        found = None if store.find(address) is None else store.header(address).provenance
    except StoredFileError as error:
        if _was_imported(context, graph.key(STAGE)):
            raise StoredFileError(str(error), [ENCODE_IMPORTED]) from None
        found = None
    if found is None:
        return None
    imported = found.config.get("imported")
    due = None if imported else _provenance(graph, context, examples, settings)
    if not is_as_made_now(found, due.fingerprint if due else None, examples):
        if imported:
            raise MismatchError(f"{address} was imported and its examples have changed since. {ENCODE_IMPORTED}")
        return None
    try:
        return store.read(address)
    except StoredFileError:
        if imported:
            raise
        return None


def _was_imported(context: dg.AssetExecutionContext, key: dg.AssetKey) -> bool:
    """Whether Dagster's history says so: of a file whose own header cannot be read."""
    wanted = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[context.partition_key])
    for record in context.instance.fetch_materializations(wanted, limit=1).records:
        made = record.asset_materialization
        return made is not None and "kept" in made.metadata and made.metadata["kept"].value == IMPORTED
    return False


def _expected_of(kept: "Stored", kind: str, dataset: tuple[str, Dataset], model: tuple[str, Model]) -> Expected:
    """What a file that was encoded earlier has to satisfy, found without encoding anything."""
    from sae_assets.rows.encoding import trained_elsewhere
    from sae_assets.rows.truth import rows_per_example
    from sae_assets.saes import open_sae

    limit = model[1].max_dropped_mass
    if kept.provenance.config.get("imported"):  # the model's files need not be here
        return Expected(None, limit)
    elsewhere = trained_elsewhere(open_sae(model[1].sae).hook_point, model[1])
    return Expected(rows_per_example(kind, dataset, model), limit, elsewhere=elsewhere)
