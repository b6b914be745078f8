"""Checks can pass and can fail: each is shown an artifact with which it does, and every one could have been made.

What a constructor refuses is no case here: no check ever sees it.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sae_assets.artifacts import Artifact, BestPairs, SparseActivations, UnitStats, offsets_of
from sae_assets.artifacts.control_inputs import ControlInputs
from sae_assets.artifacts.controls import LEVELS
from sae_assets.artifacts.fit import FitSums
from sae_assets.artifacts.report import DOCTYPE, Report
from sae_assets.artifacts.row_locations import RowLocations
from sae_assets.catalog import load_catalog
from sae_assets.chunks.chunking import Manifest
from sae_assets.chunks.contents import describe_examples
from sae_assets.cli import app
from sae_assets.commands.session import Session
from sae_assets.datasets import open_dataset
from sae_assets.ops.unit_rows import rows_digest
from sae_assets.orchestration.checks import evaluate
from sae_assets.orchestration.partitions import asset_key, partition_key
from sae_assets.pipeline.checks import NOTHING_MORE, READABLE, Check, Expected, Outcome
from sae_assets.pipeline.neighbours import REACH, summaries_around
from sae_assets.pipeline.options import EncodeOptions
from sae_assets.pipeline.planning import Batch
from sae_assets.pipeline.stage import Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.controls import verdict
from sae_assets.pipeline.stages.sparse_activations import figures_beside, limits_of
from sae_assets.rows.encoding import encode_chunk
from sae_assets.storage.address import Address
from sae_assets.storage.store import ArtifactStore, stored
from sae_assets.storage.tables import table_of
from sae_assets_tests.pipeline.deciders import stale_by_dagster, stale_by_status
from sae_assets_tests.pipeline.test_deciders import NAME, World, new_world
from sae_assets_tests.storage.small import ADDRESS, SMALL, provenance, small

N_UNITS = 40
LIMITS = {"max_dropped_mass": 0.05, "l0": None, "min_coverage": None, "max_fvu": 0.35}


def activations(*rows: tuple[int, ...], value: float = 1.0, **changes: Any) -> SparseActivations:
    """One row per example; each names the units that are active on it, all with the same value."""
    units = [unit for row in rows for unit in sorted(row)]
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    fields = {
        "first_example": 0, "example_offsets": torch.arange(len(rows) + 1), "row_offsets": offsets_of(lengths),
        "unit_ids": torch.tensor(units, dtype=torch.int32), "values": torch.full((len(units),), value),
        "n_units": N_UNITS, "l0": lengths, "k_stored": None, "total_mass": value * len(units), "dropped_mass": 0.0,
    }  # fmt: skip
    return SparseActivations(**{**fields, **changes})


def best_pair(test: tuple[int, int, int, int], null: float = 0.5, unit: int = 3) -> BestPairs:
    """One concept with these TP, FP, FN, TN on test and this 95 % point of shuffled labels."""
    whole = SMALL["best_pairs"]
    assert isinstance(whole, BestPairs)
    nan = torch.full((1, 2), torch.nan, dtype=torch.float64)
    return replace(
        whole, concepts=("red",), unit_ids=torch.tensor([unit]), tail_fractions=whole.tail_fractions[:1],
        thresholds=whole.thresholds[:1] if unit >= 0 else nan[0, :1], by_rows=whole.by_rows[:1],
        p=whole.p[:, :1], family_p=whole.p[:, :1], q=whole.p[:, :1], scores=whole.scores[:1],
        auroc_interval=whole.auroc_interval[:1], length_auroc=whole.length_auroc[:1],
        row_counts=whole.row_counts[:1], row_interval=whole.row_interval[:1],
        row_null_f1=whole.row_null_f1[:1], row_p=whole.row_p[:1], row_family_p=whole.row_p[:1], row_q=whole.row_q[:1],
        counts=torch.tensor([[[4, 1, 0, 5]], [list(test)]]),
        null_f1=torch.tensor([[[0.1, 0.9]], [[0.1, null]]]).double(), test_interval=nan,
    )  # fmt: skip


def silent(stats: Artifact) -> UnitStats:
    assert isinstance(stats, UnitStats)
    nothing, null = torch.zeros_like(stats.total), torch.full_like(stats.total, torch.nan)
    return replace(
        stats, n_active=torch.zeros_like(stats.n_active), total=nothing, total_sq=nothing, max=null, p95=null, p99=null
    )


@dataclass(frozen=True)
class Case:
    """An artifact and what is expected of it, with which a check passes, and the same with which it fails."""

    good: Artifact
    bad: Artifact
    of_good: Expected = NOTHING_MORE
    of_bad: Expected = NOTHING_MORE


def case_of_expected(stage: str, good: Expected, bad: Expected) -> Case:
    """A check that asks what is expected of the artifact alone."""
    return Case(SMALL[stage], SMALL[stage], good, bad)


DIVERSE = activations((1, 2), (2, 3), (5, 9))
AROUND = {"median_rows_per_example": (1.0,) * 4, "mean_l0": (1.9, 2.0, 2.1, 2.0), "mean_value": (0.9, 1.0, 1.1, 1.0)}
CHANGED = Expected(changes={"a": "changed"})
CASES = {
    ("report", "small_enough"): Case(SMALL["report"], Report(f"{DOCTYPE}{'x' * 10_000_001}")),
    ("examples", "contents_as_registered"): case_of_expected("examples", NOTHING_MORE, CHANGED),
    ("labels", "regions_as_registered"): case_of_expected("labels", NOTHING_MORE, CHANGED),
    ("ground_truth", "labels_on_rows"): Case(
        SMALL["ground_truth"],
        replace(SMALL["ground_truth"], row_offsets=torch.zeros(4).long(), concept_ids=torch.zeros(0).int()),
        Expected(limits={"labels": 1}),
        Expected(limits={"labels": 1}),
    ),
    ("filtered_activations", "kept_units_fire"): Case(
        SMALL["filtered_activations"],
        replace(
            SMALL["filtered_activations"], row_offsets=torch.zeros(4).long(), unit_ids=torch.zeros(0).int(),
            values=torch.zeros(0),
        ),
    ),
    ("control_inputs", "embeddings_differ"): Case(
        SMALL["control_inputs"],
        replace(SMALL["control_inputs"], mean_embeddings=torch.ones_like(SMALL["control_inputs"].mean_embeddings)),
    ),
    ("sparse_activations", "row_counts"): case_of_expected(
        "sparse_activations", Expected(torch.tensor([2, 0, 1])), Expected(2)
    ),
    ("sparse_activations", "little_mass_dropped"): Case(
        activations((1, 2), total_mass=100.0, dropped_mass=5.0),
        activations((1, 2), total_mass=100.0, dropped_mass=5.1),
        Expected(limits=LIMITS),
        Expected(limits=LIMITS),
    ),
    ("sparse_activations", "read_where_trained"): case_of_expected(
        "sparse_activations", NOTHING_MORE, Expected(elsewhere="trained at blocks.1.hook_resid_post")
    ),
    ("sparse_activations", "activity_within_bounds"): Case(DIVERSE, activations((), (), ())),
    ("sparse_activations", "like_other_chunks"): Case(
        DIVERSE, activations((1, 2), (2, 3), value=9.0), Expected(others=AROUND), Expected(others=AROUND)
    ),
    ("sparse_activations", "sae_fits"): Case(
        replace(DIVERSE, fit=FitSums(3, (0.0, 0.0), 100.0, 35.0)),
        replace(DIVERSE, fit=FitSums(3, (0.0, 0.0), 100.0, 35.1)),
        Expected(limits=LIMITS),
        Expected(limits=LIMITS),
    ),
    ("sparse_activations", "cls_like_rows"): Case(
        DIVERSE,
        DIVERSE,
        Expected(beside={"l0": 8.0, "norm": 1.0, "units": 5.0}),
        Expected(beside={"l0": 8.1, "norm": 1.0, "units": 5.0}),
    ),
    ("sparse_activations", "nothing_blank"): case_of_expected(
        "sparse_activations", NOTHING_MORE, Expected(blank=("a",))
    ),
    ("row_locations", "rows_located"): Case(
        SMALL["row_locations"], RowLocations(0, torch.tensor([0, 4]), None, None)
    ),
    ("unit_rows", "same_entries"): case_of_expected(
        "unit_rows",
        Expected(limits={"entries": 5, "digest": rows_digest(SMALL["unit_rows"])}),
        Expected(limits={"entries": 5, "digest": rows_digest(SMALL["unit_rows"]) + 1}),
    ),
    ("unit_stats", "some_units_active"): Case(SMALL["unit_stats"], silent(SMALL["unit_stats"])),
    ("best_pairs", "concepts_have_both_classes"): Case(best_pair((3, 2, 0, 5)), best_pair((0, 2, 0, 8))),
    ("chosen_pairs", "every_concept_has_a_unit"): Case(
        replace(SMALL["chosen_pairs"], unit_ids=torch.tensor([3, 5]), thresholds=torch.ones(2).double()),
        SMALL["chosen_pairs"],
    ),
    ("best_pairs", "better_than_chance"): Case(best_pair((3, 2, 0, 5)), best_pair((3, 2, 0, 5), null=0.8)),
    ("pruning_audit", "best_units_kept"): Case(
        replace(
            SMALL["pruning_audit"], unit_ids=SMALL["pruning_audit"].unit_ids[1:].expand(2, -1),
            thresholds=SMALL["pruning_audit"].thresholds[1:].expand(2, -1),
            counts=SMALL["pruning_audit"].counts[1:].expand(2, -1, -1, -1), reasons=torch.tensor([0, -1]),
        ),
        SMALL["pruning_audit"],
        Expected(limits={"selection": "tails"}),
        Expected(limits={"selection": "tails"}),
    ),
    ("row_alignment", "concepts_located"): Case(
        replace(SMALL["row_alignment"], n_unlocated=torch.zeros(2, 2, dtype=torch.int64)), SMALL["row_alignment"]
    ),
    ("coalitions", "not_worse_than_one"): Case(
        SMALL["coalitions"],
        replace(
            SMALL["coalitions"], differences=torch.tensor([[-0.5, -0.7, -0.1], [math.nan] * 3], dtype=torch.float64)
        ),
    ),
    ("localization", "rows_localized"): Case(
        SMALL["localization"],
        replace(SMALL["localization"], counts=SMALL["localization"].whole.expand(3, -1, -1, -1)),
    ),
    ("controls", "better_than_controls"): Case(
        SMALL["controls"], replace(SMALL["controls"], differences=SMALL["controls"].differences - 1)
    ),
}  # fmt: skip


def check_of(stage: str, name: str) -> Check:
    return next(check for check in STAGES[stage].checks if check.name == name)


def asked(stage: str, name: str, artifact: Artifact, **expected: Any) -> Outcome:
    return check_of(stage, name).test(artifact, Expected(**expected))


def test_every_check_is_listed_here() -> None:
    assert set(CASES) == {(stage.name, check.name) for stage in STAGES.values() for check in stage.checks}


@pytest.mark.parametrize(("stage", "name"), list(CASES))
def test_each_passes_and_fails(stage: str, name: str) -> None:
    case, check = CASES[stage, name], check_of(stage, name)
    assert {case.good.kind, case.bad.kind} == {stage}
    assert check.test(case.good, case.of_good).passed
    assert not check.test(case.bad, case.of_bad).passed


def test_what_blocks() -> None:
    """Checks of the data warn: a person who knows better is not stopped."""
    assert {key for key in CASES if check_of(*key).blocking} == {
        ("examples", "contents_as_registered"),
        ("labels", "regions_as_registered"),
        ("unit_stats", "some_units_active"),
        ("unit_rows", "same_entries"),
        ("sparse_activations", "row_counts"),
    }


def test_rows_of_every_single_example_are_compared() -> None:
    """Texts differ in length: a tensor says how many rows each has; another number of examples is wrong altogether."""
    lengths, sparse = torch.tensor([2, 0, 1]), SMALL["sparse_activations"]
    assert asked("sparse_activations", "row_counts", sparse).passed  # nothing is known of imported files
    for rows, wrong in ((lengths + torch.tensor([0, 1, 0]), 1), (lengths[1:], 3)):
        outcome = asked("sparse_activations", "row_counts", sparse, rows=rows)
        assert not outcome.passed and outcome.metadata["examples_with_other_row_count"] == wrong


def test_without_labels_no_row_shows_one_and_one_example_is_like_itself() -> None:
    nowhere, alike = CASES["ground_truth", "labels_on_rows"].bad, CASES["control_inputs", "embeddings_differ"].bad
    assert asked("ground_truth", "labels_on_rows", nowhere, limits={"labels": 0}).passed
    outcome = asked("control_inputs", "embeddings_differ", alike)
    assert outcome.metadata == {"examples": 3, "like_the_first": 3}
    nothing = torch.zeros(0)
    single = ControlInputs(
        first_example=0, example_offsets=torch.tensor([0, 1]), mean_embeddings=torch.ones(1, 2),
        max_embeddings=torch.ones(1, 2), row_ids=nothing.long(), row_embeddings=torch.zeros(0, 2), n_seeds=1,
        random_offsets=torch.tensor([0, 0]), random_units=nothing.int(), random_values=nothing, n_units=6, d_model=2,
    )  # fmt: skip
    assert asked("control_inputs", "embeddings_differ", single).passed


class TestActivityWithinBounds:
    @pytest.mark.parametrize(
        ("artifact", "passed"),
        [
            (activations(range(10), range(5, 15)), True),  # a quarter of the units
            (activations(range(11), range(5, 16)), False),  # more: not sparse
            (activations((1, 2), (1, 2), (1, 2)), False),  # a TopK SAE that is fed the same row
            (activations((1, 2), (1, 2), (1, 3)), True),
            (activations((1, 2)), True),  # one row is like itself
        ],
    )
    def test_without_bounds(self, artifact: SparseActivations, passed: bool) -> None:
        assert asked("sparse_activations", "activity_within_bounds", artifact, limits=LIMITS).passed is passed

    @pytest.mark.parametrize(
        ("limits", "passed"),
        [
            ({"l0": (2, 2)}, True),
            ({"l0": (2.1, 9)}, False),
            ({"l0": (0, 1.9)}, False),
            ({"min_coverage": 5 / N_UNITS}, True),
            ({"min_coverage": 0.2}, False),
            ({"l0": (1, 3), "min_coverage": 0.2}, False),
        ],
    )
    def test_with_bounds_of_the_catalog(self, limits: dict[str, Any], passed: bool) -> None:
        """L0 is 2, and 5 of 40 units fire."""
        outcome = asked("sparse_activations", "activity_within_bounds", DIVERSE, limits={**LIMITS, **limits})
        assert outcome.passed is passed
        assert outcome.metadata["mean_l0"] == 2 and outcome.metadata["coverage"] == 5 / N_UNITS

    def test_bounds_replace_what_is_meant_without_them(self) -> None:
        limits = {**LIMITS, "l0": (0, N_UNITS), "min_coverage": 0}
        for artifact in (activations((), ()), activations(range(11), range(11))):
            assert asked("sparse_activations", "activity_within_bounds", artifact, limits=limits).passed


class TestLikeOtherChunks:
    def test_each_figure_is_compared_and_named(self) -> None:
        for artifact, unlike in (
            (DIVERSE, "none"),
            (activations((1, 2), (2, 3), value=0.5), "mean_value"),
            (activations((1, 2, 3), (2, 3, 4)), "mean_l0"),
            (replace(DIVERSE, example_offsets=torch.tensor([0, 3])), "median_rows_per_example"),
        ):
            outcome = asked("sparse_activations", "like_other_chunks", artifact, others=AROUND)
            assert outcome.metadata["unlike"] == unlike and outcome.passed == (unlike == "none")
            assert outcome.metadata["other_chunks"] == 4

    def test_two_others_say_nothing(self) -> None:
        far = activations((1, 2), value=9.0)
        for others, passed in (((1.0, 1.0), True), ((1.0, 1.0, 1.0), False)):
            assert asked("sparse_activations", "like_other_chunks", far, others={"mean_value": others}).passed is passed

    def test_chunks_that_differ_much_among_themselves_excuse_one_more(self) -> None:
        """A limit by ratio alone would warn of every chunk of such a data set."""
        far = activations((1, 2), value=9.0)
        assert asked("sparse_activations", "like_other_chunks", far, others={"mean_value": (1.0, 4.0, 7.0)}).passed

    def test_one_strange_chunk_among_the_others_changes_nothing(self) -> None:
        others = {"mean_value": (1.0, 1.0, 1.0, 500.0)}
        assert asked("sparse_activations", "like_other_chunks", DIVERSE, others=others).passed
        far = activations((1, 2), value=9.0)
        assert not asked("sparse_activations", "like_other_chunks", far, others=others).passed

    def test_what_a_header_says_is_compared(self, tmp_path: Path) -> None:
        """Of the same encoder, by number, near, and with a whole header that stands alone."""
        store = ArtifactStore(str(tmp_path))

        def write(chunk: int, value: float, encoder: str = "one", to: ArtifactStore = store) -> Any:
            made = provenance(chunk=f"{chunk:04d}", identity={"encoder": encoder})
            return to.write(at(chunk), stored(activations((1, 2), (3, 4), value=value), made)).path

        def at(chunk: int) -> Address:
            return replace(ADDRESS, chunk=f"{chunk:04d}")

        assert summaries_around(store, at(20), "one") == {}
        for chunk, value in ((20 - REACH - 1, 0.1), (20 - REACH, 1.0), (20, 0.2), (21, 2.0), (20 + REACH, 3.0)):
            write(chunk, value)
        write(19, 0.3, encoder="two")
        write(18, 0.4, to=ArtifactStore(str(tmp_path), "pt"))
        write(17, 0.5).write_bytes(b"PAR1")
        assert summaries_around(store, at(20), "one") == {
            "median_rows_per_example": (1.0,) * 3, "mean_l0": (2.0,) * 3, "mean_value": (1.0, 2.0, 3.0),
        }  # fmt: skip

    def test_a_file_of_an_earlier_version_has_no_summary_and_is_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encode = table_of("sparse_activations").encode

        def as_earlier(artifact: Artifact) -> Any:
            table, scalars = encode(artifact)
            assert scalars.pop("summary")
            return table, scalars

        monkeypatch.setattr(table_of("sparse_activations"), "encode", as_earlier)
        store, item = ArtifactStore(str(tmp_path)), small("sparse_activations")
        store.write(ADDRESS, item)
        assert store.read(ADDRESS).content_hash == item.content_hash
        beside = replace(ADDRESS, chunk="0001")
        assert summaries_around(store, beside, item.provenance.identity["encoder"]) == {}

    def test_a_summary_is_no_part_of_the_content(self, tmp_path: Path) -> None:
        item = small("sparse_activations")
        hashes = []
        for file_format in ("parquet", "pt"):  # the second writes no summary
            store = ArtifactStore(str(tmp_path / file_format), file_format)
            store.write(ADDRESS, item)
            hashes.append(store.read(ADDRESS).artifact.content_hash())
            assert ("summary" in store.header(ADDRESS).scalars) == (file_format == "parquet")
        assert set(hashes) == {item.content_hash}

    def test_figures_that_do_not_exist_are_left_out(self) -> None:
        assert activations((), ()).summary == {"median_rows_per_example": 1.0, "mean_l0": 0.0}
        no_rows = activations(example_offsets=torch.tensor([0, 0]))
        assert no_rows.summary == {"median_rows_per_example": 0.0}


class TestSaeFits:
    def test_where_nothing_can_be_said_nothing_fails(self) -> None:
        """Rows that do not vary, and files without a fit: imported ones, and those of earlier versions."""
        for fit, said in ((None, "no decoder was read"), (FitSums(3, (3.0, 0.0), 3.0, 9.0), "rows do not vary")):
            outcome = asked("sparse_activations", "sae_fits", replace(DIVERSE, fit=fit), limits=LIMITS)
            assert outcome.passed and outcome.metadata["fvu"] == said

    @pytest.mark.slow
    @pytest.mark.parametrize(("dataset", "model"), [("clevr_mini", "clip-mini"), ("moods_mini", "gemma-mini")])
    def test_the_packaged_models_at_their_block_and_at_its_neighbours(self, dataset: str, model: str) -> None:
        """The default limit lets the right block pass, and no other."""
        catalog = load_catalog()
        entry, right = catalog.datasets[dataset], catalog.models[model]
        reader, kind = open_dataset(entry), entry.token_kinds[0]
        chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[:8]), reader)
        assert right.layer is not None
        for layer in (right.layer - 1, right.layer, right.layer + 1):
            read = right.model_copy(update={"layer": layer}).named(model)
            encoded = encode_chunk(
                chunk, (kind,), dataset=entry, model=read, reader=reader, k_stored=16, precision="float32",
                batch_size=8, device="cpu", memory_budget=2**26,
            )  # fmt: skip
            limits = {**LIMITS, **read.bounds.model_dump()}
            outcome = asked("sparse_activations", "sae_fits", encoded.artifacts[kind], limits=limits)
            assert outcome.passed == (layer == right.layer), (layer, outcome.metadata)


class TestClsLikeRows:
    def test_each_figure_is_compared_and_named(self) -> None:
        """L0 2, norm 3, five units."""
        cls = replace(DIVERSE, fit=FitSums(3, (0.0,), 27.0, 0.0))
        for beside, unlike in (
            ({}, None),
            ({"l0": 8.0, "norm": 12.0, "units": 100.0}, "none"),
            ({"l0": 0.5, "norm": 0.75, "units": 0.5}, "none"),
            ({"l0": 8.1, "norm": 12.1, "units": 100.1}, "l0, norm, units"),
            ({"l0": 0.4, "units": 5.0}, "l0"),  # the rows have no norm where no decoder was read
            ({"l0": 0.0, "units": 5.0}, "none"),  # nothing fires on them: another check says so
        ):
            outcome = asked("sparse_activations", "cls_like_rows", cls, beside=beside)
            assert outcome.passed == (unlike in (None, "none")) and outcome.metadata.get("unlike") == unlike

    def test_pooled_rows_are_kept_whole_and_have_no_bounds_of_l0(self) -> None:
        """Both are of rows that an SAE encodes; the other token kind keeps them."""
        for kind, k_stored in (("token", 9), ("cls", None)):
            target = Target(load_catalog(), Address("moods_mini", "sparse_activations", kind, "gemma-mini", "0000"))
            assert STAGES["sparse_activations"].settings(target, EncodeOptions(k_stored=9))["k_stored"] == k_stored
            expected = Expected(limits=limits_of(target))
            full = activations(range(N_UNITS), range(N_UNITS - 1))
            assert check_of("sparse_activations", "activity_within_bounds").test(full, expected).passed == (
                kind == "cls"
            )

    @pytest.mark.slow
    def test_the_mean_of_a_text_is_told_and_its_last_token_is_not(self, tmp_path: Path) -> None:
        """Of the packaged texts, made, and kept: then token rows are read from the store; pooled rows are no rows."""
        for cls, unlike in (("pooled", None), ("last", "none"), ("mean_embedding", "l0, units")):
            catalog = load_catalog()
            model = catalog.models["gemma-mini"].model_copy(update={"cls": cls}).named("gemma-mini")
            entry = catalog.datasets["moods_mini"]
            catalog = catalog.model_copy(update={"models": {**catalog.models, "gemma-mini": model}})
            reader = open_dataset(entry)
            chunk = describe_examples(Manifest("0000", 0, tuple(reader.by_id)[:20]), reader)
            encoded = encode_chunk(
                chunk, ("token", "cls"), dataset=entry, model=model, reader=reader, k_stored=None, batch_size=8,
                precision="float32", device="cpu", memory_budget=2**26,
            ).artifacts  # fmt: skip
            target = Target(catalog, Address("moods_mini", "sparse_activations", "cls", "gemma-mini", "0000"))
            store = ArtifactStore(str(tmp_path / cls))
            beside = figures_beside(target, encoded["cls"], encoded, store)
            assert figures_beside(target, encoded["cls"], {}, store) == {}
            token = replace(target.address, token_kind="token")
            store.write(token, stored(encoded["token"], provenance(**asdict(token))))
            assert figures_beside(target, encoded["cls"], {}, store) == beside
            outcome = asked("sparse_activations", "cls_like_rows", encoded["cls"], beside=beside)
            assert outcome.metadata.get("unlike") == unlike, outcome.metadata


class TestBetterThanChance:
    def test_each_bar_must_be_exceeded(self) -> None:
        """F1 is 6/8; with 3 of 10 positive, calling all positive gives 6/13, with 9 of 10 it gives 18/19."""
        for pairs, passed in (
            (best_pair((3, 2, 0, 5), null=0.74), True),
            (best_pair((3, 2, 0, 5), null=0.75), False),
            (best_pair((8, 1, 1, 0), null=0.1), False),
            (best_pair((3, 2, 0, 5), null=float("nan")), True),  # no shuffles were asked for
        ):
            outcome = asked("best_pairs", "better_than_chance", pairs)
            assert outcome.passed is passed and outcome.metadata["concepts_compared"] == 1

    def test_the_figures_are_named(self) -> None:
        found = asked("best_pairs", "better_than_chance", best_pair((3, 2, 0, 5), null=0.8)).metadata
        assert found["concepts"] == "red (test F1 0.75, shuffled labels 0.8, always positive 0.462)"

    def test_a_concept_without_a_unit_is_no_better_and_one_without_positives_has_no_figure(self) -> None:
        assert not asked("best_pairs", "better_than_chance", best_pair((0, 0, 3, 7), unit=-1)).passed
        outcome = asked("best_pairs", "better_than_chance", best_pair((0, 2, 0, 8)))
        assert outcome.passed and outcome.metadata["concepts_compared"] == 0


def test_what_pruning_removed_is_not_lost_where_all_units_are_searched() -> None:
    """It is still named; with the grid over kept units the check fails."""
    audit = SMALL["pruning_audit"]
    for selection, passed in (("exact", True), ("tails", False)):
        outcome = asked("pruning_audit", "best_units_kept", audit, limits={"selection": selection})
        assert outcome.passed is passed and outcome.metadata["best_unit_removed"] == 1


def test_a_file_that_cannot_be_read_fails_every_check(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    results = list(evaluate(STAGES["unit_stats"], dg.AssetKey("any"), store, Address(NAME, "unit_stats"), NOTHING_MORE))
    assert results[0].check_name == READABLE and len(results) == 2
    assert not any(result.passed for result in results)
    assert "has not been materialized" in str(results[0].metadata["problem"].value)


def test_a_file_that_does_not_hold_what_was_made_fails_every_check(tmp_path: Path) -> None:
    """Its seal holds, which is of what was written; what was to be written its content hash tells."""
    store, item = ArtifactStore(str(tmp_path)), small("sparse_activations")
    store.write(ADDRESS, replace(item, content_hash="0" * 64))
    assert store.read(ADDRESS).artifact == item.artifact
    results = list(evaluate(STAGES["sparse_activations"], dg.AssetKey("any"), store, ADDRESS, NOTHING_MORE))
    assert results[0].check_name == READABLE and len(results) > 1
    assert not any(result.passed for result in results)
    assert "content hash" in str(results[0].metadata["problem"].value)


class TestInARun:
    """A camera that was covered, masks that are black, and an SAE whose L0 (5) the catalog does not expect."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        world = new_world(tmp_path)
        world.dataset |= {"models": ["one"], "chunk_size": 2}
        world.model("one", bounds={"l0": [1, 4]})
        Image.new("RGB", (32, 32), (9, 9, 9)).save(world.folder.root / "images" / "e7.png")
        for name in ("e4", "e5"):
            Image.new("L", (32, 32), 0).save(world.folder.root / "masks" / f"{name}.png")
        return world

    @staticmethod
    def latest(session: Session, name: str, address: Address) -> dg.AssetCheckEvaluation:
        key = dg.AssetCheckKey(asset_key(address), name)
        history = session.instance.event_log_storage.get_asset_check_execution_history(key, limit=50)
        evaluations = [record.event.dagster_event.asset_check_evaluation_data for record in history if record.event]
        return next(each for each in evaluations if each.partition == partition_key(address))

    @pytest.mark.long
    def test_a_warning_is_printed_and_blocks_nothing(self, world: World) -> None:
        with world.open():  # writes the catalog
            pass
        places = ["--home", str(world.home), "--catalog", str(world.base / "catalog.yaml")]
        result = CliRunner().invoke(app, ["materialize", "-d", NAME, *places])
        assert result.exit_code == 0, result.output
        warnings = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
        bounds = [line for line in warnings if "activity_within_bounds" in line]
        assert bounds and "mean_l0: 5.0." in bounds[0] and "l0_bounds: 1 to 4." in bounds[0]
        (blank,) = [line for line in warnings if "nothing_blank" in line]
        assert "examples: e7." in blank and "(0003|one)" in blank
        (nowhere,) = [line for line in warnings if "labels_on_rows" in line]
        assert "labels: 2." in nowhere and "(0002|one)" in nowhere

        address = Address(NAME, "sparse_activations", "patch", "one", "0003")
        with world.open() as session:
            assert stale_by_status(session, NAME) == stale_by_dagster(session, NAME) == set()
            others = self.latest(session, "like_other_chunks", address)
            assert others.metadata["other_chunks"].value == 3 and "mean_l0_of_others" in others.metadata
            # Handed on as it is, it is asked the same, though nothing is encoded.
            session.runner({NAME: session.chunks_of(NAME)}).execute(Batch({address: frozenset()}))
            again = self.latest(session, "like_other_chunks", address)
            assert again.metadata == others.metadata and again != others
            assert self.latest(session, "nothing_blank", address).metadata["examples"].value == "e7"

        # Bounds are asked of files: no file depends on them.
        world.model("one", bounds={"l0": [5, 5], "min_coverage": 0.1})
        with world.open() as session:
            assert stale_by_status(session, NAME) == stale_by_dagster(session, NAME) == set()
            session.runner({NAME: session.chunks_of(NAME)}).execute(Batch({address: frozenset()}))
            assert self.latest(session, "activity_within_bounds", address).passed


def test_the_verdict_says_what_differences_of_means_are_of():
    """Of examples the means of their embeddings, where AxBench has the largest value over rows; of rows, rows."""
    of_examples, of_rows = (verdict(SMALL["controls"], level) for level in LEVELS)
    assert "difference of mean embeddings (" in of_examples and "difference of means" not in of_examples
    assert "difference of means (" in of_rows and "mean embeddings" not in of_rows
