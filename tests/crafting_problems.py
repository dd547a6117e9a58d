"""A problem of the digits for attacks that craft rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.crafter_conformance import recipe_for_checks
from clients.data_attacks.parts.crafter import CraftingProblem
from learning.data.digits import Digits
from learning.training.spec import TrainingSpec


def problem_of(share=0.1, epochs=20):
    """Digits: 100 rows to craft, 300 known, 300 judges."""
    data = Digits().load()
    x, y = data.x_train[:700], data.y_train[:700].astype(np.int64)
    recipe = replace(
        recipe_for_checks(), shape=x.shape[1:], classes=10, training=TrainingSpec(epochs=20)
    )
    return CraftingProblem(
        x[:100], y[:100], x[100:400], y[100:400], x[400:], y[400:], share, recipe, epochs
    )
