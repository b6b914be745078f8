"""Whatever the process has set before, encoders and ops give the same bits and leave what was set as it was."""

import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae_assets.artifacts import GroundTruth
from sae_assets.ops.best_pairs import figure_pairs
from sae_assets.ops.chosen_pairs import choose_by_tails, choose_exactly
from sae_assets.ops.coalitions import choose_coalitions
from sae_assets.ops.detection_stats import count_detections
from sae_assets.ops.example_scores import LabelledChunk, score_examples
from sae_assets.ops.filtered_activations import filter_activations
from sae_assets.ops.ground_truth import (
    collect_truth,
    count_positive_rows,
    covered_patches,
    overlapping_tokens,
    pixels_of_patches,
)
from sae_assets.ops.jumprelu import JumpReluEncoder, ReluEncoder
from sae_assets.ops.localization import localize
from sae_assets.ops.pooling import MAXIMUM
from sae_assets.ops.process_state import ieee_products, plain_torch
from sae_assets.ops.protocols import sae_probes
from sae_assets.ops.protocols.interplm import score_regions
from sae_assets.ops.protocols.netdissect import dissect
from sae_assets.ops.protocols.sae_probes import probe_examples
from sae_assets.ops.protocols.saev import probe_rows
from sae_assets.ops.row_alignment import align_rows, rank_pairs
from sae_assets.ops.row_chance import rows_of_pairs
from sae_assets.ops.row_chunks import RowChunk
from sae_assets.ops.sparse_activations import TopKEncoder
from sae_assets.ops.sparse_code import SparseCode
from sae_assets.ops.thresholds import CalibrationChunk, calibrate_thresholds
from sae_assets.ops.unit_mapping import PruningRules, map_units
from sae_assets.ops.unit_stats import compute_unit_stats
from sae_assets_tests.helpers.ops_of_worlds import lengths_of
from sae_assets_tests.helpers.process_states import EACH, HAS_FP32, STATES, picture, under
from sae_assets_tests.ops.codes import assert_bit_equal
from sae_assets_tests.strategies import DENORMAL, TINY, World, random_world

pytestmark = pytest.mark.slow

N_UNITS = 24


def world_with_subnormals() -> World:
    """Every fourth unit's values are subnormal numbers."""
    made = random_world(7, n_examples=40, rows=8, n_units=N_UNITS, n_concepts=2)
    dense = made.activations.copy()
    dense[:, ::4] = np.where(dense[:, ::4] > 0, np.ceil(dense[:, ::4] * 8) * np.float32(DENORMAL), 0)
    return World(dense, made.lengths, made.splits, made.truth, made.labels)


WORLD = world_with_subnormals()
CAL, LABELS = WORLD.mask("cal"), torch.from_numpy(WORLD.labels)
FIRST = LABELS[:, :1]
KEPT, LOCATED = torch.arange(WORLD.n_units), torch.ones(len(WORLD.concepts), dtype=torch.bool)
LENGTHS, NOWHERE = lengths_of(WORLD), torch.zeros(2, len(WORLD.concepts), dtype=torch.int64)
RULES = PruningRules("fixed", min_active=2, max_density=0.9, strength_percentile=10.0, target_units=30)


def artifacts(sparse: Any, truth: Any, filtered: Any) -> list[Any]:
    """Every artifact after encoding, from a chunk made beforehand."""
    stats = compute_unit_stats([(sparse, CAL)], WORLD.n_units)
    mapping = map_units(stats, RULES)
    mapped = filter_activations(sparse, mapping)
    thresholds = calibrate_thresholds(
        [CalibrationChunk(filtered, truth, CAL)],
        concepts=WORLD.concepts,
        kept_units=KEPT,
        tail_fractions=(0.1, 0.5, 0.9),
    )
    scores = score_examples([LabelledChunk(filtered, WORLD.splits, LABELS)], n_units=WORLD.n_units)
    counts = count_detections(scores, thresholds)
    rows = [RowChunk(filtered, truth, WORLD.splits)]
    figures = align_rows(rows, concepts=WORLD.concepts, n_units=WORLD.n_units)
    aligned = rank_pairs(figures, rows, concepts=WORLD.concepts, n_unlocated=NOWHERE)
    tails = choose_by_tails(counts, thresholds, scores["cal"], aligned, n_folds=2)
    exact = choose_exactly(scores, aligned, choose_by="examples", n_folds=2)
    by_rows = choose_exactly(scores, aligned)
    best = [
        figure_pairs(
            each,
            scores,
            LENGTHS,
            rows_of_pairs(rows, each.unit_ids, each.row_thresholds, LOCATED),
            n_permutations=3,
        )
        for each in (exact, by_rows)
    ]
    places = localize(
        rows,
        concepts=WORLD.concepts,
        unit_ids=exact.unit_ids,
        thresholds=exact.thresholds,
        located=LOCATED,
        n_units=WORLD.n_units,
    )
    together = choose_coalitions(
        *(scores[split] for split in ("cal", "test", "test")),
        concepts=WORLD.concepts,
        pairs=(exact.unit_ids, exact.thresholds),
        halved=False,
    )
    return [stats, mapping, mapped, thresholds, counts, aligned, tails, exact, by_rows, *best, places, together]


def protocols(filtered: Any, truth: Any) -> list[Any]:
    """What the protocols over rows answer, as tensors."""
    rows = [RowChunk(filtered, truth, WORLD.splits)]
    of_rows = {"concepts": WORLD.concepts, "n_units": WORLD.n_units, "located": LOCATED}
    probes = probe_rows(rows, **of_rows)
    # Of one concept, with one k and three strengths of ten: each more is the same fits by scikit-learn once more.
    labelled = [LabelledChunk(filtered, WORLD.splits, FIRST)]
    with patch.object(sae_probes, "STRENGTHS", 3):
        sparse = probe_examples(labelled, n_units=WORLD.n_units, pooling=MAXIMUM, ks=(8,))
    return [
        dissect(rows, **of_rows).iou,
        score_regions(rows, width=None, **of_rows).f1,
        probes.unit_ids,
        probes.losses,
        sparse.auc,
        sparse.val_auc,
    ]


MASK, TOKENS, SPAN = torch.arange(64).view(8, 8) % 5 == 0, torch.arange(8).view(4, 2), torch.tensor([[1, 3]])
PATCHES = covered_patches(pixels_of_patches(MASK, 4), 16, 4)
BOTH, CHOSEN = torch.stack([PATCHES, overlapping_tokens(TOKENS, SPAN)], 1), torch.tensor([True, False])
OTHER, SHOWN = BOTH.flip(1), torch.arange(8, dtype=torch.int32).view(4, 2)


def ground_truth() -> tuple[GroundTruth, list[Any]]:
    patches = covered_patches(pixels_of_patches(MASK, 4), 16, 4)
    met = overlapping_tokens(TOKENS, SPAN)
    truth = collect_truth([BOTH, OTHER], ("a", "b"), 0, [SHOWN] * 2, 16)
    return truth, [patches.tolist(), met.tolist(), count_positive_rows([(truth, CHOSEN)])]


def rows_and_weights() -> tuple[torch.Tensor, torch.Tensor]:
    """Enough of both for two threads; every tenth unit's weights and pre-activations are subnormal in float32."""
    rng = np.random.default_rng(3)
    weight = rng.normal(size=(48, 200)).astype(np.float32)
    weight[:, ::10] *= np.float32(2.0**-130)
    return torch.from_numpy(rng.normal(size=(60, 48)).astype(np.float32)), torch.from_numpy(weight)


ROWS, WEIGHT = rows_and_weights()
LEVELS = torch.where(torch.arange(200) % 10 == 0, 0.0, 1.0)
SHARED = {"shift": ROWS[0].clone(), "bias": torch.where(torch.arange(200) % 10 == 0, 0.0, 0.25)}
ENCODERS: dict[str, Callable[[], Any]] = {
    "topk": lambda: TopKEncoder(WEIGHT, 150, **SHARED),
    "topk without shift and bias": lambda: TopKEncoder(WEIGHT, 12),
    "jumprelu": lambda: JumpReluEncoder(WEIGHT, LEVELS, **SHARED),
    "relu": lambda: ReluEncoder(WEIGHT),
}


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Everything in a process that has set nothing, on one thread."""
    chunks = (WORLD.sparse(), WORLD.ground_truth(), WORLD.filtered())
    made = artifacts(*chunks)
    return {
        "chunks": chunks,
        "artifacts": [artifact.content_hash() for artifact in made],
        "truth": ground_truth(),
        "protocols": protocols(*chunks[:0:-1]),
        **{name: make().encode(ROWS, 150) for name, make in ENCODERS.items()},
    }


def test_there_are_subnormals_to_lose(alone: dict[str, Any]) -> None:
    """Where they were flushed to 0, the comparisons below would see it."""
    for code in (alone["topk"], alone["relu"]):
        bits = code.values.view(torch.int32)
        assert bool((bits < int(np.float32(TINY).view(np.int32))).any())


@pytest.mark.parametrize("state", STATES)
def test_encoders(alone: dict[str, Any], state: str) -> None:
    """Built under the state and used under it: ids, values, L0 and masses to the last bit, as ordinary tensors."""

    def work() -> dict[str, SparseCode]:
        return {name: make().encode(ROWS, 150) for name, make in ENCODERS.items()}

    for name, code in under(state, work).items():
        assert_bit_equal(code, alone[name])
        assert not code.values.is_inference() and not code.values.requires_grad


@pytest.mark.parametrize("state", EACH)
def test_ops_and_artifacts(alone: dict[str, Any], state: str) -> None:
    """Every artifact after encoding, to the last bit."""
    made = under(state, lambda: artifacts(*alone["chunks"]))
    assert [artifact.content_hash() for artifact in made] == alone["artifacts"]


@pytest.mark.parametrize("state", EACH)
def test_protocols(alone: dict[str, Any], state: str) -> None:
    """IoU, F1 over regions, and probes of rows with subnormal values."""
    made = under(state, lambda: protocols(*alone["chunks"][:0:-1]))
    for one, two in zip(made, alone["protocols"], strict=True):
        assert torch.equal(torch.nan_to_num(one, -1.0), torch.nan_to_num(two, -1.0))


@pytest.mark.parametrize("state", STATES)
def test_ground_truth(alone: dict[str, Any], state: str) -> None:
    """Masks, spans and the artifact that is made of them."""
    assert under(state, ground_truth) == alone["truth"]


def test_threads_that_compute_at_once() -> None:
    """What a process keeps is put back when the last of them is through, and not while another still computes."""
    backend = torch.backends.cuda.matmul
    name, before = ("fp32_precision", "ieee") if HAS_FP32 else ("allow_tf32", False)
    wrong: list[object] = []

    def work(context: Callable[[], Any]) -> None:
        for _ in range(40):
            with context():
                if getattr(backend, name) != before:
                    wrong.append(getattr(backend, name))
                if context is plain_torch and torch.get_default_dtype() != torch.float32:
                    wrong.append(torch.get_default_dtype())

    state = STATES["cuda.matmul tf32"] if HAS_FP32 else STATES["matmul precision high"]
    with STATES["float64"](), state():
        pictures = [picture()]
        threads = [threading.Thread(target=work, args=(context,)) for context in (ieee_products, plain_torch) * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pictures.append(picture())
    assert not wrong and pictures[0] == pictures[1]


@pytest.mark.parametrize("kernel", ["flash", "mem_efficient", "math", "cudnn"])
def test_all_kernels_of_attention_are_allowed_to_libraries(kernel: str) -> None:
    """Which of them a GPU takes decides last bits of embeddings, and is not what the process has allowed."""
    allow, allowed = (getattr(torch.backends.cuda, name) for name in (f"enable_{kernel}_sdp", f"{kernel}_sdp_enabled"))
    allow(False)
    try:
        with plain_torch():
            assert allowed()
        assert not allowed()
    finally:
        allow(True)


def test_weights_that_are_trained() -> None:
    """Weights and rows that ask for gradients are taken as numbers; nothing that comes out asks for any."""
    weight = torch.nn.Parameter(WEIGHT.clone())
    code = TopKEncoder(weight, 12).encode(ROWS.clone().requires_grad_())
    assert_bit_equal(code, TopKEncoder(WEIGHT, 12).encode(ROWS))
    assert weight.grad is None and not code.values.requires_grad


class _OfDefault(TorchDispatchMode):
    """Notes what is computed in the process's default dtype."""

    def __init__(self):
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.get_default_dtype():
            self.found.add(str(func))
        return result


def test_no_number_has_the_default_dtype(alone: dict[str, Any]) -> None:
    """Quotients of whole numbers have it, unless they are converted: in 16 bits 257 of them are 256."""
    with STATES["bfloat16"](), _OfDefault() as watching:
        for make in ENCODERS.values():
            make().encode(ROWS, 150)
        artifacts(*alone["chunks"])
        protocols(*alone["chunks"][:0:-1])
    assert not watching.found
