"""A report as a person takes it away: the page as it lies in the store, and what is not of one artifact alone.

That is what its stages took, which the history tells, and how the data set's other results compare.
"""

from pathlib import Path
from typing import Any

from upath import UPath

from sae_assets.catalog import match_name
from sae_assets.commands.comparing import NOTE, compare, label_of, others_of
from sae_assets.commands.requests import token_kinds_among
from sae_assets.commands.session import Session
from sae_assets.errors import SaeAssetsError
from sae_assets.orchestration.history import taken_by
from sae_assets.pages.rendering import with_more
from sae_assets.pipeline.stages import STAGES, stages_of
from sae_assets.storage.address import Address
from sae_assets.storage.atomic import write_atomically

FOLDER = "reports"


def write_report(
    session: Session, dataset: str, model: str, token_kind: str | None, file: Path | None
) -> dict[str, Any]:
    """Write the report of a data set and model, and say where, and why it is stale if it is.

    Args:
        token_kind: default: the data set's first, patch or token.
        file: default: one of the home's own.

    Raises:
        CatalogError: unknown names; SaeAssetsError: it was not made.
    """
    dataset = match_name(dataset, session.catalog.datasets, "data set")
    entry = session.catalog.datasets[dataset]
    model = match_name(model, entry.models, f"model of {dataset}")
    kind = token_kinds_among(session.catalog, dataset, [token_kind] if token_kind else ())[0]
    address = STAGES["report"].address(dataset, kind, model)
    if session.store.find(address) is None:
        raise SaeAssetsError(f"{address} has not been made. Run: {address.making}")
    chunks = session.chunks_of(dataset)
    taken = {
        name: taken_by(session.instance, STAGES[name].address(dataset, kind, model), chunks)
        for name in stages_of(entry)
        if STAGES[name].has_token_kind
    }
    page = with_more(
        session.store.read(address).artifact.html,
        taken={name: each for name, each in taken.items() if each.seconds},
        compared=_compared(session, address),
        note=NOTE,
    )
    file = file or session.settings.home / FOLDER / dataset / kind / f"{model}.html"
    write_atomically(UPath(file), page.encode())
    stale = session.outlook(dataset).reason(address) or None
    return {"report": str(address), "page": str(file), "stale": stale, "making": address.making if stale else None}


def _compared(session: Session, address: Address) -> dict[str, Any] | None:
    """Return the data set's other results beside these; None where there is none."""
    others = others_of(session, address)
    return compare(session, [label_of(address), *others]) if others else None
