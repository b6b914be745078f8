"""The control for which rows go through the model once more: AxBench's DiffMean, from images and texts on, by numpy."""

import functools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sae_assets.artifacts.controls import LARGEST
from sae_assets.commands.session import open_session
from sae_assets.datasets import open_dataset
from sae_assets.pipeline.stage import Target
from sae_assets.pipeline.stages import STAGES
from sae_assets.reading.project import open_project
from sae_assets.rows.opening import open_sources
from sae_assets_tests.helpers.homes import Homes, Places
from sae_assets_tests.pipeline.small import WITH_CONTROLS
from sae_assets_tests.pipeline.test_reads import made_anew
from sae_assets_tests.reference import controls as reference

pytestmark = pytest.mark.long


@functools.cache
def _embedded(home: Path, catalog: Path | None, dataset: str, model: str) -> dict[str, list[np.ndarray]]:
    """Rows of every example, float64, by the token kind whose rows they are; of texts all tokens."""
    run = next(iter(open_project(home, catalog)[dataset][model].values()))
    reader, entry = open_dataset(run.entry), run.model_entry
    kinds = ("token",) if entry.modality == "text" else tuple(run.entry.token_kinds)
    ((_, source),) = open_sources(reader, run.entry, entry, kinds, "cpu", "float32", None)
    found = [each.rows for each in source.embed(list(reader.by_id))]
    return {kind: [rows[kind].double().numpy() for rows in found] for kind in kinds}


def expect_axbench(home: Path, catalog: Path | None, address: str, min_support: int) -> None:
    """Figures on test of ``diffmean_max`` are those of all rows at once, held dense in float64."""
    dataset, kind, model = address.split("/")
    run = open_project(home, catalog)[dataset][model][kind]
    reader = open_dataset(run.entry)
    ids = list(reader.by_id)
    rows = _embedded(home, catalog, dataset, model)["token" if run.model_entry.modality == "text" else kind]
    means = np.array([each.mean(0) for each in rows])
    splits = np.array([reader.by_id[example].split for example in ids])
    every_row, example = np.concatenate(rows), np.repeat(np.arange(len(ids)), [len(each) for each in rows])
    for line in run.table("controls").to_polars().to_dicts():
        if (line["level"], line["detector"]) != ("examples", LARGEST) or line["test_f1"] is None:
            continue
        y = np.array([line["concept"] in reader.true_concepts(example) for example in ids])
        train, cal, test = (splits == split for split in ("train", "cal", "test"))
        if kind == "cls":  # one row per example in the direction
            scores = np.array([(each @ (means[train & y].mean(0) - means[train & ~y].mean(0))).max() for each in rows])
        else:
            scores = reference.diffmean_of_rows(every_row, example, y, train)
        threshold = reference.best_threshold(scores[cal].astype(np.float32), y[cal], min_support)
        detected = scores[test].astype(np.float32) >= np.float32(threshold)
        assert line["test_f1"] == pytest.approx(f1_score(y[test], detected), abs=1e-12)
        assert line["test_auroc"] == pytest.approx(roc_auc_score(y[test], scores[test]), abs=1e-12)
        assert line["test_ap"] == pytest.approx(average_precision_score(y[test], scores[test]), abs=1e-12)


@pytest.fixture(scope="module")
def made(made_home: Homes, tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A home with controls, in chunks of six examples."""
    return made_home(tmp_path_factory.mktemp("second_pass"), **WITH_CONTROLS, detection={"min_support": 1})


def test_it_is_axbenchs_diffmean(made: Places) -> None:
    """Of patches; the demo's tests ask the same of every token kind."""
    expect_axbench(made["home"], made["catalog"], "small/patch/clip-mini", 1)


def test_the_catalog_can_leave_it_out(made: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """No example is embedded, every other figure stays, and what was encoded is up to date."""
    with open_session(made["home"], made["catalog"]) as session:
        whole = session.store.read(STAGES["controls"].address("small", "patch", "clip-mini")).artifact
        entry = session.catalog.datasets["small"]
        controls = entry.controls.model_copy(update={"second_pass": False})
        changed = entry.model_copy(update={"controls": controls}).named("small")
        catalog = session.catalog.model_copy(update={"datasets": {**session.catalog.datasets, "small": changed}})
        monkeypatch.delattr("sae_assets.pipeline.stages.controls.largest_scores")
        without = made_anew(SimpleNamespace(store=session.store, catalog=catalog), STAGES["controls"], 2**28)
        for name, same in (("control_inputs", True), ("controls", False)):
            stage = STAGES[name]
            address = stage.address("small", "patch", "clip-mini", "0000")
            settings = [stage.settings(Target(each, address), stage.options()) for each in (session.catalog, catalog)]
            assert (settings[0] == settings[1]) is same
    left_out = ("examples", LARGEST)  # on rows it needs no second pass
    kept = torch.tensor([(level, name) != left_out for level, name, _ in whole.detectors])
    compared = torch.tensor([each != left_out for each in whole.comparisons])
    by_detector = ("choices", "counts", "intervals", "auroc", "average_precision", "auroc_intervals")
    expected = {name: getattr(whole, name)[kept] for name in by_detector}
    expected |= {name: getattr(whole, name)[compared] for name in ("differences", "weighted")}
    assert without == replace(whole, second_pass=None, **expected)
