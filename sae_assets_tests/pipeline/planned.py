"""What a backfill of data set ``small`` would launch, and the states behind it, by asset key and partition."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import dagster as dg

from sae_assets.commands.session import Session
from sae_assets.commands.status import states
from sae_assets.orchestration.history import history_of
from sae_assets.orchestration.partitions import address_of
from sae_assets.pipeline.planning import Outlook, Plan, Scope
from sae_assets.pipeline.staleness import Staleness
from sae_assets.storage.address import Address
from sae_assets.storage.snapshot import StoreSnapshot
from sae_assets_tests.pipeline.deciders import Named, named

Partitions = Mapping[dg.AssetKey, Collection[str]]


def states_of(session: Session) -> dict[str, dict[str, str]]:
    """State by chunk (or "all") by "token kind/model/stage"."""
    stages: dict[str, dict[str, str]] = states(session, ["small"])["small"]["stages"]
    return stages


def all_states(session: Session) -> set[str]:
    return {state for chunks in states_of(session).values() for state in chunks.values()}


def plan_of(
    session: Session, *, limit: int = 1000, failed: Partitions | None = None, unchecked: Partitions | None = None
) -> Plan:
    """The plan of a backfill.

    Args:
        failed: partitions that failed, in place of those that the history tells of.
        unchecked: partitions of which a check did not pass.
    """
    chunks = session.chunks_of("small")
    history = replace(
        history_of(session.instance, session.catalog.datasets["small"]),
        recorded=None, failed=addresses(failed), unchecked=addresses(unchecked),
    )  # fmt: skip
    staleness = Staleness(session.catalog, StoreSnapshot(session.store), {"small": chunks})
    return Outlook(Scope.whole(session.catalog, "small", chunks), staleness, history).plan(limit=limit)


def launched(plan: Plan) -> Named:
    """What a backfill of this plan makes."""
    return named(address for batch in plan.in_sequence for address in batch.addresses)


def addresses(partitions: Partitions | None) -> set[Address]:
    return {address_of(key.path, name) for key, names in (partitions or {}).items() for name in names}


def failed_artifacts(session: Session) -> Named:
    """What the history tells of as failed and not to be tried again by itself."""
    return named(history_of(session.instance, session.catalog.datasets["small"]).failed)


def only(found: Named, *stages: str) -> Named:
    """Those of some stages."""
    return {(key, partition) for key, partition in found if key.rsplit("/", 1)[-1] in stages}


def keys(found: Iterable[tuple[str, str]]) -> set[str]:
    return {key for key, _ in found}
