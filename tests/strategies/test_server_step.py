"""Server optimisers against their formulas in float64 NumPy."""

import numpy as np
import pytest
import torch
from found_methods import SOURCE

from learning.families.table import FAMILIES
from learning.method import discover
from learning.server_optimizers.base import ServerOptimizer
from learning.server_optimizers.fedadam import FedAdam
from learning.server_optimizers.fedavg import FedAvg
from learning.server_optimizers.fedavgm import FedAvgM
from learning.server_optimizers.fedyogi import FedYogi

UPDATES = np.random.default_rng(0).normal(size=(6, 9))


def steps(optimizer):
    state, out = None, []
    for update in UPDATES:
        step, state = optimizer.step(torch.tensor(update), state)
        out.append(step.numpy())
    return np.array(out)


def test_fedavg_and_momentum():
    np.testing.assert_allclose(steps(FedAvg(lr=0.5)), 0.5 * UPDATES)
    v, expected = np.zeros(9), []
    for update in UPDATES:
        v = 0.9 * v + update
        expected.append(2 * v)
    np.testing.assert_allclose(steps(FedAvgM(lr=2.0)), expected)


@pytest.mark.parametrize("cls", [FedAdam, FedYogi])
def test_adaptive_steps(cls):
    optimizer = cls(lr=0.1, beta1=0.9, beta2=0.99, tau=0.01)
    m, v, expected = np.zeros(9), np.full(9, 0.01**2), []
    for update in UPDATES:
        m = 0.9 * m + 0.1 * update
        if cls is FedAdam:
            v = 0.99 * v + 0.01 * update**2
        else:
            v = v - 0.01 * update**2 * np.sign(v - update**2)
        expected.append(0.1 * m / (np.sqrt(v) + 0.01))
    np.testing.assert_allclose(steps(optimizer), expected, rtol=1e-12)


FOUND = discover(ServerOptimizer, FAMILIES["server_optimizer"])


@pytest.mark.parametrize("kind", FOUND)
def test_a_step_writes_to_nothing_and_follows_from_its_state_alone(kind):
    assert SOURCE.search(FOUND[kind].paper)
    optimizer = FOUND[kind]()
    _, state = optimizer.step(torch.tensor(UPDATES[0]), None)
    update, kept = torch.tensor(UPDATES[1]), {name: v.clone() for name, v in state.items()}
    first, after = optimizer.step(update, state)
    assert torch.equal(update, torch.tensor(UPDATES[1]))
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    again, state_again = optimizer.step(update, state)
    assert torch.equal(first, again)
    assert all(torch.equal(after[name], value) for name, value in state_again.items())
    assert first.dtype == torch.float64
