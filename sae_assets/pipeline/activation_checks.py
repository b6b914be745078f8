"""Checks ask beside the invariants of a chunk's activations whether the SAE reads rows that it knows."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from sae_assets.pipeline.checks import MOST_NAMED, Check, Expected, Outcome

MOST_ACTIVE = 0.25  # share of units: random signs give a half, published SAEs stay below a twentieth
FEWEST_OTHERS = 3  # chunks without which nothing is compared
MOST_TIMES = 4.0  # as large as of other rows, or as small: what L0 and norm of rows that an SAE knows may be
FEWEST_UNITS = (0.05, math.inf)  # share of the units that as many other rows have
MOST_SPREADS, MOST_APART = 6, 0.25  # unlike others is what is both this many spreads and this share of the median off


def _row_counts(artifact: Any, expected: Expected) -> Outcome:
    lengths = artifact.example_offsets.diff()
    rows = expected.rows
    comparable = rows is not None and (isinstance(rows, int) or len(rows) == len(lengths))
    wrong = int((lengths != rows).sum()) if comparable else 0 if rows is None else len(lengths)
    metadata = {"rows": artifact.n_rows, "examples": lengths.numel(), "examples_with_other_row_count": wrong}
    return Outcome(wrong == 0, metadata)


def _little_mass_dropped(artifact: Any, expected: Expected) -> Outcome:
    share = artifact.dropped_mass / artifact.total_mass if artifact.total_mass else 0.0
    limit = expected.limits["max_dropped_mass"]
    return Outcome(share <= limit, {"dropped_mass_share": share, "max_dropped_mass": limit})


def _read_where_trained(_artifact: Any, expected: Expected) -> Outcome:
    return Outcome(not expected.elsewhere, {"sae": expected.elsewhere or "nothing differs, as far as files say"})


def _activity_within_bounds(artifact: Any, expected: Expected) -> Outcome:
    """Judge without bounds from the catalog: no code breaks this that is sparse and says something of its rows.

    That all rows are alike is what goes wrong of a TopK SAE, of which every row has k active units whatever it is fed.
    """
    rows, units = artifact.n_rows, len(artifact.active_units())
    l0, coverage = int(artifact.l0.sum()) / max(rows, 1), units / artifact.n_units
    bounds, least = expected.limits.get("l0"), expected.limits.get("min_coverage")
    low, high = bounds or (0, MOST_ACTIVE * artifact.n_units)
    sparse = low <= l0 <= high and (bounds is not None or l0 > 0)
    alike = rows > 1 and units * rows <= artifact.n_entries  # the same units on each row
    diverse = not alike if least is None else coverage >= least
    shown = {"mean_l0": l0, "l0_bounds": f"{low:g} to {high:g}", "coverage": coverage, "rows_all_alike": alike}
    return Outcome(sparse and diverse, shown if least is None else {**shown, "min_coverage": least})


def _like_other_chunks(artifact: Any, expected: Expected) -> Outcome:
    shown: dict[str, Any] = {"other_chunks": max(map(len, expected.others.values()), default=0)}
    unlike = []
    for name, value in artifact.summary.items():
        others = expected.others.get(name, ())
        if len(others) < FEWEST_OTHERS:
            continue
        middle, spread = _middle_and_spread(others)
        shown |= {name: value, f"{name}_of_others": middle}
        if abs(value - middle) > max(MOST_SPREADS * spread, MOST_APART * abs(middle)):
            unlike.append(name)
    return Outcome(not unlike, {**shown, "unlike": ", ".join(unlike) or "none"})


def _middle_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return median, and the median distance from it in units of a normal distribution's standard deviation."""
    middle = statistics.median(values)
    return middle, 1.4826 * statistics.median(abs(value - middle) for value in values)


def _fits(artifact: Any, expected: Expected) -> Outcome:
    """Nothing is said of rows that do not vary, nor where no decoder was read."""
    fvu = None if artifact.fit is None else artifact.fit.fvu
    if fvu is None:
        return Outcome(True, {"fvu": "no decoder was read" if artifact.fit is None else "rows do not vary"})
    limit = expected.limits["max_fvu"]
    return Outcome(fvu <= limit, {"fvu": fvu, "max_fvu": limit})


def _like_rows(artifact: Any, expected: Expected) -> Outcome:
    """An SAE knows rows such as those it was trained on: others are encoded, but what their units say is not known.

    ``expected.beside`` has the figures of the chunk's patch or token rows; where there are none, nothing is compared.
    """
    beside, own = expected.beside, figures_of_rows(artifact)
    if not beside:
        return Outcome(True, {"compared_with": "no rows"})
    shown: dict[str, Any] = {}
    unlike = []
    for name, value in own.items():
        if not (other := beside.get(name)):
            continue
        shown |= {name: value, f"{name}_of_rows": other}
        fewest, most = FEWEST_UNITS if name == "units" else (1 / MOST_TIMES, MOST_TIMES)
        if not fewest <= value / other <= most:
            unlike.append(name)
    return Outcome(not unlike, {**shown, "unlike": ", ".join(unlike) or "none"})


def figures_of_rows(artifact: Any) -> dict[str, float]:
    """Return what tells rows that are unlike others: L0, norm of the embeddings where it is known, and units that
    fire."""
    norm = None if artifact.fit is None else artifact.fit.norm
    figures = {"l0": int(artifact.l0.sum()) / artifact.n_rows} if artifact.n_rows else {}
    figures |= {} if norm is None else {"norm": norm}
    return {**figures, "units": float(len(artifact.active_units()))}


def _nothing_blank(_artifact: Any, expected: Expected) -> Outcome:
    named = ", ".join(expected.blank[:MOST_NAMED])
    return Outcome(not expected.blank, {"blank": len(expected.blank), **({"examples": named} if named else {})})


CHECKS = (
    Check("row_counts", "Each example has the rows that its model gives.", _row_counts),
    Check(
        "little_mass_dropped",
        "`k_stored` drops at most the model's `max_dropped_mass` of the activation mass.",
        _little_mass_dropped,
        blocking=False,
    ),
    Check(
        "read_where_trained",
        "Rows are read where the SAE was trained, and as the weights were, as far as any file or figure says so.",
        _read_where_trained,
        blocking=False,
    ),
    Check(
        "activity_within_bounds",
        "Active units per row and the share of units that fire lie within the model's `bounds`.",
        _activity_within_bounds,
        blocking=False,
    ),
    Check(
        "like_other_chunks",
        "Rows per example, active units per row and the mean value are like those of the chunks around.",
        _like_other_chunks,
        blocking=False,
    ),
    Check(
        "sae_fits",
        "The SAE leaves at most the model's `bounds.max_fvu` of the rows' variance unexplained.",
        _fits,
        blocking=False,
    ),
    Check(
        "cls_like_rows",
        "Rows of `cls` that are encoded are like their chunk's patches or tokens in L0, norm and units that fire.",
        _like_rows,
        blocking=False,
    ),
    Check(
        "nothing_blank",
        "No example is an image of one colour or a text without a character.",
        _nothing_blank,
        blocking=False,
    ),
)
