"""The rule of who waits for whom stands once: changed there, it is changed for everybody who decides or makes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sae_assets.commands.session import Session, open_session
from sae_assets.errors import DatasetError, SaeAssetsError
from sae_assets.pipeline.planning import Outlook
from sae_assets.pipeline.stage import Pass
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address
from sae_assets_tests.helpers.homes import Homes
from sae_assets_tests.pipeline.deciders import Named, Switch, named

FIRST, SECOND = (Address("small", "sparse_activations", "patch", "clip-mini", chunk) for chunk in ("0000", "0001"))
BOTH = named([FIRST, SECOND])


@pytest.fixture
def session(made_home: Homes, tmp_path: Path) -> Iterator[Session]:
    """A home in which two chunks are still to be encoded, of patches alone."""
    places = made_home(tmp_path, "labels")
    with open_session(places["home"], places["catalog"]) as opened:
        yield opened


def waits_for_the_chunk_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let activations of the second chunk wait for those of the first, by the one rule and nowhere else."""
    reads = Outlook.reads

    def with_the_first(outlook: Outlook, address: Address) -> Iterator[Address]:
        yield from reads(outlook, address)
        if address == SECOND:
            yield FIRST

    monkeypatch.setattr(Outlook, "reads", with_the_first)


def first_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = STAGES[FIRST.stage]

    def make(work: Pass) -> object:
        if work.target.address.chunk == FIRST.chunk:
            raise DatasetError("cannot be encoded")  # of this chunk alone
        return stage.make(work)

    monkeypatch.setitem(STAGES, FIRST.stage, replace(stage, make=make))


def tried_by_command(session: Session) -> Named:
    """Activations that the command tries to make."""
    tried: Named = set()
    with pytest.raises(SaeAssetsError, match="cannot be encoded"):
        session.materialize(
            ["small"], last=FIRST.stage, on_batch=lambda batch, *_: tried.update(named(batch.addresses) & BOTH)
        )
    return tried


def test_follow_asks_for_what_waits_for_nothing(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Switch(session, "small").follow() & BOTH == BOTH
    waits_for_the_chunk_before(monkeypatch)
    assert Switch(session, "small").follow() & BOTH == named([FIRST])


@pytest.mark.parametrize("rule", [False, True])
def test_nobody_makes_what_waits_for_a_failure(
    session: Session, monkeypatch: pytest.MonkeyPatch, *, rule: bool
) -> None:
    """Only with the rule: the second chunk needs nothing of the first."""
    if rule:
        waits_for_the_chunk_before(monkeypatch)
    first_fails(monkeypatch)
    assert tried_by_command(session) == (named([FIRST]) if rule else BOTH)
    path = session.store.find(SECOND)
    assert (path is None) is rule
    if path is not None:
        path.unlink()
    for asked in (Switch(session, "small").follow(), Switch(session, "small").backfill()):
        assert asked & BOTH == (set() if rule else named([SECOND]))
