import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.hooks.cutmix import CutMix
from strategies.hooks.mixup import MixUp

HOOKS = [CutMix(probability=1.0), MixUp()]


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def batch(rows=16, side=8):
    """Image i is filled with the value i; label i is class i."""
    x = torch.arange(rows).float()[:, None, None, None].expand(rows, 2, side, side + 1)
    return x.contiguous(), torch.eye(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**62), st.integers(2, 20), st.floats(0.2, 3.0))
def test_cutmix_label_weight_is_exactly_the_kept_share_of_the_pixels(seed, rows, alpha):
    x, targets = batch(rows)
    mixed, soft = CutMix(alpha=alpha, probability=1.0).mix(x, targets, keyed(seed))
    for i in range(rows):
        for j in range(rows):
            share = (mixed[i] == j).float().mean().item()
            assert soft[i, j].item() == pytest.approx(share, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.floats(0.2, 3.0))
def test_mixup_blends_inputs_and_labels_alike(seed, alpha):
    x, targets = batch()
    mixed, soft = MixUp(alpha=alpha).mix(x, targets, keyed(seed))
    blended = soft @ x.flatten(1)
    torch.testing.assert_close(mixed.flatten(1), blended, atol=1e-4, rtol=1e-5)
    weights = soft.max(1).values
    assert len(set(np.round(weights.tolist(), 5))) <= 2  # one lambda for the batch


@pytest.mark.parametrize("hook", HOOKS, ids=lambda h: h.kind)
def test_partners_are_drawn_at_random_not_taken_from_the_neighbour(hook):
    x, targets = batch()
    partners = set()
    for seed in range(40):
        _, soft = hook.mix(x, targets, keyed(seed))
        other = soft[3].clone()
        other[3] = 0
        if other.max() > 0:
            partners.add(int(other.argmax()))
    assert len(partners) > 8


@pytest.mark.parametrize("hook", HOOKS, ids=lambda h: h.kind)
def test_soft_labels_stay_distributions_and_rows_keep_their_order(hook):
    x, _ = batch()
    soft_in = torch.softmax(torch.randn(16, 5, generator=keyed(1)), 1)
    mixed, soft = hook.mix(x, soft_in, keyed(3))
    torch.testing.assert_close(soft.sum(1), torch.ones(16))
    assert mixed.shape == x.shape
    assert mixed.dtype == x.dtype
    # With the same draws, one-hot labels show which rows were mixed with what weight.
    _, weights = hook.mix(x, torch.eye(16), keyed(3))
    torch.testing.assert_close(soft, weights @ soft_in)
    assert (weights.diag() > 0).all()  # each row is still, in part, itself


@pytest.mark.parametrize("hook", HOOKS, ids=lambda h: h.kind)
def test_draws_come_from_the_generator_alone(hook):
    x, targets = batch()
    before = torch.random.get_rng_state()
    first = hook.mix(x, targets, keyed(5))
    torch.testing.assert_close(torch.random.get_rng_state(), before, rtol=0, atol=0)
    torch.rand(7)  # move the global generator
    again = hook.mix(x, targets, keyed(5))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    other = hook.mix(x, targets, keyed(6))
    assert not torch.equal(first[1], other[1])
    assert torch.equal(x, batch()[0])
    assert torch.equal(targets, batch()[1])


def test_equals_torchvision_on_the_shuffled_batch():
    from torchvision.transforms import v2

    x, targets = batch()
    draws = keyed(8)
    torch.rand((), generator=draws)
    order = torch.randperm(16, generator=draws)
    seed = int(torch.randint(2**62, (), generator=draws))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        want_x, want_y = v2.CutMix(num_classes=16)(x[order], order)
    got_x, got_y = CutMix(probability=1.0).mix(x, targets, keyed(8))
    assert torch.equal(got_x[order], want_x)
    assert torch.equal(got_y[order], want_y)


@pytest.mark.parametrize("kind", [CutMix, MixUp])
def test_probability_is_the_share_of_mixed_batches(kind):
    x, targets = batch()
    assert all(
        torch.equal(kind(probability=0.0).mix(x, targets, keyed(s))[1], targets) for s in range(20)
    )
    hook, draws = kind(probability=0.3, alpha=50.0), keyed(0)  # alpha: lambda near 1/2, never 1
    mixed = [not torch.equal(hook.mix(x, targets, draws)[1], targets) for _ in range(400)]
    assert 0.22 < np.mean(mixed) < 0.38


def test_a_batch_of_one_is_its_own_partner():
    x, targets = batch(1)
    for hook in HOOKS:
        mixed, soft = hook.mix(x, targets, keyed(0))
        torch.testing.assert_close(mixed, x)
        torch.testing.assert_close(soft, targets)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_generator_is_left_alone_and_the_draws_equal_those_on_the_cpu():
    x, targets = batch()
    before = torch.cuda.get_rng_state()
    on_cuda = CutMix(probability=1.0).mix(x.cuda(), targets.cuda(), keyed(2))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(on_cuda[1].cpu(), CutMix(probability=1.0).mix(x, targets, keyed(2))[1])
