"""Where a gate stands exactly on its limit it stays shut."""

import numpy as np
import pytest
import torch
from torch import nn

from backfire.evidence import learnt
from server.referee.findings import MATERIAL, _concluded
from server.referee.learnt import needed_accuracy
from server.referee.results import Difference, Score
from server.referee.scoring.predict import TIED, _decide

ALONE = Score(value=0.9, hits=90, count=100, low=0.82, high=0.95)


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        (0.0, 0.6, "open"),
        (1e-9, 0.6, "backfired"),
        (-0.6, 0.0, "not_backfired"),
        (-0.6, -1e-9, "helped"),
    ],
)
def test_an_interval_that_ends_at_nothing_rules_nothing_in(low, high, code):
    gap = Difference(value=(low + high) / 2, count=100, low=low, high=high, trainings=5)
    assert abs(gap.value) >= MATERIAL
    assert _concluded(gap, ALONE).code == code


@pytest.mark.parametrize("constant", [0.1, 0.3, 0.25])
def test_a_model_just_as_good_as_is_needed_has_not_learnt(constant):
    needed = needed_accuracy(constant)
    assert not learnt._above(needed, constant)
    assert not learnt._above(np.nextafter(needed, 1), constant)
    assert learnt._above(needed + 1e-6, constant)


def test_a_row_whose_lead_is_just_the_limit_is_looked_at_alone():
    """A batch's rounding may decide such a row; alone it is decided the same in every batch."""
    seen = []

    class Logits(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x

    lead = torch.tensor([[TIED, 0.0], [0.5, 0.0], [0.0, 2 * TIED]])
    assert _decide(Logits(), lead).tolist() == [0, 0, 1]
    assert seen == [3, 1]
