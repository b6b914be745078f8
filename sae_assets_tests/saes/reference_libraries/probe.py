"""Run by the reference environment's interpreter, not by pytest: sae-probes evaluates scores of units that are given.

``probe.py HOME`` takes ``HOME/<case>.npz`` with ``x_train``, ``y_train``, ``x_test`` and ``y_test`` and writes what
``run_sae_eval`` of its "normal" setting says of them, with nothing but its defaults, to ``HOME/<case>.json``. Nothing
of this package is imported.
"""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.modules["xgboost"] = types.ModuleType("xgboost")  # of other probes than these, and large

evals = importlib.import_module("sae_probes.run_sae_evals")  # the package has a function of that name

HOME = Path(sys.argv[1])
for case in sorted(HOME.glob("*.npz")):
    given = {name: torch.from_numpy(values) for name, values in np.load(case).items()}
    scores = types.SimpleNamespace(
        **{f"{'X' if name[0] == 'x' else 'y'}{name[1:]}": each for name, each in given.items()}
    )
    evals.generate_sae_activations = lambda *_args, scores=scores, **_named: scores
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if k <= given["x_train"].shape[1]]
    named = {"dataset": case.stem, "hook_name": "hook", "model_name": "model", "model_cache_path": HOME}
    evals.run_sae_eval(None, reg_type="l2", setting="normal", device="cpu", ks=ks, results_path=HOME, **named)
    (written,) = HOME.glob(f"*/*/{case.stem}_hook_*.json")
    written.rename(case.with_suffix(".json"))
