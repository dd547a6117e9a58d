"""Signs that an attack on inputs was misled, so that a model looks sturdier than it is.

A gradient can be hidden without any sturdiness behind it (Athalye et al. 2018, Obfuscated gradients
give a false sense of security). The signs are those that AutoAttack warns of (Croce and Hein 2020),
in a formulation of our own: answers that differ from pass to pass; inputs without a gradient;
inputs that the attack brings no nearer to an error; and inputs that withstand the attack and yield
to a search that knows no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch

from learning.attacks.ascent import Ball, Inputs, direction, evaluating, probe
from learning.attacks.losses import margin, objectives
from learning.attacks.worst import Worst

if TYPE_CHECKING:
    from torch import Tensor, nn

QUESTIONS = 20  # that the search puts to the model for each input
FRESH = 0.1  # share of an input's numbers that each question changes

# Share of the inputs attacked from which a sign is told. Single inputs without a gradient are
# found in healthy models too.
SHARE = 0.05
OUTDONE = 0.01

# Relative to the largest logit: above rounding, also that of a device that adds in any order.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Signs:
    """How many inputs show what; all of them were right before the attack.

    Attributes:
        attacked: Inputs attacked.
        stood: Of these, those that stay right under the attack.
        restless: Whose logits differ between two equal passes.
        blind: Where the gradient of every loss is 0.
        stuck: Of those that stood, those that the attack brings no nearer to an error.
        outdone: Of those that stood, those that the search misleads.
    """

    attacked: int = 0
    stood: int = 0
    restless: int = 0
    blind: int = 0
    stuck: int = 0
    outdone: int = 0

    def __add__(self, other: Signs) -> Signs:
        """Return the sums."""
        names = [field.name for field in fields(self)]
        return Signs(**{name: getattr(self, name) + getattr(other, name) for name in names})


def signs_of(
    model: nn.Module,
    inputs: Inputs,
    attacked: Tensor,
    stood: Tensor,
    ball: Ball | None,
    generator: torch.Generator,
) -> Signs:
    """Look for the signs at some inputs that were right before the attack.

    Args:
        model: Gives logits (n, classes).
        inputs: The inputs.
        attacked: What the attack made of them, (n, C, H, W).
        stood: Which of them stay right, bool (n,).
        ball: Where the attack may go; None: not known. Nothing is searched there, and a ball of
            radius 0 shows nothing.
        generator: CPU generator of the search.
    """
    stuck = outdone = 0
    with evaluating(model):
        restless = _restless(model, inputs.x)
        blind = _blind(model, inputs)
        if bool(stood.any()) and (ball is None or ball.epsilon > 0):
            left = inputs.take(stood)
            with torch.no_grad():
                stuck = _stuck(model, left, attacked[stood])
                outdone = 0 if ball is None else _outdone(model, left, ball, generator)
    return Signs(len(inputs.x), int(stood.sum()), restless, blind, stuck, outdone)


def told(signs: Signs, title: str) -> tuple[str, ...]:
    """Return what a reader of the attack's accuracy should know, one line each; often nothing."""
    few, rare = SHARE * signs.attacked, OUTDONE * signs.attacked
    inputs, left = f"of the {signs.attacked} inputs attacked", f"of the {signs.stood} left right"
    found = {
        f"answers to {signs.restless} {inputs} differ from pass to pass": signs.restless > rare,
        f"the gradient is 0 at {signs.blind} {inputs}": signs.blind > few,
        f"it brings {signs.stuck} {left} no nearer to an error": signs.stuck > few,
        f"a random search of {QUESTIONS} questions, without gradients, misleads "
        f"{signs.outdone} {left}": signs.outdone > rare,
    }
    said = "; ".join(sign for sign, holds in found.items() if holds)
    return (f"The accuracy under {title} may be too high: {said}.",) if said else ()


def _restless(model: nn.Module, x: Tensor) -> int:
    with torch.no_grad():
        first, second = model(x), model(x)
    far = (first - second).abs().amax(1) > _ROUNDING * first.abs().amax(1)
    return int(far.sum())


def _blind(model: nn.Module, inputs: Inputs) -> int:
    lost = torch.ones(len(inputs.x), dtype=torch.bool, device=inputs.x.device)
    for objective in objectives("worst"):
        _, _, gradient = probe(model, inputs, inputs.x, objective)
        lost &= ~gradient.flatten(1).any(1)
    return int(lost.sum())


def _stuck(model: nn.Module, inputs: Inputs, attacked: Tensor) -> int:
    before, after = (_margins(model, inputs, x) for x in (inputs.x, attacked))
    return int((after <= before).sum())


def _outdone(model: nn.Module, inputs: Inputs, ball: Ball, generator: torch.Generator) -> int:
    """Return how many inputs a random search misleads: it keeps what brings an error nearer."""
    worst = Worst(model, inputs.x, inputs.y)
    everybody, best = worst.all, _drawn(inputs.x, generator)
    for question in range(QUESTIONS):
        tried = _partly_redrawn(best, generator) if question else best
        at = ball.around(inputs.x, inputs.x + ball.epsilon * direction(tried, ball.norm))
        before = worst.margin.clone()
        worst.see(everybody, at, model(at))
        better = (worst.margin > before).reshape(-1, *[1] * (at.dim() - 1))
        best = torch.where(better, tried, best)
    return len(inputs.x) - len(worst.standing().x)


def _partly_redrawn(x: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(x.shape, generator=generator).to(x.device) < FRESH
    return torch.where(chosen, _drawn(x, generator), x)


def _drawn(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers of the shape of `x`, drawn on the CPU: every device asks alike."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)


def _margins(model: nn.Module, inputs: Inputs, x: Tensor) -> Tensor:
    return margin(model(x), inputs.y, inputs.unit)
