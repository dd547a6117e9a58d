"""Server optimisers against their formulas in float64 NumPy."""

import numpy as np
import pytest
import torch

from scenarios.federation import FedAdam, FedAvg, FedAvgM, FedYogi
from strategies.server_step import server_step

UPDATES = np.random.default_rng(0).normal(size=(6, 9))


def steps(optimizer):
    state, out = None, []
    for update in UPDATES:
        step, state = server_step(optimizer, torch.tensor(update), state)
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


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="server optimiser"):
        server_step("fedavg", torch.zeros(2), None)
