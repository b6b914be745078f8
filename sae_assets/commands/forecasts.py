"""Earlier runs of this home tell what a plan is expected to cost, stage by stage, as plain values."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from sae_assets.catalog import Dataset
from sae_assets.commands.calibration import ENCODING, Calibration, Costs, calibrated, few_of
from sae_assets.commands.rehearsal import rehearsed
from sae_assets.commands.session import Planned, Session
from sae_assets.pipeline.forecast import Cost, effort_of, forecast, peak_after
from sae_assets.pipeline.stage import Sources, Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.storage.address import Address


def expected(session: Session, planned: Planned, on_wait: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """``stages``: of each stage, token kind and model how many runs make it, and what all of them are expected to cost.

    ``rows``, ``bytes`` and ``cpu_seconds`` are sums, ``peak_bytes`` is the largest; None where nothing tells. ``by``
    says what tells: ``history``, the data set whose history does, or ``calibration``: some examples were encoded now.
    ``total`` is over the stages of which it is known, ``unknown`` counts those of which the seconds are not.

    Args:
        on_wait: told before examples are encoded.
    """
    addresses = [address for address in planned.outlook.scope.addresses() if address in planned.plan.addresses]
    sharing = Counter(map(_pass_of, addresses))
    places: dict[tuple[str | None, str | None, str], list[Address]] = {}
    for address in addresses:
        places.setdefault((address.token_kind, address.model, address.stage), []).append(address)

    @cache
    def of_model(model: str) -> Calibration:
        on_wait(f"{model} encoded nothing here yet: some examples are encoded now to see what they cost.")
        first = next(address for address in addresses if address.model == model and _pass_of(address)[0] == ENCODING)
        return calibrated(session, planned, [each for each in addresses if _pass_of(each) == _pass_of(first)])

    @cache
    def of_all(model: str) -> Costs:
        encoded = next((address for address in addresses if address.model == model and address.stage == ENCODING), None)
        if encoded is None:
            return {}
        past, now = _past(session, encoded)[1], Calibration()
        if not past:
            now = of_model(model)
            past = now.costs.get((ENCODING, str(encoded.token_kind)), [])
        count = few_of(past, sum(planned.examples.values()))
        kinds = tuple(dict.fromkeys(each.token_kind for each in addresses if each.model == model and each.token_kind))
        return rehearsed(session, planned, encoded, kinds, count, now.opening)

    models = dict.fromkeys(address.model for address in addresses if address.stage == ENCODING)
    stages, sources = [], Sources(session.store.root)
    growth = 0.0  # bytes that passes so far are expected to take beyond what they took
    for (kind, model, name), members in places.items():
        by, past = _past(session, members[0])
        if not past and _pass_of(members[0])[0] == ENCODING:
            few = of_model(str(model)).costs.get((name, str(kind)), [])
            past = _with_more(few, of_all(str(model)).get((name, str(kind)), []))
            by = "calibration" if past else None
        elif not past:  # what is of no model, such as labels, every model's rehearsal makes
            pasts = (of_all(each).get((name, kind or ""), []) for each in models if model in (None, each))
            past = next(filter(None, pasts), [])
            by = "calibration" if past else None
        effort = effort_of(STAGES[name], Target(session.catalog, members[0]), sources)
        costs = [
            forecast(
                STAGES[name],
                past,
                _examples(planned, address),
                sharing[_pass_of(address)],
                first=number == 0,
                effort=effort,
            ).figures
            for number, address in enumerate(members)
        ]
        figures = _together(costs)
        if figures["peak_bytes"] is not None:
            figures["peak_bytes"], growth = peak_after(figures["peak_bytes"], past, growth)
        parts = {"stage": name, "token_kind": kind, "model": model, "runs": len(members)}
        stages.append({**parts, **figures, "by": by})
    forecast_stages = [each for each in stages if each["cpu_seconds"] is not None]
    return {"stages": stages, "total": {**_together(forecast_stages), "unknown": len(stages) - len(forecast_stages)}}


def _with_more(few: Sequence[Cost], rehearsed: Sequence[Cost]) -> list[Cost]:
    """Return costs of encoding a few examples, with what more of them took in the rehearsal, at first and later.

    The few alone show the growth of what is drawn from a chunk's rows, which ends where as many are drawn as are to be.
    """
    costs = [cost for cost in rehearsed if cost.cpu_seconds is not None]
    opening = max((cost.opening_seconds for cost in few), default=0.0)
    return [*few, *costs, *(cost.at_first(opening) for cost in costs)] if few else []


def _pass_of(address: Address) -> tuple[Any, ...]:
    """Return what one pass makes at once."""
    stage = STAGES[address.stage]
    kind = None if stage.every_kind else address.token_kind
    return (stage.shared or stage.name, kind, address.model, address.chunk)


def _examples(planned: Planned, address: Address) -> int:
    return sum(planned.examples[chunk] for chunk in planned.outlook.chunks_read(address))


def _past(session: Session, address: Address) -> tuple[str | None, Sequence[Cost]]:
    """Return what tells the cost of an artifact, and the costs: of its data set, else its model's rows of another one.

    Rows that were made elsewhere are only read, and tell nothing of those that a transformer makes.
    """
    from sae_assets.orchestration.history import costs_of  # noqa: PLC0415 - loads Dagster

    past = costs_of(session.instance, address)
    if past:
        return "history", past
    if STAGES[address.stage].level == "chunk":
        are_read = _are_read(session.catalog.datasets[address.dataset], address)
        for name, entry in session.catalog.datasets.items():
            same = address.model in entry.models and address.token_kind in entry.token_kinds
            if same and _are_read(entry, address) is are_read:
                past = costs_of(session.instance, replace(address, dataset=name))
                if past:
                    return name, past
    return None, ()


def _are_read(entry: Dataset, address: Address) -> bool:
    """Return whether rows of this model and token kind are precomputed."""
    return address.token_kind in entry.embeddings.get(str(address.model), {})


def _together(costs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return sums of the costs, and the largest memory; None of what one of them does not say."""
    sums = {name: _sum([cost.get(name) for cost in costs]) for name in ("rows", "bytes", "cpu_seconds")}
    peaks = [cost["peak_bytes"] for cost in costs if cost.get("peak_bytes") is not None]
    return {**sums, "peak_bytes": max(peaks, default=None)}


def _sum(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers and len(numbers) == len(values) else None
