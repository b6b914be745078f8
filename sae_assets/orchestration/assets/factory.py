"""The factory: every data set of the catalog, times its token kinds, times the stages, to Dagster's assets.

Each pass is one definition: most passes make one asset, some make two stages or all token kinds at once, and then each
of their assets can be selected alone. What a run of a pass does is in ``passes``.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.catalog.names import name_of
from sae_assets.orchestration.assets.passes import PassAssets, carry_out
from sae_assets.orchestration.checks import specs
from sae_assets.orchestration.config import config_of, options_from
from sae_assets.orchestration.io_manager import CHUNKS, OPTIONAL
from sae_assets.orchestration.partitions import CHUNK, MODEL, along, asset_key_of, partitions_of
from sae_assets.orchestration.resources import ComputeResource, StoreResource
from sae_assets.orchestration.retries import retrying_transient
from sae_assets.pipeline.options import Options
from sae_assets.pipeline.stage import Stage, Target
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.storage.html import KINDS as PAGES
from sae_assets.storage.provenance import digest

# Beta in Dagster 1.13; without it a rerun with the same content would make everything after it stale.
warnings.filterwarnings("ignore", message=r".*`data_version`.*", category=dg.BetaWarning)


def passes_of(catalog: Catalog, entry: Dataset) -> Iterator[PassAssets]:
    """Yield every pass of a data set. The names are those of Dagster's ops, by which a run is configured."""
    kinds: Sequence[str | None]
    stages = [STAGES[name] for name in stages_of(entry)]
    for stage in stages:
        sharing = [other for other in stages if stage.shared and other.shared == stage.shared]
        if sharing and sharing[0] is not stage:
            continue
        if stage.every_kind:
            outputs: dict[str, tuple[Stage, str | None]] = {kind: (stage, kind) for kind in entry.token_kinds}
            outputs |= {f"{kind}__{each.name}": (each, kind) for each in sharing[1:] for kind in entry.token_kinds}
            yield PassAssets(catalog, entry, name_of(entry.name, stage.name), outputs)
            continue
        kinds = entry.token_kinds if stage.has_token_kind else (None,)
        for kind in kinds:
            name = "__".join(part for part in (entry.name, kind, stage.shared or stage.name) if part)
            yield PassAssets(
                catalog,
                entry,
                name,
                {each.name: (each, kind) for each in sharing} if sharing else {"result": (stage, kind)},
            )


def configured_version(catalog: Catalog, entry: Dataset, stage: Stage, token_kind: str | None) -> str:
    """Return the code version of an asset in Dagster: the stage's own, and a digest of what the catalog configures.

    So Dagster's marker tells of an edited catalog as soon as its definitions are loaded. One asset covers all models
    of a data set; where models differ, ``marker.tell`` corrects the marker partition by partition.
    """
    models: Sequence[str | None] = entry.models if stage.has_token_kind else (None,)
    targets = {model or "": Target(catalog, stage.address(entry.name, token_kind, model)) for model in models}
    configured = {model: stage.configured(target) for model, target in targets.items()}
    return f"{stage.code_version}-{digest(configured)[:8]}"


def build_assets(catalog: Catalog) -> Iterator[dg.AssetsDefinition]:
    """Yield all assets of a catalog."""
    for entry in catalog.datasets.values():
        for one_pass in passes_of(catalog, entry):
            yield _definition(one_pass)


def _definition(one_pass: PassAssets) -> dg.AssetsDefinition:
    partitions = partitions_of(one_pass.stage, one_pass.entry)
    define = dg.multi_asset(
        name=one_pass.name,
        outs={
            name: dg.AssetOut(key=one_pass.key(name), is_required=False, **_shown(one_pass, *output))
            for name, output in one_pass.outputs.items()
        },
        ins=dict(_inputs(one_pass)),
        partitions_def=partitions,
        check_specs=[
            spec
            for name, (stage, _) in one_pass.outputs.items()
            for spec in specs(stage, one_pass.key(name), partitions)
        ],
        can_subset=len(one_pass.outputs) > 1,
        pool=one_pass.stage.pool,
        required_resource_keys={"compute", "artifact_store"},
        config_schema=_schema(one_pass.stage.options),
    )
    return define(retrying_transient(_body(one_pass)))


def _body(one_pass: PassAssets) -> Callable[..., Any]:
    """Return what Dagster calls. What it may be given stands in ``_schema``, once for all assets."""
    options_class = one_pass.stage.options

    def body(context: dg.AssetExecutionContext, **inputs: Any):
        compute: ComputeResource = context.resources.compute
        artifact_store: StoreResource = context.resources.artifact_store
        op_config = context.op_execution_context.op_config if options_class.model_fields else None
        options = (
            options_class() if op_config is None else options_from(config_of(options_class)(**op_config), options_class)
        )
        yield from carry_out(one_pass, context, options, compute, artifact_store.store, inputs)

    return body


@cache
def _schema(options: type[Options]) -> dict[str, dg.Field] | None:
    """Return what a run can be given, as Dagster has it; None: nothing."""
    return config_of(options).to_fields_dict() if options.model_fields else None


def _inputs(one_pass: PassAssets) -> Iterator[tuple[str, dg.AssetIn]]:
    """Yield inputs by stage name, with the built-in partition mappings; chunks of a model-level stage arrive lazily."""
    level = one_pass.stage.level
    for name in stages_of(one_pass.entry, one_pass.stage.inputs):
        mapping, metadata, input_level = None, None, STAGES[name].level
        if name in one_pass.stage.optional_inputs:
            metadata = OPTIONAL
        if level == "model" and input_level == "chunk":
            mapping, metadata = along(MODEL), CHUNKS
        elif level == "model" and input_level == "dataset-chunk":
            mapping, metadata = dg.AllPartitionMapping(), CHUNKS
        elif level == "chunk" and input_level == "model":
            mapping = along(MODEL)
        elif level == "chunk" and input_level == "dataset-chunk":
            mapping = along(CHUNK)
        key = asset_key_of(one_pass.entry.name, one_pass.token_kind, STAGES[name])
        yield name, dg.AssetIn(key=key, partition_mapping=mapping, metadata=metadata)


def _shown(one_pass: PassAssets, stage: Stage, token_kind: str | None) -> dict[str, Any]:
    """Return what the UI shows of an asset. Groups are per token kind: the lineage shows only the last part of a
    key."""
    kind = {"token_kind": token_kind} if token_kind else {}
    about = f"\n\nData set {one_pass.entry.name}: {one_pass.entry.description}" if one_pass.entry.description else ""
    return {
        "description": stage.description + about,
        "group_name": "__".join(part for part in (one_pass.entry.name, token_kind) if part),
        "code_version": configured_version(one_pass.catalog, one_pass.entry, stage, token_kind),
        "kinds": _kinds(stage),
        "tags": {"dataset": one_pass.entry.name, "stage": stage.name, **kind},
        "owners": list(one_pass.entry.owners),
    }


def _kinds(stage: Stage) -> set[str]:
    """Return what it is made with and what its files are."""
    if stage.name in PAGES:
        return {"html"}
    return {"pytorch", "parquet"} if stage.has_token_kind else {"parquet"}
