"""Random SAEs: Gaussian directions of the trained ones' norms, as sparse as the trained SAE, the same everywhere."""

import pytest
import torch

from sae_assets.ops.jumprelu import JumpReluEncoder, ReluEncoder
from sae_assets.ops.random_saes import match_density, random_encoder
from sae_assets.ops.sparse_activations import Encoder, TopKEncoder
from sae_assets_tests.helpers.process_states import under
from sae_assets_tests.strategies import DEVICES

D, N = 24, 700  # more units than are matched at once


def trained(kind: str, device: str = "cpu", seed: int = 0) -> Encoder:
    """Directions of different norms, biases and a shift."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(D, N, generator=generator) * torch.linspace(0.1, 2, N)
    shared = {
        "shift": torch.randn(D, generator=generator), "bias": torch.randn(N, generator=generator) / 4, "device": device,
    }  # fmt: skip
    if kind == "topk":
        return TopKEncoder(weight, 9, **shared)
    if kind == "relu":
        return ReluEncoder(weight, **shared)
    return JumpReluEncoder(weight, torch.rand(N, generator=generator) * 8 * weight.norm(dim=0), **shared)


def rows(n: int = 400, seed: int = 1) -> torch.Tensor:
    """Correlated dimensions, off the origin."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=generator) @ torch.randn(D, D, generator=generator) / 3 + 0.5


def counts(encoder: Encoder, x: torch.Tensor) -> torch.Tensor:
    return torch.bincount(encoder.encode(x).unit_ids, minlength=N)


@pytest.mark.parametrize("kind", ["topk", "relu", "jumprelu"])
def test_directions_are_gaussian_and_all_else_is_kept(kind: str) -> None:
    """Norms to float32's rounding, shift, bias and k to the last bit; uncorrelated with the trained directions."""
    encoder = trained(kind)
    random, other = random_encoder(encoder, 3), random_encoder(encoder, 4)
    norms = encoder.columns.double().norm(dim=1)
    torch.testing.assert_close(random.columns.double().norm(dim=1), norms, rtol=1e-6, atol=0)
    assert torch.equal(random.shift, encoder.shift) and torch.equal(random.bias, encoder.bias)
    assert getattr(random, "k", None) == getattr(encoder, "k", None)
    drawn = torch.randn(N, D, generator=torch.Generator().manual_seed(3), dtype=torch.float32)
    cosines = torch.nn.functional.cosine_similarity(random.columns, drawn)
    assert float(cosines.min()) > 1 - 1e-6 and not torch.equal(random.columns, other.columns)
    with_trained = torch.nn.functional.cosine_similarity(random.columns, encoder.columns)
    assert abs(float(with_trained.mean())) < 4 / (N * D) ** 0.5  # of variance 1/D


def test_the_process_draws_on_as_before() -> None:
    """The seed is of a generator of its own."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_encoder(trained("topk"), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
def test_each_unit_fires_on_as_many_rows_as_the_trained_one(device: str, kind: str) -> None:
    """Exactly, on the rows that it is matched on; biases are kept unless a unit could not fire as often with them."""
    encoder, x = trained(kind, device), rows()
    before = counts(encoder, x)
    random = random_encoder(encoder, 0)
    assert not torch.equal(counts(random, x), before)  # with the trained thresholds
    matched = match_density(random, before, x.to(device))
    assert torch.equal(counts(matched, x), before) and bool((before == 0).any()) == (kind == "jumprelu")
    raised = matched.bias > random.bias
    assert torch.equal(raised, matched.jump_threshold == 0) and torch.equal(matched.bias[~raised], random.bias[~raised])
    assert 0 < int(raised.sum()) < N


@pytest.mark.long
@pytest.mark.slow
def test_other_rows_have_about_the_same_l0() -> None:
    """Matched on 4,000 rows, over 5 seeds: on 4,000 others each SAE's L0 is within a tenth of the trained one's."""
    encoder, x = trained("jumprelu"), rows(8000)
    before = counts(encoder, x[:4000])
    expected = float(encoder.encode(x[4000:]).l0.double().mean())
    for seed in range(5):
        matched = match_density(random_encoder(encoder, seed), before, x[:4000])
        assert float(matched.encode(x[4000:]).l0.double().mean()) == pytest.approx(expected, rel=0.1)


def test_units_that_always_or_never_fire_do_so_when_they_are_matched() -> None:
    """The threshold is below the smallest value, or above the largest."""
    encoder = JumpReluEncoder(torch.ones(D, 2), torch.zeros(2), bias=torch.tensor([1e4, 1e4]))
    matched = match_density(random_encoder(encoder, 0), torch.tensor([400, 0]), rows())
    assert torch.bincount(matched.encode(rows()).unit_ids, minlength=2).tolist() == [400, 0]


@pytest.mark.parametrize("state", ["float64", "meta device", "autocast to bfloat16", "inference mode"])
def test_whatever_the_process_has_set(state: str) -> None:
    def made() -> JumpReluEncoder:
        encoder, x = trained("jumprelu"), rows()
        return match_density(random_encoder(encoder, 0), counts(encoder, x), x)

    alone = made()
    encoder, x = trained("jumprelu"), rows()
    before = counts(encoder, x)
    other = under(state, lambda: match_density(random_encoder(encoder, 0), before, x))
    assert torch.equal(other.columns, alone.columns) and torch.equal(other.jump_threshold, alone.jump_threshold)
