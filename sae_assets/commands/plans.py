"""A plan says what a command would make and why, as plain values: ``materialize`` begins with the same one."""

from collections.abc import Callable, Sequence
from typing import Any

from sae_assets.commands.forecasts import expected
from sae_assets.commands.requests import token_kinds_among
from sae_assets.commands.session import Planned, Session
from sae_assets.storage.address import Address

FORCED = "current, and --force is given"


def kinds(session: Session, datasets: Sequence[str] | None, asked: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Return by data set the token kinds that are asked for, and those that are left as they are.

    Args:
        asked: as ``Session.materialize`` takes it.

    Raises:
        CatalogError: an unknown data set or kind.
    """
    by_dataset = {}
    for name in session.dataset_names(datasets):
        due_kinds = token_kinds_among(session.catalog, name, asked)
        by_dataset[name] = {"made": due_kinds, "left": [kind for kind in session.catalog.datasets[name].token_kinds
                                              if kind not in due_kinds]}  # fmt: skip
    return by_dataset


def told(
    session: Session, planned: Sequence[Planned], on_wait: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return by data set ``new_chunks`` to be registered, ``runs`` (their ``artifacts`` and why each), and the rest.

    ``later`` is to be made, too, but waits for something that may change meanwhile; ``may_follow`` is current, and is
    made if what it reads comes out otherwise; ``left_out`` was imported and would be replaced, so an error says so;
    ``expected`` is what it will probably cost.
    """
    return {
        each.outlook.scope.dataset: {**_told(each), "expected": expected(session, each, on_wait)} for each in planned
    }


def _told(planned: Planned) -> dict[str, Any]:
    outlook, plan = planned.outlook, planned.plan
    sequence = plan.in_sequence
    now = {address for batch in sequence for address in batch.addresses}

    def why(address: Address) -> dict[str, Any]:
        parts = {"stage": address.stage, "token_kind": address.token_kind, "model": address.model,
                 "chunk": address.chunk}  # fmt: skip
        return {"artifact": str(address), **parts, "why": outlook.reason(address) or FORCED}

    return {
        "new_chunks": list(planned.fresh),
        "runs": [
            {"label": batch.label, "artifacts": [why(address) for address in batch.addresses]} for batch in sequence
        ],
        "later": [why(address) for address in sorted(plan.addresses - now, key=str)],
        "may_follow": [str(address) for address in plan.may_follow],
        "left_out": [why(address) for address in sorted(plan.left_out, key=str)],
    }
