"""One run of a pass reads the inputs, makes what is due, hands it on with its provenance, and checks the file.

The same for every stage; what is computed stands with the stage.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.catalog import Catalog, Dataset
from sae_assets.chunks.manifests import registered_keys, registered_since
from sae_assets.errors import MismatchError, StoredFileError
from sae_assets.orchestration.checks import evaluate
from sae_assets.orchestration.history import costs_of, was_imported
from sae_assets.orchestration.internals import launched_at
from sae_assets.orchestration.metadata import artifact_metadata, pictures
from sae_assets.orchestration.partitions import address_of, asset_key_of
from sae_assets.orchestration.resources import ComputeResource
from sae_assets.pipeline.forecast import effort_of, forecast
from sae_assets.pipeline.measuring import PassMeter
from sae_assets.pipeline.options import EncodeOptions, Options
from sae_assets.pipeline.recipes import chunks_read, imported_still_fits, is_imported, recipe
from sae_assets.pipeline.stage import Pass, Result, Sources, Stage, Target
from sae_assets.storage.address import Address
from sae_assets.storage.store import FileInPlace, stored

if TYPE_CHECKING:
    from upath import UPath

    from sae_assets.storage.chunk_reader import ChunkReader
    from sae_assets.storage.provenance import Provenance
    from sae_assets.storage.store import ArtifactStore, Stored

_CARRIED_OUT: set[str] = set()  # passes of which this process has made something
ENCODE_IMPORTED = "Import it again ({}), or encode it anew ({} --force; in the launchpad `force: true`)."


@dataclass(frozen=True)
class PassAssets:
    """One pass of a data set makes these assets.

    Attributes:
        outputs: stage and token kind (None of stages without one) by the output's name in Dagster.
    """

    catalog: Catalog
    entry: Dataset
    name: str
    outputs: dict[str, tuple[Stage, str | None]]

    @property
    def stage(self) -> Stage:
        """Return the first of its stages; those that share a pass have the same inputs, options and partitions."""
        return next(iter(self.outputs.values()))[0]

    @property
    def token_kind(self) -> str | None:
        """Return the token kind of its inputs; of a pass over all kinds no input has one."""
        return next(iter(self.outputs.values()))[1]

    def key(self, output: str) -> dg.AssetKey:
        stage, kind = self.outputs[output]
        return asset_key_of(self.entry.name, kind, stage)


def carry_out(
    one_pass: PassAssets,
    context: dg.AssetExecutionContext,
    options: Options,
    compute: ComputeResource,
    store: "ArtifactStore",
    inputs: Mapping[str, Any],
) -> Iterator[dg.Output | dg.AssetCheckResult]:
    """Make the selected outputs of a pass for the run's partition, each followed by its checks.

    Raises:
        SaeAssetsError: inputs or outside contents that cannot be used; nothing is written then.
    """
    start = time.perf_counter()
    stage = one_pass.stage
    sources = _sources(context.run.run_id, store.root)
    selected = {
        name: output for name, output in one_pass.outputs.items() if one_pass.key(name) in context.selected_asset_keys
    }
    targets = {
        name: Target(one_pass.catalog, address_of(one_pass.key(name).path, context.partition_key)) for name in selected
    }
    inputs = {name: item for name, item in inputs.items() if item is not None}  # optional ones need not be there
    if stage.level == "model":
        inputs = _read_chunks(stage, one_pass.entry.name, context, options, store, inputs)

    def provenance(name: str) -> "Provenance | None":
        return recipe(selected[name][0], targets[name], inputs, options, sources)

    current_files: dict[str, Stored] = {}
    if stage.kept_if_current and not (isinstance(options, EncodeOptions) and options.force):
        for name, target in targets.items():
            current = _current_file(
                context, one_pass.key(name), target.address, store, inputs, partial(provenance, name)
            )
            if current is not None:
                current_files[name] = current
    due = [name for name in selected if name not in current_files]
    results: Mapping[tuple[str, str], Result] = {}
    meter, first = PassMeter(), one_pass.name not in _CARRIED_OUT
    if due:
        _CARRIED_OUT.add(one_pass.name)
        kinds = tuple(dict.fromkeys(targets[name].token_kind for name in due))
        device = compute.torch_device  # loads torch, which is no pass's: whoever comes first would seem to cost it
        with meter:
            results = stage.make(
                Pass(
                    targets[due[0]],
                    inputs,
                    options,
                    sources,
                    kinds,
                    frozenset((selected[name][0].name, targets[name].token_kind) for name in due),
                    device,
                    compute.memory_budget,
                    context.log.info,
                    store,
                )
            )
    # Only now, so that a pass that is tried again hands nothing on twice.
    for name, item in current_files.items():
        context.log.info(
            f"{item.provenance.fingerprint[:12]} of {targets[name].address} is up to date: nothing is made"
        )
        expected = selected[name][0].expected_of_kept(targets[name], item, sources, store)
        yield from _handed_on(one_pass, name, context, store, item, Result(item.artifact, expected), {"kept": True})
    taken = time.perf_counter() - start
    examples = _examples_read(stage, targets[due[0]], inputs, sources) if due else 0
    for name in due:
        result = results[selected[name][0].name, targets[name].token_kind]
        made_by = provenance(name)
        assert made_by is not None  # what it needs was just read
        # Each has its share of a pass, so that what a home has cost can be summed.
        figures = {"seconds": taken / len(due), "device": str(compute.torch_device), **result.measured}
        figures |= {"cpu_seconds": meter.cpu_seconds / len(due), "examples_read": examples, "first_of_process": first}
        if meter.peak_bytes is not None:
            figures["peak_bytes"] = meter.peak_bytes
        if len(due) > 1:
            figures |= {"seconds_of_pass": taken, "cpu_seconds_of_pass": meter.cpu_seconds}
        past = costs_of(context.instance, targets[name].address)
        effort = effort_of(selected[name][0], targets[name], sources)
        probable = forecast(selected[name][0], past, examples, len(due), first=first, effort=effort).figures
        figures |= {f"expected_{figure}": value for figure, value in probable.items()}
        counts = {**selected[name][0].counts(result.artifact), **result.expected.warning}
        item = stored(result.artifact, made_by, counts)
        yield from _handed_on(one_pass, name, context, store, item, result, figures)


def _handed_on(
    one_pass: PassAssets,
    name: str,
    context: dg.AssetExecutionContext,
    store: "ArtifactStore",
    item: "Stored",
    result: Result,
    figures: Mapping[str, Any],
) -> Iterator[dg.Output | dg.AssetCheckResult]:
    """Yield the artifact for the IO manager with its metadata, then the results of its checks on what was written."""
    key, (stage, _) = one_pass.key(name), one_pass.outputs[name]
    yield dg.Output(
        FileInPlace(item) if "kept" in figures else item,
        output_name=name,
        metadata={
            **result.expected.warning,
            **pictures(stage, item.artifact, result.plot),
            **artifact_metadata(item, figures),
        },
        data_version=dg.DataVersion(item.content_hash[:20]),
    )
    selected = {check.name for check in context.selected_asset_check_keys if check.asset_key == key}
    address = address_of(key.path, context.partition_key)
    for outcome in evaluate(stage, key, store, address, result.expected):
        if outcome.check_name in selected:
            yield outcome


@lru_cache(maxsize=1)
def _sources(_run_id: str, root: "UPath") -> Sources:
    """Return outside contents, opened once per run: its passes follow each other in one process."""
    return Sources(root)


def _current_file(
    context: dg.AssetExecutionContext,
    key: dg.AssetKey,
    address: Address,
    store: "ArtifactStore",
    inputs: Mapping[str, Any],
    provenance: "Callable[[], Provenance | None]",
) -> "Stored | None":
    """Return the file that is there, if it is whole and what would be made now.

    A person may ask for what is there, and another token kind of the same pass may be due: neither is worth the hours
    of encoding.

    Raises:
        MismatchError: it was imported, so that nothing here can make it again, and its examples have changed since.
        StoredFileError: it was imported and is damaged.
    """
    try:
        made_by = None if store.find(address) is None else store.header(address).provenance
    except StoredFileError as error:
        if was_imported(context.instance, address):
            raise StoredFileError(str(error), [ENCODE_IMPORTED.format(address.importing, address.making)]) from None
        return None
    if made_by is None:
        return None
    if is_imported(made_by):
        if not imported_still_fits(made_by, inputs["examples"]):
            advice = ENCODE_IMPORTED.format(address.importing, address.making)
            raise MismatchError(f"{address} was imported and its examples have changed since. {advice}")
        return store.read(address)
    expected = provenance()
    if expected is None or made_by.fingerprint != expected.fingerprint:
        return None
    try:
        return store.read(address)
    except StoredFileError:
        return None


def _read_chunks(
    stage: Stage,
    dataset: str,
    context: dg.AssetExecutionContext,
    options: Options,
    store: "ArtifactStore",
    inputs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the inputs of a model-level stage with the chunks that it reads (see ``recipes.chunks_read``).

    Chunks that were registered after this was asked for, and are still to be made, are not among them; what they make
    stale is made again. Nor are partitions without a manifest, of which no look knows: they were added in the UI, or
    their manifest was deleted by hand.
    """
    readers: dict[str, ChunkReader] = {name: inputs[name] for name in stage.chunk_inputs}
    missing = {key for reader in readers.values() for key in reader.missing}
    left_out = missing.union(*readers.values()) - registered_keys(store.root, dataset)
    late = missing & registered_since(store.root, dataset, _asked_for(context)) if missing else set()
    if late:
        context.log.info(f"registered later, still to be made and not read: chunks {', '.join(sorted(late))}")
        left_out |= late
    if left_out:
        readers = {name: reader.without(left_out) for name, reader in readers.items()}
    return {**inputs, **chunks_read(stage, dataset, readers, allow_missing=options.allows_gaps)}


def _examples_read(stage: Stage, target: Target, inputs: Mapping[str, Any], sources: Sources) -> int:
    """Return how many examples the chunks that are read hold, of all splits."""
    if stage.level != "model":
        return len(sources.manifest(target).example_ids)
    labels = inputs["labels"]
    return sum(sum(labels.header(key).scalars["n_by_split"].values()) for key in labels)


def _asked_for(context: dg.AssetExecutionContext) -> float:
    """Return when the work of this run was asked for, seconds since the epoch: its backfill's time, else its own."""
    backfill = context.run.tags.get("dagster/backfill")
    launched = launched_at(context.instance, backfill) if backfill else None
    if launched is not None:
        return launched
    record = context.instance.get_run_record_by_id(context.run.run_id)
    # Where run storage keeps whole seconds only, the second may have just begun.
    return record.create_timestamp.timestamp() + 1 if record is not None else float("inf")
