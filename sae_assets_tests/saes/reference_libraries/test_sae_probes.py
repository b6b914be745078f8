"""The protocol ``sae-probes`` is held to the library itself: ranking, strength and figures of every k."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from sae_assets.ops.example_scores import LabelledChunk
from sae_assets.ops.pooling import Pooling
from sae_assets.ops.protocols.sae_probes import probe_examples
from sae_assets_tests.helpers.ops_of_worlds import dense_scores
from sae_assets_tests.saes.reference_libraries.test_reference_libraries import PYTHON
from sae_assets_tests.saes.reference_libraries.test_reference_libraries import pytestmark as pytestmark
from sae_assets_tests.strategies import random_world

EXAMPLES = (24, 200, 800)  # pairs are left out, six folds, the last fifth


def test_every_k_is_the_librarys(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.fail(f"{PYTHON} does not exist, and SAE_ASSETS_REQUIRE_REFERENCE asks for it: run `make test-reference`")
    made = {}
    for n in EXAMPLES:
        world = random_world(n, n_examples=n, rows=3, n_units=40, n_concepts=1)
        chunk = LabelledChunk(world.filtered(), world.splits, torch.from_numpy(world.labels))
        made[n] = probe_examples([chunk], n_units=40, pooling=Pooling("max"))
        given = {f"x_{split}": dense_scores(world, split).astype(np.float32) for split in ("train", "test")}
        given |= {f"y_{split}": world.labels[world.examples_in(split), 0].astype(int) for split in ("train", "test")}
        np.savez(tmp_path / f"{n}.npz", **given)
    done = subprocess.run(
        [str(PYTHON), "-W", "ignore", str(Path(__file__).with_name("probe.py")), str(tmp_path)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for n, got in made.items():
        for column, theirs in enumerate(json.loads((tmp_path / f"{n}.json").read_text())):
            assert got.ks[column] == theirs["k"]
            assert got.units[0][: theirs["k"]].tolist() == theirs["indices"]
            for name, figure in (("auc", "auc"), ("f1", "f1"), ("accuracy", "acc")):
                assert float(getattr(got, name)[0, column]) == pytest.approx(theirs[f"test_{figure}"], abs=1e-6)
            assert float(got.val_auc[0, column]) == pytest.approx(theirs["val_auc"], abs=1e-6)
