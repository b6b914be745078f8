"""What an artifact will cost, from what others cost; and that a run says so beside what it took."""

import json
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dagster as dg
import pytest

from sae_assets import ops
from sae_assets.cli.forecasts import print_expected
from sae_assets.commands import calibration, forecasts, rehearsal
from sae_assets.commands.calibration import spread
from sae_assets.commands.session import open_session
from sae_assets.datasets.records import Record
from sae_assets.orchestration import history
from sae_assets.orchestration.history import costs_of
from sae_assets.orchestration.metadata import SIZES, sizes
from sae_assets.orchestration.partitions import asset_key
from sae_assets.pipeline.forecast import Cost, effort_of, forecast, peak_after, peak_of_more
from sae_assets.pipeline.measuring import READING, PassMeter
from sae_assets.pipeline.scoring import found_concepts
from sae_assets.pipeline.stage import Stage
from sae_assets.pipeline.stages import STAGES
from sae_assets.pipeline.stages.controls import BESIDE, CONTROLS
from sae_assets.rows.truth import RowTruth, row_truth
from sae_assets_tests.helpers.homes import Homes, Places, invoke

CHUNK, GROWING = STAGES["sparse_activations"], STAGES["unit_rows"]
AGGREGATE = replace(STAGES["unit_stats"], seconds_offset=0)
FIGURES = ("rows", "bytes", "cpu_seconds", "peak_bytes")


def test_nothing_is_known_without_a_past() -> None:
    assert forecast(CHUNK, [], 10) == Cost(10) and Cost(10).figures == {}


def test_a_chunk_costs_in_proportion_to_its_examples_and_no_more_memory() -> None:
    past = [Cost(10, 100, 1000, 4.0, 500), Cost(10, 140, 1000, 6.0, 700)]
    assert forecast(CHUNK, past, 30) == Cost(30, 360, 3000, 15.0, 700)


def test_artifacts_of_one_pass_share_its_seconds() -> None:
    assert forecast(CHUNK, [Cost(10, 1, 1, 4.0)], 10, sharing=4).cpu_seconds == 1.0


def test_the_first_pass_of_a_process_takes_what_first_ones_took() -> None:
    past = [Cost(10, cpu_seconds=1.0), Cost(10, cpu_seconds=9.0, first=True)]
    assert forecast(CHUNK, past, 10, first=True).cpu_seconds == 9.0 and forecast(CHUNK, past, 20).cpu_seconds == 2.0
    assert forecast(CHUNK, past[:1], 10, first=True).cpu_seconds == 1.0


def test_what_a_first_pass_opens_is_expected_once_of_first_ones_and_not_scaled() -> None:
    later = Cost(10, cpu_seconds=4.0)
    past = [later, later.at_first(3.0)]
    assert past[1] == Cost(10, cpu_seconds=7.0, first=True, opening_seconds=3.0)
    assert forecast(CHUNK, past, 20, first=True).cpu_seconds == 11.0 and forecast(CHUNK, past, 20).cpu_seconds == 8.0
    assert forecast(CHUNK, past[1:], 20).cpu_seconds == 8.0
    assert forecast(CHUNK, past, 20, 2, first=True, effort=lambda count: count / 10).cpu_seconds == (4 * 2 * 2 + 3) / 2


def test_memory_of_more_examples_grows_until_blocks_are_full() -> None:
    assert peak_of_more(100, 110, 5, block=256) == 150
    assert peak_of_more(100, 110, 50, block=256) == 356
    assert peak_of_more(100, 110, 0.5, block=256) == 110
    assert peak_of_more(100, 500, 5, block=256) == 500  # what takes more already is not known to grow


def test_memory_of_all_examples_at_once_grows_without_end() -> None:
    assert peak_of_more(100, 150, 50, block=256, whole_bytes=40, times_whole=60) == 100 + 40 * 60 + 256
    assert peak_of_more(100, 150, 5, block=256, whole_bytes=70, times_whole=6) == 100 + 70 * 6  # freed earlier
    past = [Cost(10, peak_bytes=500, whole_bytes=100), Cost(20, peak_bytes=600, whole_bytes=200)]
    assert forecast(AGGREGATE, past, 40).peak_bytes == 800 and forecast(AGGREGATE, past, 5).peak_bytes == 450
    assert forecast(AGGREGATE, [Cost(10, peak_bytes=500), Cost(20)], 40).peak_bytes == 500


def test_passes_after_one_that_takes_more_than_it_took_find_that_taken() -> None:
    past = [Cost(10, peak_bytes=400), Cost(10), Cost(20, peak_bytes=500)]
    assert peak_after(500, past, 0) == (500, 0) and peak_after(800, past, 0) == (800, 300)
    assert peak_after(500, past, 300) == (800, 300) and peak_after(900, past, 300) == (900, 400)
    assert peak_after(450, past, 0) == (450, 0)


def test_peaks_of_a_first_plan_hold_the_chunks_that_a_run_keeps_and_do_not_fall() -> None:
    made = object.__new__(rehearsal._Rehearsal)
    vars(made).update(_peak_bytes=0, _chunk_bytes=20, _kept_bytes=150, _sizes=[30, 50], _count=10)

    def expected(stage: Stage, held: int | None, peak: int) -> float:
        meter: Any = SimpleNamespace(held_bytes=held, peak_bytes=peak)
        made._peak_bytes = made._expected_peak(meter, stage, 1000)
        return made._peak_bytes

    assert expected(CHUNK, 100, 110) == 150  # 50 examples in the largest chunk
    assert expected(AGGREGATE, 200, 210) == 200 + 80 + 150  # 80 examples in all, and room for 150 of 160 bytes
    assert expected(AGGREGATE, 200, 201) == expected(CHUNK, None, 7) == 430
    meter: Any = SimpleNamespace(held_bytes=300, peak_bytes=340)
    assert made._expected_peak(meter, AGGREGATE, 1000, 30, 12) == 300 + 30 * 12 + 10 * 8 + 150


def test_what_a_pass_reads_of_chunks_here_is_compared_with_files_that_are_planned() -> None:
    """Rows that are drawn from a chunk grow with the chunks, not with the examples."""
    made = object.__new__(rehearsal._Rehearsal)
    controls, stats = (stage.address("many", "patch", "clip-mini") for stage in (CONTROLS, STAGES["unit_stats"]))
    made._file_bytes = {("control_inputs", "patch"): (10, 150), ("labels", ""): (2, 6)}
    made._file_bytes["control_inputs", "cls"] = 5, 9
    assert made._times_read(controls) == 156 / 12 and made._times_read(stats) == 6 / 2
    made._file_bytes = {}
    assert made._times_read(controls) == 1


def test_what_only_a_large_pass_opens_is_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two large passes: the first one loads compiled loops, which small ones do without."""
    made, none = ("sparse_activations", "patch"), cast(Any, None)
    seconds = {1: [2.0], 2: [1.0], 10: [9.0, 5.0]}
    monkeypatch.setattr(
        calibration,
        "_pass",
        lambda *arguments: SimpleNamespace(
            seconds=seconds[arguments[-1]].pop(0), once=0.5, peak_bytes=7, sizes={made: [Cost(10, 1.0, 2.0)]}
        ),
    )
    planned: Any = SimpleNamespace(examples={"0000": 500})
    costs = calibration._encoded(none, planned, none, "")
    small, large = Cost(2, cpu_seconds=1.0, peak_bytes=7), Cost(10, cpu_seconds=5.0, peak_bytes=7)
    opening = 1.0 + 0.5 + 4.0
    assert costs == {made: [small, small.at_first(opening), large, large.at_first(opening), Cost(10, 1.0, 2.0)]}


def test_what_more_examples_took_to_encode_counts_beside_a_few_at_first_and_later() -> None:
    """Two and twenty examples alone say that a hundred take 50 s; seventy took 15."""
    few = [Cost(2, cpu_seconds=1.0), Cost(20, cpu_seconds=10.0)]
    few += [cost.at_first(3.0) for cost in few]
    past = forecasts._with_more(few, [Cost(70, cpu_seconds=15.0), Cost(500, 10.0, 20.0)])
    alone, beside, at_first = (
        forecast(CHUNK, costs, 100, first=first).cpu_seconds or 0
        for costs, first in ((few, False), (past, False), (past, True))
    )
    assert alone == pytest.approx(50) and 15 < beside < 25 and at_first == pytest.approx(beside + 3)
    assert forecast(CHUNK, past, 100).n_bytes is None  # sizes are those of the calibration
    assert forecasts._with_more([], past) == []


def test_what_a_stage_pays_in_any_case_is_not_scaled() -> None:
    report = replace(AGGREGATE, seconds_offset=30)
    assert forecast(report, [Cost(10, 0, 0, 4.0)], 50).cpu_seconds == pytest.approx(8.0)


def test_what_is_done_for_each_concept_grows_with_those_that_have_enough_positives() -> None:
    """As ``controls``: a concept that gets its third positive on cal is fitted from then on."""
    records = [Record(f"{n}", "", "cal", (n % 2 == 0, n % 8 == 0)) for n in range(40)]
    dataset: Any = SimpleNamespace(detection=SimpleNamespace(min_support=3), chunk_size=20)
    assert [found_concepts(dataset, records[:n]) for n in (0, 4, 5, 16, 17)] == [0, 0, 1, 1, 2]
    target: Any = SimpleNamespace(dataset=dataset)
    sources: Any = SimpleNamespace(reader=lambda _: SimpleNamespace(records=records))
    effort = effort_of(CONTROLS, target, sources)
    more_chunks = ((30 + 40) / 40) / ((30 + 10) / 10)  # one and a half of them
    assert effort(40) / effort(10) == pytest.approx((BESIDE + 2) / (BESIDE + 1) * more_chunks)
    past = [Cost(10, cpu_seconds=6.0 * (BESIDE + 1))]
    assert forecast(CONTROLS, past, 40, effort=effort).cpu_seconds == pytest.approx(10.5 * (BESIDE + 2))
    assert effort_of(AGGREGATE, target, sources)(40) == 1


def test_what_two_sizes_show_to_be_paid_once_is_not_scaled() -> None:
    past = [Cost(10, 0, 0, 3.0), Cost(40, 0, 0, 6.0)]
    assert forecast(AGGREGATE, past, 80).cpu_seconds == pytest.approx(10.0)


def test_sizes_that_are_close_tell_how_much_and_not_how_it_grows() -> None:
    """A line through both would say 10 and 0."""
    past = [Cost(20, 0, 0, 4.0), Cost(10, 0, 0, 3.0)]
    assert forecast(AGGREGATE, past, 80).cpu_seconds == pytest.approx(3.5 / 15 * 80)
    falling = [Cost(20, 0, 0, 2.0), Cost(10, 0, 0, 3.0)]
    assert forecast(replace(AGGREGATE, seconds_offset=15), falling, 45).cpu_seconds == pytest.approx(5.0)


def test_a_line_that_begins_below_nothing_begins_there_and_one_that_falls_is_level() -> None:
    below = [Cost(10, 0, 0, 1.0), Cost(40, 0, 0, 9.0)]
    assert forecast(AGGREGATE, below, 50).cpu_seconds == pytest.approx(10.0)
    falling = [Cost(10, 0, 0, 4.0), Cost(40, 0, 0, 2.0)]
    assert forecast(AGGREGATE, falling, 80).cpu_seconds == pytest.approx(3.0)


def test_the_file_of_an_aggregate_is_as_large_as_the_last_unless_it_holds_every_row() -> None:
    past = [Cost(20, 64, 900.0, 1.0), Cost(16, 64, 800.0, 1.0)]
    same, growing = forecast(AGGREGATE, past, 40), forecast(GROWING, past[:1], 40)
    assert (same.rows, same.n_bytes) == (64, 900.0) and (growing.rows, growing.n_bytes) == (128, 1800.0)


def test_two_sizes_of_a_file_show_how_it_grows() -> None:
    """Sooner than seconds do, in which there is more chance; one that became smaller stays so."""
    past = [Cost(20, 64, 900.0, 3.0), Cost(10, 64, 800.0, 1.0)]
    grown = forecast(AGGREGATE, past, 40)
    assert (grown.rows, grown.n_bytes, grown.cpu_seconds) == pytest.approx((64, 1100.0, 2 / 15 * 40))
    smaller = forecast(AGGREGATE, [Cost(20, 64, 700.0), *past[1:]], 40)
    assert smaller.n_bytes == 700.0
    assert forecast(replace(AGGREGATE, file_offset=inf), past, 40).n_bytes == 900.0


def test_examples_of_none_tell_nothing() -> None:
    assert forecast(CHUNK, [Cost(0, 5, 5, 5.0)], 10).cpu_seconds is None


def told(places: Places, *options: str) -> dict[str, Any]:
    result = invoke(places, "materialize", "-d", "small", "--dry-run", "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["datasets"]["small"]["expected"]


def recorded(places: Places) -> dict[str, dict[str, dict[str, Any]]]:
    """By stage and partition the metadata of the last materialization."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with open_session(places["home"], places["catalog"]) as session:
        for name, stage in STAGES.items():
            key = asset_key(stage.address("small", "patch", "clip-mini", "0000"))
            for record in session.instance.fetch_materializations(key, limit=2).records:
                event = record.asset_materialization
                assert event is not None
                values = {label: value.value for label, value in event.metadata.items()}
                found.setdefault(name, {}).setdefault(str(record.partition_key), values)
    return found


@pytest.mark.slow
def test_a_plan_says_what_it_is_expected_to_cost_and_its_runs_say_it_beside_what_they_took(
    tmp_path: Path, made_home: Homes
) -> None:
    places = made_home(tmp_path, "unit_mapping")
    last = ("--to", "unit_stats")
    assert told(places, *last)["stages"] == []
    expected = told(places, "--force", *last)
    stages = {each["stage"]: each for each in expected["stages"]}
    assert stages["sparse_activations"]["runs"] == 2 and stages["unit_stats"]["runs"] == 1
    assert all(each["by"] == "history" and each["cpu_seconds"] >= 0 for each in stages.values())
    assert expected["total"]["unknown"] == 0
    for name in FIGURES[:3]:
        assert expected["total"][name] == pytest.approx(sum(each[name] for each in stages.values()))
    before = recorded(places)
    for name, each in stages.items():
        files = before[name].values()
        assert each["rows"] == pytest.approx(sum(values[SIZES]["rows"] for values in files))
        assert each["bytes"] == pytest.approx(sum(values["stored_bytes"] for values in files))
        assert each["peak_bytes"] == max(values["peak_bytes"] for values in files) > 0
    assert invoke(places, "materialize", "-d", "small", "--force", *last).exit_code == 0
    for values in (recorded(places)["unit_stats"]["clip-mini"],):
        assert values["examples_read"] == "12" and values["cpu_seconds"] > 0
        assert values["expected_rows"] == values["table_rows"]
        assert values["expected_bytes"] == pytest.approx(values["stored_bytes"], rel=1e-5)
        assert {f"expected_{name}" for name in FIGURES} <= values.keys()
    text = invoke(places, "materialize", "-d", "small", "--dry-run", "--force", *last).output
    lines = text[text.index("expected ") :].splitlines()
    assert max(map(len, lines)) <= 80 and lines[-1] == "Nothing was made."


@pytest.mark.slow
def test_costs_are_of_the_model_and_of_the_device_of_the_latest(tmp_path: Path, made_home: Homes) -> None:
    places = made_home(tmp_path, "labels")
    with open_session(places["home"], places["catalog"]) as session:
        address = STAGES["sparse_activations"].address("small", "patch", "clip-mini", "0000")

        def report(model: str, device: str, seconds: float, **more: Any) -> None:
            partition = dg.MultiPartitionKey({"model": model, "chunk": "0000"})
            metadata = {"cpu_seconds": seconds, SIZES: sizes(6, 12), "device": device, **more}
            session.instance.report_runless_asset_event(
                dg.AssetMaterialization(asset_key(address), partition=partition, metadata=metadata)
            )

        assert costs_of(session.instance, address) == []
        report("clip-mini", "cuda", 1.0)
        report("clip-mini", "cpu", 8.0, cpu_seconds_of_pass=16.0, first_of_process=True)
        report("clip-mini", "cpu", 8.0, **{SIZES: sizes(1006, 2000)})
        report("clip-mini", "cpu", 8.0, once_cpu_seconds=5.0, peak_bytes=9.0, **{f"peak_bytes[{READING}]": 4.0})
        for _ in range(9):
            report("other", "cpu", 99.0)
        assert costs_of(session.instance, address) == [
            Cost(6, 12, cpu_seconds=3.0, peak_bytes=9.0, whole_bytes=4.0),  # what is done once per model comes no more
            Cost(1006, 2000, cpu_seconds=8.0),
            Cost(6, 12, cpu_seconds=16.0, first=True),
        ]
        assert costs_of(session.instance, replace(address, model="nobody")) == []


@pytest.mark.slow
def test_where_nothing_was_encoded_some_examples_are_now_and_nothing_of_it_stays(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = made_home(tmp_path, "labels")
    before = {path: path.read_bytes() for path in (places["home"] / "store").rglob("*") if path.is_file()}
    last = ("--to", "sparse_activations")
    (each,) = (one for one in told(places, *last)["stages"] if one["stage"] == "sparse_activations")
    assert {path: path.read_bytes() for path in (places["home"] / "store").rglob("*") if path.is_file()} == before
    assert each["by"] == "calibration" and each["runs"] == 2 and each["rows"] == 12 * 256
    assert each["bytes"] > 0 and each["cpu_seconds"] > 0 and each["peak_bytes"] > 0
    text = invoke(places, "materialize", "-d", "small", "--dry-run", *last).output
    assert "some examples are encoded now" in text and "What was never made here" in text
    monkeypatch.setattr("sae_assets.commands.calibration.LARGEST", 0)
    (each,) = (one for one in told(places, *last)["stages"] if one["stage"] == "sparse_activations")
    assert each["by"] is None and {each[name] for name in FIGURES} == {None}


@pytest.mark.long
def test_what_was_never_made_is_made_of_some_examples_and_nothing_of_it_stays(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stage of the first plan has a forecast; with too few examples only what was encoded has."""
    places = made_home(tmp_path, "labels")
    before = {path: path.read_bytes() for path in (places["home"] / "store").rglob("*") if path.is_file()}
    monkeypatch.setattr("sae_assets.commands.rehearsal.FEWEST", 6)
    expected = told(places)
    assert {path: path.read_bytes() for path in (places["home"] / "store").rglob("*") if path.is_file()} == before
    assert expected["total"]["unknown"] == 0
    stages = {each["stage"]: each for each in expected["stages"]}
    assert {each["by"] for each in stages.values()} == {"calibration"} and len(stages) > 10
    assert stages["thresholds"]["rows"] > 0 and stages["report"]["bytes"] > 10_000
    assert all(each["cpu_seconds"] >= 0 and each["peak_bytes"] > 0 for each in stages.values())
    monkeypatch.setattr("sae_assets.commands.rehearsal.FEWEST", 13)
    known = {each["stage"] for each in told(places)["stages"] if each["by"]}
    assert known == {"sparse_activations"}


@pytest.mark.slow
def test_what_is_of_no_model_and_what_controls_need_have_a_forecast_on_a_first_plan(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what opens a model is expected where it is first needed, which is once; what is not planned is not made."""
    places = made_home(tmp_path, "register", controls={"n_seeds": 2})
    n_truths, holds_truth = 0, False
    passes, make = list[str](), rehearsal._Rehearsal._made

    def told_of(self: Any, members: Any) -> Any:
        passes.append(members[0].stage)
        return make(self, members)

    def noted(*arguments: Any) -> RowTruth:
        nonlocal n_truths, holds_truth
        n_truths, holds_truth = n_truths + 1, True
        return row_truth(*arguments)

    class SlowAtFirst(PassMeter):
        """As if the first truth took 100 s, and later ones none."""

        def __exit__(self, *raised: Any) -> None:
            nonlocal holds_truth
            super().__exit__(*raised)
            if holds_truth:
                self.cpu_seconds = 100.0 if n_truths == 1 else 0.0
            holds_truth = False

    monkeypatch.setattr("sae_assets.commands.calibration.row_truth", noted)
    monkeypatch.setattr("sae_assets.commands.calibration.PassMeter", SlowAtFirst)
    monkeypatch.setattr("sae_assets.commands.rehearsal.FEWEST", 6)
    monkeypatch.setattr(rehearsal._Rehearsal, "_made", told_of)
    stages = {each["stage"]: each for each in told(places, "--to", "control_inputs")["stages"]}
    assert passes == ["examples", "labels", "ground_truth", "row_locations", "sparse_activations"]
    for name in ("examples", "labels", "control_inputs"):
        assert stages[name]["by"] == "calibration" and stages[name]["rows"] == 12 and stages[name]["bytes"] > 1000
    assert n_truths == 2 and stages["ground_truth"]["runs"] == 2
    assert 100 <= stages["ground_truth"]["cpu_seconds"] < 150  # twice would be 200


def test_what_opens_a_model_is_not_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    made, other = ("ground_truth", "patch"), ("report", "patch")
    chunk, of_file, aggregate = Cost(64, cpu_seconds=1.0), Cost(500, 10.0, 20.0), Cost(64, 5, 300.0, 2.0)
    fake = SimpleNamespace(costs=lambda: {made: [chunk, of_file], other: [aggregate]})
    monkeypatch.setattr(rehearsal, "_Rehearsal", lambda *_: fake)
    none: Any = None
    assert rehearsal.rehearsed(none, none, none, (), 15, {made: 2.0}) == {}
    costs = rehearsal.rehearsed(none, none, none, (), 64, {made: 2.0})
    assert costs[other] == [aggregate] and costs[made][:2] == [chunk, of_file]
    for first, seconds in ((True, 6.0), (False, 4.0)):
        assert forecast(STAGES[made[0]], costs[made], 256, first=first).cpu_seconds == pytest.approx(seconds)
    assert rehearsal.rehearsed(none, none, none, (), 64, {})[made] == [chunk, of_file]


def test_examples_that_say_what_a_plan_costs_are_of_all_of_the_data_set() -> None:
    records = [Record(f"{n}", "", "cal", ()) for n in range(10)]
    assert spread(records, 4) == ("0", "2", "5", "7") and spread(records, 1) == ("0",)
    assert spread(records, 10) == spread(records, 11) == tuple("0123456789")


def test_rows_that_are_read_tell_nothing_of_rows_that_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither way; rows that come about alike tell of each other."""
    made = {"models": ("clip-mini",), "token_kinds": ("patch",), "embeddings": {}}
    read = made | {"embeddings": {"clip-mini": {"patch": "rows.pt"}}}
    entries = {name: SimpleNamespace(**each) for name, each in {"a": made, "b": made, "c": read, "d": read}.items()}
    session: Any = SimpleNamespace(catalog=SimpleNamespace(datasets=entries), instance=None)
    address, past = CHUNK.address("b", "patch", "clip-mini", "0000"), [Cost(1)]

    def told_by(dataset: str, known: str) -> str | None:
        monkeypatch.setattr(history, "costs_of", lambda _, asked: past if asked.dataset == known else [])
        return forecasts._past(session, replace(address, dataset=dataset))[0]

    assert (told_by("b", "a"), told_by("d", "c"), told_by("b", "b")) == ("a", "c", "history")
    assert told_by("b", "c") is None and told_by("d", "a") is None


@pytest.mark.slow
def test_what_every_process_loads_is_no_cost_of_its_first_pass(
    tmp_path: Path, made_home: Homes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is asked for, which loads torch, before anything is measured."""
    places, noted = made_home(tmp_path, "labels"), list[str]()
    enter, device = PassMeter.__enter__, ops.device.resolve_device
    monkeypatch.setattr(PassMeter, "__enter__", lambda self: (noted.append("measured"), enter(self))[1])
    monkeypatch.setattr(ops.device, "resolve_device", lambda name: (noted.append("device"), device(name))[1])
    assert invoke(places, "materialize", "-d", "small", "--force", "--to", "labels").exit_code == 0
    assert "measured" in noted
    assert all(before == "device" for before, now in pairwise(["", *noted]) if now == "measured")


def test_few_seconds_and_bytes_are_not_given_in_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """Of a stage; sums are."""
    parts = {"token_kind": None, "model": None, "runs": 1, "rows": 1, "peak_bytes": 1, "by": "history"}
    figures = {"a": {"cpu_seconds": 0.19, "bytes": 99_999}, "b": {"cpu_seconds": 0.2, "bytes": 100_000}}
    stages = [{"stage": name, **each, **parts} for name, each in figures.items()]
    total = {"cpu_seconds": 0.1, "rows": 1, "bytes": 20_000, "peak_bytes": 1, "unknown": 0}
    print_expected({"stages": stages, "total": total})
    lines = capsys.readouterr().out.splitlines()
    (small,), (large,) = ([line for line in lines if line.split()[:1] == [name]] for name in "ab")
    assert "< 0.1" in small and "< 0.2" in small
    assert " 0.10 " in large and " 0.20 " in large and "<" not in large
    assert " 0.02 " in (last := next(line for line in lines if line.startswith("in all"))) and " 0.10 " in last
