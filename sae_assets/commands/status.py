"""The status says what is materialized, stale or missing."""

from collections.abc import Sequence
from typing import Any

from sae_assets.commands.session import Session


def states(session: Session, datasets: Sequence[str]) -> dict[str, Any]:
    """``{dataset: {"chunks": […], "stages": {"kind/model/stage": {chunk or "all": state}}}}``.

    States are current, stale (its inputs, configuration or code have changed), missing, failed (the last attempt did;
    an older file may be there), interrupted (somebody ended it) and running.
    """
    summary: dict[str, Any] = {}
    for name in datasets:
        outlook = session.outlook(name)
        stages: dict[str, dict[str, str]] = {}
        for address in outlook.scope.addresses():
            label = "/".join(part for part in (address.token_kind, address.model, address.stage) if part)
            stages.setdefault(label, {})[address.chunk or "all"] = outlook.state(address)
        summary[name] = {"chunks": list(outlook.scope.chunks), "stages": stages}
    return summary
