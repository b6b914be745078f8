"""The protocol ``sae-probes`` is held to the library itself: ranking, strength and figures of every k."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_assets.ops.example_scores import LabelledChunk
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.protocols.sae_probes import probe_examples
from sae_assets_tests.helpers.ops_of_worlds import dense_scores
from sae_assets_tests.saes.reference_libraries.libraries import MARKS, Ask
from sae_assets_tests.strategies import random_world

pytestmark = MARKS
EXAMPLES = (24, 200, 800)  # pairs are left out, six folds, the last fifth


def test_every_k_is_the_librarys(ask: Ask, tmp_path: Path) -> None:
    made = {}
    for n in EXAMPLES:
        world = random_world(n, n_examples=n, rows=3, n_units=40, n_concepts=1)
        chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
        made[n] = probe_examples([chunk], n_units=40, pooling=Pooling("max"))
        given = {f"x_{split}": dense_scores(world, split).astype(np.float32) for split in ("train", "test")}
        given |= {f"y_{split}": world.labels[world.examples_in(split), 0].astype(int) for split in ("train", "test")}
        np.savez(tmp_path / f"{n}.npz", **given)
    ask("probe.py", tmp_path)
    for n, got in made.items():
        for column, theirs in enumerate(json.loads((tmp_path / f"{n}.json").read_text())):
            assert got.ks[column] == theirs["k"]
            assert got.units[0][: theirs["k"]].tolist() == theirs["indices"]
            for name, figure in (("auc", "auc"), ("f1", "f1"), ("accuracy", "acc")):
                assert float(getattr(got, name)[0, column]) == pytest.approx(theirs[f"test_{figure}"], abs=1e-6)
            assert float(got.val_auc[0, column]) == pytest.approx(theirs["val_auc"], abs=1e-6)
