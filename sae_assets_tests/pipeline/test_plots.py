"""Pictures are drawn, also of what hardly exists: no unit that fires, and no concept that has a pair."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sae_assets.artifacts import SparseActivations
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.localization import localize
from sae_assets.ops.row_alignment import align_rows, rank_pairs
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.unit_mapping import EVERY_ACTIVE_UNIT, PruningRules, map_units
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets.pipeline import row_plots
from sae_assets.pipeline.plots import (
    plot_best_pairs,
    plot_coalitions,
    plot_controls,
    plot_detection,
    plot_localization,
    plot_pruning_audit,
    plot_row_alignment,
    plot_unit_mapping,
    plot_unit_stats,
)
from sae_assets.pipeline.row_plots import plot_sparse_activations
from sae_assets_tests.helpers.ops_of_worlds import calibrate, choose, score
from sae_assets_tests.storage.small import SMALL
from sae_assets_tests.strategies import World, random_world


def stats_of(world: World):
    return compute_unit_stats([(world.filtered(), world.mask("cal"))], world.n_units)


def silent(world: World) -> World:
    """The same without any activation."""
    return World(np.zeros_like(world.activations), world.lengths, world.splits, world.truth, world.labels)


def expect_picture(markdown: str) -> None:
    """An image in Markdown whose PNG begins and ends as one does."""
    found = re.fullmatch(r"!\[[^]]+\]\(data:image/png;base64,(.+)\)", markdown)
    assert found
    content = base64.b64decode(found[1])
    assert content.startswith(b"\x89PNG\r\n") and content.endswith(b"IEND\xaeB`\x82")


def has_colour(markdown: str, colour: tuple[int, int, int]) -> bool:
    picture = Image.open(io.BytesIO(base64.b64decode(markdown.split("base64,")[1][:-1]))).convert("RGB")
    return bool((np.asarray(picture) == colour).all(-1).sum() > 500)


def rows_with_l0(l0: list[int]) -> SparseActivations:
    counts = torch.tensor(l0, dtype=torch.int64)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    units = torch.tensor([unit for count in l0 for unit in range(count)], dtype=torch.int32)
    values = torch.full((len(units),), 2.0) / (1 + units)
    return SparseActivations(
        first_example=0, example_offsets=torch.tensor([0, len(l0)]), row_offsets=offsets, unit_ids=units,
        values=values, n_units=max(9, *l0, 0), l0=counts.int(), k_stored=None, total_mass=float(values.double().sum()),
        dropped_mass=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("l0", "differs"),
    [([1, 3, 0, 2], True), ([4, 4, 4], False), ([1], False), ([0, 0], False), ([], False)],
    ids=["rows differ", "all alike", "one value", "none fires", "no row"],
)
def test_sparse_activations_have_a_histogram_of_what_differs(l0: list[int], differs: bool):
    """An SAE that keeps the k largest gives each row k: of that there is no picture."""
    markdown = plot_sparse_activations(rows_with_l0(l0))
    expect_picture(markdown)
    assert has_colour(markdown, (0x31, 0x82, 0xBD)) is differs
    assert has_colour(markdown, (0x1B, 0x7F, 0x5C)) is bool(sum(l0))


def test_a_chunk_has_the_picture_that_it_has_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was drawn before it on the same axes: more bars and fewer, other powers of ten, and nothing at all."""
    few, many = rows_with_l0([1, 3, 0, 2]), rows_with_l0([*range(90)] * 3)
    alike, large = rows_with_l0([4, 4, 4]), rows_with_l0([6, 5, 5])
    large = dataclasses.replace(large, values=large.values * 5000, total_mass=large.total_mass * 5000)
    alone = {}
    for name, rows in {"few": few, "many": many, "alike": alike, "large": large, "none": rows_with_l0([0, 0])}.items():
        monkeypatch.setattr(row_plots, "_last", {})
        alone[name] = (rows, plot_sparse_activations(rows))
    assert len({picture for _, picture in alone.values()}) == len(alone)
    monkeypatch.setattr(row_plots, "_last", {})
    for name in ("few", "many", "few", "large", "none", "alike", "many", "alike", "none", "large", "few"):
        rows, picture = alone[name]
        assert plot_sparse_activations(rows) == picture, name
    assert set(row_plots._last) == {1, 2}


def test_axes_of_a_picture_that_failed_are_not_drawn_on_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_with_l0([1, 3, 0, 2])
    expected = plot_sparse_activations(rows)
    with monkeypatch.context() as failing:
        failing.setattr(row_plots, "markdown", lambda figure, _title: figure.axes[0].set_title("half") and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            plot_sparse_activations(rows)
    assert 2 not in row_plots._last
    assert plot_sparse_activations(rows) == expected


@pytest.mark.parametrize("change", [lambda world: world, silent], ids=["some fire", "none fires"])
def test_unit_stats(change):
    expect_picture(plot_unit_stats(stats_of(change(random_world(0)))))


@pytest.mark.parametrize(
    "rules",
    [EVERY_ACTIVE_UNIT, PruningRules("fixed", 2, 0.9, strength_percentile=50.0, target_units=3)],
    ids=["every active unit", "all rules"],
)
def test_unit_mapping(rules):
    stats = stats_of(random_world(0))
    expect_picture(plot_unit_mapping(stats, map_units(stats, rules)))


@pytest.mark.parametrize("change", [lambda world: world, silent], ids=["pairs", "no pair"])
def test_detection(change):
    world = change(random_world(0, n_concepts=4))
    best = choose(world)
    assert (best.unit_ids >= 0).any() == (change is not silent)
    expect_picture(plot_detection(count_detections(score(world), calibrate(world))))
    expect_picture(plot_best_pairs(best))


@pytest.mark.parametrize("n_unlocated", [0, 1], ids=["located", "not located"])
def test_row_alignment(n_unlocated):
    world = random_world(0)
    chunks = [RowChunk(world.filtered(), world.ground_truth(), world.splits)]
    figures = align_rows(chunks, concepts=world.concepts, n_units=world.n_units)
    counts = torch.full((2, len(world.concepts)), n_unlocated)
    aligned = rank_pairs(figures, chunks, concepts=world.concepts, n_unlocated=counts)
    assert bool((aligned.best >= 0).any()) == (n_unlocated == 0)
    expect_picture(plot_row_alignment(aligned))


@pytest.mark.parametrize("located", [True, False], ids=["located", "not located"])
def test_localization(located):
    world = random_world(0)
    found = localize(
        [RowChunk(world.filtered(), world.ground_truth(), world.splits)],
        concepts=world.concepts,
        unit_ids=torch.arange(2),
        thresholds=torch.full((2,), 2.5, dtype=torch.float64),
        located=torch.full((2,), located),
        n_units=world.n_units,
    )
    assert bool(found.rate("f1")[:, 1].isnan().all()) == (not located)
    expect_picture(plot_localization(found))


def test_pruning_audit_and_coalitions():
    """With a concept that no unit stands for."""
    expect_picture(plot_pruning_audit(SMALL["pruning_audit"]))
    expect_picture(plot_coalitions(SMALL["coalitions"]))


def test_pictures_have_no_background_and_are_read_on_white_and_on_dark():
    """Pixels outside of what is drawn are clear, and no mark is black or white."""
    markdown = plot_coalitions(SMALL["coalitions"])
    picture = Image.open(io.BytesIO(base64.b64decode(markdown.split("base64,")[1][:-1]))).convert("RGBA")
    pixels = np.asarray(picture).reshape(-1, 4)
    assert pixels[0, 3] == 0 and (pixels[:, 3] == 0).mean() > 0.7
    solid = pixels[pixels[:, 3] == 255][:, :3].astype(int)
    assert len(solid) and solid.max(1).min() > 60 and solid.min(1).max() < 200


def test_controls():
    """With concepts that no detector stands for."""
    expect_picture(plot_controls(SMALL["controls"]))
