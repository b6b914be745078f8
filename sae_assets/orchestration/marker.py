"""Telling Dagster what is stale, so that its own marker says what the command, ``status`` and the switches say.

Dagster compares the code and input versions that a materialization recorded with those of now. It cannot know that an
SAE's file or a table's labels changed, or that a file was deleted, and it takes an aggregate for stale whose new chunk
holds nothing that it reads. Where the marker would be wrong, the last materialization is recorded anew without a run:
with the same data version, figures and picture, and with versions by which the marker comes out right.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from sae_assets.orchestration.internals import StaleMarker
from sae_assets.orchestration.partitions import asset_key, partition_key
from sae_assets.pipeline.planning import Outlook
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address

MOST_LOOKED_AT = 2000  # current chunk partitions of one asset whose record is read; of more, only those due are


def tell(instance: dg.DagsterInstance, asset_graph: Any, outlook: Outlook) -> list[Address]:
    """Make Dagster's marker agree with an outlook; the artifacts whose marker was changed.

    What failed or is running is left alone, and so is what Dagster never made, which it calls missing.
    """
    marker = StaleMarker(instance, asset_graph)
    changed: list[Address] = []
    by_asset: dict[dg.AssetKey, dict[str, Address]] = {}
    for address in outlook.scope.addresses():
        if outlook.state(address) not in ("failed", "running"):
            by_asset.setdefault(asset_key(address), {})[partition_key(address)] = address
    latest: dict[dg.AssetKey, Mapping[str, int]] = {}
    for key, addresses in by_asset.items():
        latest.setdefault(key, marker.latest_ids(key))
        known = {partition: address for partition, address in addresses.items() if partition in latest[key]}
        for record, address in _doubtful(marker, key, known, outlook):
            reason = outlook.reason(address) if outlook.is_due(address) else ""
            if bool(reason) != marker.is_stale(key, partition_key(address)):
                marker.say(record, stale=reason)
                changed.append(address)
    return changed


def _doubtful(
    marker: StaleMarker, key: dg.AssetKey, known: Mapping[str, Address], outlook: Outlook
) -> Iterator[tuple[dg.EventLogRecord, Address]]:
    """Latest materializations whose marker may be wrong: due ones, other code versions, and all aggregates."""
    aggregate = STAGES[key.path[-1]].level == "model"
    chosen = [
        partition
        for partition, address in known.items()
        if aggregate or len(known) <= MOST_LOOKED_AT or outlook.is_due(address)
    ]
    version = marker.code_version(key)
    for record in marker.recorded(key, chosen):
        address = known[str(record.partition_key)]
        if aggregate or outlook.is_due(address) or marker.versions_of(record)[0] != version:
            yield record, address
