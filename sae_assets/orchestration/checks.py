"""Asset checks: what every materialization must satisfy, tested on the file that was just written.

Each check reads what is in the store, not what was in memory; errors block what follows, warnings do not. Invariants
that no artifact can be built without live in ``artifacts`` and are met here when the file is read back.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from sae_assets.errors import SaeAssetsError

if TYPE_CHECKING:
    from sae_assets.storage.address import Address
    from sae_assets.storage.store import ArtifactStore

# Preview in Dagster 1.13; without it only the last partition's result shows, and a bad chunk hides behind a good one.
warnings.filterwarnings("ignore", message=r".*partitions_def on an AssetCheckSpec.*")

READABLE = "file_reads_back"


@dataclass(frozen=True)
class Expected:
    """What a stage knows of its artifact besides the artifact itself.

    Attributes:
        rows: how many rows every example has: one number, a tensor [n_examples], or None where nothing is known.
        max_dropped_mass: share of activation mass that truncation to k_stored may drop without a warning.
        changes: examples that are no longer what was registered, and what happened to each; what_to_do: about it.
        elsewhere: where the SAE was trained, if that is not where the rows were read.
    """

    rows: Any = None
    max_dropped_mass: float = 0.05
    changes: Mapping[str, str] = field(default_factory=dict)
    what_to_do: str = ""
    elsewhere: str = ""


NOTHING_MORE = Expected()


@dataclass(frozen=True)
class Outcome:
    """Whether a check passed, and the numbers behind it."""

    passed: bool
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Check:
    """One named check of a stage; ``test`` takes the artifact and what is expected of it."""

    name: str
    description: str
    test: Callable[[Any, Expected], Outcome]
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR

    @property
    def blocking(self) -> bool:
        return self.severity == dg.AssetCheckSeverity.ERROR


def contents_outcome(changes: Mapping[str, str], what_to_do: str = "") -> Outcome:
    """Whether examples are what they were when they were registered; what to do if not."""
    if not changes:
        return Outcome(True, {"changed_or_vanished": 0})
    shown = ", ".join(f"{example} ({what})" for example, what in list(changes.items())[:20])
    return Outcome(
        False,
        {
            "changed_or_vanished": len(changes),
            "examples": shown,
            "what_to_do": what_to_do,
        },
    )


def _as_registered(_artifact: Any, expected: Expected) -> Outcome:
    return contents_outcome(expected.changes, expected.what_to_do)


def _row_counts(artifact: Any, expected: Expected) -> Outcome:
    lengths = artifact.example_offsets.diff()
    rows = expected.rows
    known = rows is not None and (isinstance(rows, int) or len(rows) == len(lengths))
    wrong = int((lengths != rows).sum()) if known else 0 if rows is None else len(lengths)
    total = int(artifact.row_offsets.numel() - 1)
    passed = wrong == 0 and int(lengths.sum()) == total
    return Outcome(passed, {"rows": total, "examples": lengths.numel(), "examples_with_other_row_count": wrong})


def _ids_in_range(artifact: Any, _expected: Expected) -> Outcome:
    outside = int(((artifact.unit_ids < 0) | (artifact.unit_ids >= artifact.n_units)).sum())
    return Outcome(outside == 0, {"ids_outside": outside, "units": artifact.n_units})


def _values_positive(artifact: Any, _expected: Expected) -> Outcome:
    wrong = int((~(artifact.values.isfinite() & (artifact.values > 0))).sum())
    return Outcome(wrong == 0, {"entries": artifact.values.numel(), "entries_not_finite_or_not_positive": wrong})


def _sorted(artifact: Any, _expected: Expected) -> Outcome:
    row = artifact.row_of_entry()
    same = row[1:] == row[:-1]
    rises = artifact.values[1:] > artifact.values[:-1]
    swapped = (artifact.values[1:] == artifact.values[:-1]) & (artifact.unit_ids[1:] <= artifact.unit_ids[:-1])
    wrong = int((same & (rises | swapped)).sum())
    return Outcome(wrong == 0, {"entries_out_of_order": wrong})


def _truncation(artifact: Any, expected: Expected) -> Outcome:
    share = artifact.dropped_mass / artifact.total_mass if artifact.total_mass else 0.0
    limit = expected.max_dropped_mass
    return Outcome(share <= limit, {"dropped_mass_share": share, "max_dropped_mass": limit})


def _read_where_trained(_artifact: Any, expected: Expected) -> Outcome:
    return Outcome(not expected.elsewhere, {"sae": expected.elsewhere or "no other place is named"})


def _some_active(artifact: Any, _expected: Expected) -> Outcome:
    active = int((artifact.n_active > 0).sum())
    return Outcome(active > 0, {"active_units": active, "units": artifact.n_active.numel()})


def _ordered_statistics(artifact: Any, _expected: Expected) -> Outcome:
    wrong = int(((artifact.p95 > artifact.p99) | (artifact.p99 > artifact.max)).sum())
    return Outcome(wrong == 0, {"units_with_p95_above_p99_or_p99_above_max": wrong})


def _mapping_round_trip(artifact: Any, _expected: Expected) -> Outcome:
    kept, index = artifact.kept_units, artifact.kept_index
    there = index[kept].tolist() == list(range(len(kept)))
    back = bool((kept[index[index >= 0]] == (index >= 0).nonzero().flatten()).all())
    ascending = bool((kept.diff() > 0).all())
    return Outcome(there and back and ascending, {"kept": len(kept), "unit_to_index": there, "index_to_unit": back})


def _monotone(artifact: Any, _expected: Expected) -> Outcome:
    rises = int((artifact.values.diff(dim=-1) > 0).sum())
    return Outcome(rises == 0, {"thresholds_that_rise_with_the_tail_fraction": rises})


def _nulls_where_silent(artifact: Any, _expected: Expected) -> Outcome:
    wrong = int((artifact.values.isnan() != (artifact.n_positive == 0)[..., None]).sum())
    return Outcome(wrong == 0, {"thresholds_null_without_reason_or_not_null": wrong})


def _counts_add_up(artifact: Any, _expected: Expected) -> Outcome:
    positive, negative = artifact.n_positive[..., None, None], artifact.n_negative[..., None, None]
    wrong = int(((artifact.true_positives < 0) | (artifact.true_positives > positive)).sum())
    wrong += int(((artifact.false_positives < 0) | (artifact.false_positives > negative)).sum())
    return Outcome(wrong == 0, {"counts_outside_their_total": wrong})


def _concepts_have_positives(artifact: Any, _expected: Expected) -> Outcome:
    names = {
        split: [name for name, count in zip(artifact.concepts, counts, strict=True) if count == 0]
        for split, counts in zip(("cal", "test"), artifact.n_positive.tolist(), strict=True)
    }
    shown = {f"concepts_without_{split}_positives": ", ".join(found) or "none" for split, found in names.items()}
    return Outcome(not any(names.values()), shown)


_ROWS = Check("row_counts", "Rows of all examples add up, each example has the rows its model gives.", _row_counts)
_ENTRIES = (
    Check("ids_in_range", "Every unit id lies within the SAE (or the mapping).", _ids_in_range),
    Check("values_positive", "Every stored value is finite and > 0.", _values_positive),
    Check("rows_sorted", "Rows are sorted by value descending, ties by unit ascending.", _sorted),
)
CHECKS: dict[str, tuple[Check, ...]] = {
    "examples": (
        Check(
            "contents_as_registered",
            "Every example's image or text is what it was when the chunk was registered.",
            _as_registered,
        ),
    ),
    "labels": (
        Check(
            "regions_as_registered",
            "Every example's masks or spans are what they were when the chunk was registered.",
            _as_registered,
        ),
    ),
    "ground_truth": (_ROWS,),
    "sparse_activations": (
        _ROWS,
        *_ENTRIES,
        Check(
            "little_mass_dropped",
            "k_stored drops at most `max_dropped_mass` (catalog) of the activation mass.",
            _truncation,
            dg.AssetCheckSeverity.WARN,
        ),
        Check(
            "read_where_trained",
            "Rows come from the place that the SAE's checkpoint names as its own, where it names one.",
            _read_where_trained,
            dg.AssetCheckSeverity.WARN,
        ),
    ),
    "unit_stats": (
        Check("some_units_active", "At least one unit fires on calibration rows.", _some_active),
        Check("statistics_ordered", "p95 ≤ p99 ≤ max for every unit.", _ordered_statistics),
    ),
    "unit_mapping": (
        Check("mapping_round_trip", "unit_id → kept_index → unit_id is the identity.", _mapping_round_trip),
    ),
    "filtered_activations": (_ROWS, *_ENTRIES),
    "thresholds": (
        Check("thresholds_monotone", "Thresholds do not rise with the tail fraction.", _monotone),
        Check(
            "nulls_where_silent", "A threshold is null exactly where no value stands behind it.", _nulls_where_silent
        ),
    ),
    "detection_stats": (Check("counts_add_up", "Confusion counts lie within their totals.", _counts_add_up),),
    "best_pairs": (
        Check(
            "concepts_have_positives",
            "Every concept has positive examples on cal and on test; figures of others are null.",
            _concepts_have_positives,
            dg.AssetCheckSeverity.WARN,
        ),
    ),
}


def blocking_checks(stage: str) -> tuple[str, ...]:
    """Names of a stage's checks whose failure blocks what follows."""
    return (READABLE, *(check.name for check in CHECKS[stage] if check.blocking))


def specs(stage: str, key: dg.AssetKey, partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    """The check specs of one asset: that its file reads back, and the stage's own; one result per partition."""
    readable = dg.AssetCheckSpec(
        READABLE,
        asset=key,
        description="The written file reads back and its content hash holds.",
        blocking=True,
        partitions_def=partitions,
    )
    return [
        readable,
        *(
            dg.AssetCheckSpec(
                check.name,
                asset=key,
                description=check.description,
                blocking=check.blocking,
                partitions_def=partitions,
            )
            for check in CHECKS[stage]
        ),
    ]


def evaluate(
    stage: str, key: dg.AssetKey, store: "ArtifactStore", address: "Address", expected: Expected = NOTHING_MORE
) -> Iterator[dg.AssetCheckResult]:
    """Read the file back and run the stage's checks on it; a file that cannot be read fails them all."""
    try:
        artifact = store.read(address).artifact
    except SaeAssetsError as error:
        artifact, problem = None, str(error)
    else:
        problem = ""
    yield dg.AssetCheckResult(
        passed=artifact is not None,
        check_name=READABLE,
        asset_key=key,
        metadata={"problem": problem} if problem else {},
    )
    for check in CHECKS[stage]:
        outcome = check.test(artifact, expected) if artifact is not None else Outcome(False, {"problem": problem})
        yield dg.AssetCheckResult(
            passed=outcome.passed,
            check_name=check.name,
            asset_key=key,
            severity=check.severity,
            metadata=outcome.metadata,
        )
