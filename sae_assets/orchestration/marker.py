"""Telling Dagster what is stale, so that its own marker says what the command, ``status`` and the switches say.

Dagster compares the code and input versions that a materialization recorded with those of now. It cannot know that an
SAE's file or a table's labels changed, or that a file was deleted, and it takes an aggregate for stale whose new chunk
holds nothing that it reads. Where the marker would be wrong, the last materialization is recorded anew without a run:
with the same data version, figures and picture, and with versions by which the marker comes out right.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any

import dagster as dg

from sae_assets.orchestration.internals import StaleMarker
from sae_assets.orchestration.partitions import asset_key, partition_key
from sae_assets.pipeline.planning import Outlook
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address

MOST_LOOKED_AT = 2000  # current chunk partitions of one asset whose record is read; of more, only those due are
# By home and asset what the last look of this process saw: the newest record, the code version, and what was due.
_LOOKED_AT: dict[tuple[str, dg.AssetKey], tuple[int, str, frozenset[str]]] = {}


def tell(instance: dg.DagsterInstance, asset_graph: Any, outlook: Outlook) -> list[Address]:
    """Make Dagster's marker agree with an outlook; the artifacts whose marker was changed.

    What failed, was interrupted or is running is left alone, and so is what Dagster never made, which it calls missing.
    """
    marker = StaleMarker(instance, asset_graph)
    latest_ids = cache(marker.latest_ids)
    changed: list[Address] = []
    by_asset: dict[dg.AssetKey, dict[str, Address]] = {}
    for address in outlook.scope.addresses():
        if outlook.state(address) not in ("failed", "interrupted", "running"):
            by_asset.setdefault(asset_key(address), {})[partition_key(address)] = address
    for key, addresses in by_asset.items():
        latest = latest_ids(key)
        looked_at, version = (instance.root_directory, key), marker.code_version(key)
        newest, looked_version, was_due = _LOOKED_AT.get(looked_at, (0, "", frozenset()))
        recorded = {partition: address for partition, address in addresses.items() if partition in latest}
        inputs: dict[str, int] = {}  # number of the newest record of what a chunk's artifact reads
        if STAGES[key.path[-1]].level != "model" and len(recorded) <= MOST_LOOKED_AT:
            for partition, address in recorded.items():
                read = [latest_ids(asset_key(each)).get(partition_key(each), 0) for each in outlook.reads(address)]
                inputs[partition] = max(read, default=0)
        unknown = {
            each
            for each in recorded
            if max(latest[each], inputs.get(each, 0)) > newest or version != looked_version or each in was_due
        }
        overtaken = {partition for partition, newest_input in inputs.items() if newest_input > latest[partition]}
        for record, address in _doubtful(marker, key, recorded, unknown, overtaken, outlook):
            reason = outlook.reason(address)
            if bool(reason) != marker.is_stale(record):
                marker.say(record, stale=reason)
                changed.append(address)
        due = frozenset(partition for partition, address in recorded.items() if outlook.is_due(address))
        _LOOKED_AT[looked_at] = (max((*latest.values(), *inputs.values()), default=0), version, due)
    return changed


def _doubtful(
    marker: StaleMarker,
    key: dg.AssetKey,
    recorded: Mapping[str, Address],
    unknown: Collection[str],
    overtaken: Collection[str],
    outlook: Outlook,
) -> Iterator[tuple[dg.EventLogRecord, Address]]:
    """Yield latest materializations whose marker may be wrong: due ones, other code versions, and all aggregates.

    Args:
        unknown: partitions of which an earlier look of this process did not see that they are right.
        overtaken: those of which an input was made since. Dagster compares that with the input as it was then, which
            somebody may have wiped from its history.
    """
    aggregate = STAGES[key.path[-1]].level == "model"
    few = len(recorded) <= MOST_LOOKED_AT
    chosen = [
        partition
        for partition, address in recorded.items()
        if aggregate or outlook.is_due(address) or (few and partition in unknown)
    ]
    version = marker.code_version(key)
    for record in marker.recorded(key, chosen):
        address = recorded[str(record.partition_key)]
        changed = marker.versions_of(record)[0] != version
        if aggregate or changed or record.partition_key in overtaken or outlook.is_due(address):
            yield record, address
