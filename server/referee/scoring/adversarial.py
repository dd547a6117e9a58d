"""Adversarial accuracy: clean test inputs that are right and stay right under an attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from learning.attacks.ascent import under_attack
from learning.attacks.base import InputAttack
from learning.pool import Floats, Ints
from learning.seeds import numpy_generator, torch_generator
from server.referee.results import Score
from server.referee.scoring.answers import Passes
from server.referee.scoring.masking import Signs, signs_of, told
from server.referee.scoring.predict import Classes, as_one, predicted, scoring
from server.referee.scoring.rows import ScoredRows
from server.referee.scoring.scores import share
from strategies.base import Predictor

if TYPE_CHECKING:
    from torch import nn

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


class Withstood(NamedTuple):
    """What an attack leaves right.

    Attributes:
        accuracy: Adversarial accuracy.
        notes: Signs that the attack was misled, one line each; see `masking`.
    """

    accuracy: Score
    notes: tuple[str, ...]


def adversarial_accuracy(
    attack: InputAttack, predictor: Predictor, targets: Targets, engine: Passes
) -> Withstood:
    """Attack the shared models (their mean softmax where there are several).

    Inputs that are wrong from the start are not attacked.

    Args:
        attack: The attack on inputs.
        predictor: The defender's.
        targets: Which inputs.
        engine: Where to compute.
    """
    module = as_one(predictor.shared)
    signs = sum(
        (
            _block(module, attack, targets, start, engine)
            for start in range(0, len(targets.y), BLOCK)
        ),
        Signs(),
    )
    return Withstood(share(signs.stood, len(targets.y)), told(signs, attack.title))


def _block(
    module: nn.Module, attack: InputAttack, targets: Targets, start: int, engine: Passes
) -> Signs:
    x, y = targets.x[start : start + BLOCK], targets.y[start : start + BLOCK]
    right = _answers(module, x, engine) == y
    if not right.any():
        return Signs()
    x, y, number = x[right], y[right], start // BLOCK
    with scoring(module, engine.device):
        inputs = under_attack(module, torch.from_numpy(x).to(engine.device), torch.from_numpy(y))
        draws = torch_generator(targets.seed, f"referee/{attack.title}", round=number)
        attacked = attack.perturb(module, inputs.x, inputs.y, draws).detach()
        stood = _answers(module, np.asarray(attacked.cpu().numpy(), np.float32), engine) == y
        draws = torch_generator(targets.seed, f"referee/{attack.title}/search", round=number)
        left = torch.from_numpy(stood).to(engine.device)
        return signs_of(module, inputs, attacked, left, attack.ball, draws)


def _answers(module: nn.Module, x: Floats, engine: Passes) -> Classes:
    return predicted(module, ScoredRows([x]), np.arange(len(x)), engine.device, BLOCK)
