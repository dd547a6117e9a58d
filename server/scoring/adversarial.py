"""Adversarial accuracy: clean test inputs that are right and stay right under an attack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from learning.attacks.base import InputAttack
from learning.pool import Floats, Ints
from learning.seeds import numpy_generator, torch_generator
from server.results import Score
from server.scoring.answers import Engine
from server.scoring.predict import as_one, predicted, scoring
from server.scoring.rows import Rows
from server.scoring.scores import share
from strategies.base import Predictor

# Attacked rows come in blocks of this size whatever the batch size is: random starts and
# gradients then never depend on how much memory the scorer was given.
BLOCK = 128


@dataclass(frozen=True, eq=False)
class Targets:
    """The test inputs that are attacked: the same for every defender of a game.

    Attributes:
        x: float32 (n, C, H, W).
        y: True labels, int64 (n,).
        seed: The game's seed; random starts are keyed by it.
    """

    x: Floats
    y: Ints
    seed: int

    @classmethod
    def draw(cls, x: Floats, y: Ints, rows: int, seed: int) -> Targets:
        """Draw at most `rows` test inputs by the seed."""
        generator = numpy_generator(seed, "referee/adversarial_rows")
        index = np.sort(generator.choice(len(y), size=min(rows, len(y)), replace=False))
        return cls(x[index], y[index], seed)


def adversarial_accuracy(
    attack: InputAttack, predictor: Predictor, targets: Targets, engine: Engine
) -> Score:
    """Attack the shared models (their mean softmax where there are several).

    Args:
        attack: The attack on inputs.
        predictor: The defender's.
        targets: Which inputs.
        engine: Where to compute.
    """
    module = as_one(predictor.shared)
    hits = sum(
        _survivors(module, attack, targets, start, engine)
        for start in range(0, len(targets.y), BLOCK)
    )
    return share(hits, len(targets.y))


def _survivors(
    module: nn.Module, attack: InputAttack, targets: Targets, start: int, engine: Engine
) -> int:
    x, y = targets.x[start : start + BLOCK], targets.y[start : start + BLOCK]
    generator = torch_generator(targets.seed, f"referee/{attack.title}", round=start // BLOCK)
    with scoring(module, engine.device):
        attacked = attack.perturb(
            module,
            torch.from_numpy(x).to(engine.device),
            torch.from_numpy(y).to(engine.device),
            generator,
        )
    both = Rows([x, np.asarray(attacked.detach().cpu().numpy(), dtype=np.float32)])
    answers = predicted(module, both, np.arange(len(both)), engine.device, BLOCK)
    right = answers == np.tile(y, 2)
    return int((right[: len(y)] & right[len(y) :]).sum())
