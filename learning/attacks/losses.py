"""What an attack on inputs climbs, written so that no model hides behind the scale of its logits.

Of logits z and true label y cross-entropy is

    CE = log(1 + exp(u))  with  u = logsumexp_{j != y} z_j - z_y.

Where the true class's softmax rounds to 1 (in float32 from u < -16.6 on) the gradient of CE is 0,
and an attack stands still in front of a model that is merely confident. u rises and falls with CE,
its gradient has the same direction, CE' = softmax(u) u', and it never fades. So u is climbed.

The margin ``max_{j != y} z_j - z_y`` (Carlini and Wagner 2017, Towards evaluating the robustness of
neural networks, f_6 without its floor) is u of logits times infinity. Its direction does not depend
on their scale at all; that of u does, since the scale says how much the lesser classes count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

LossName = Literal["worst", "cross_entropy", "margin"]

# Of logits (n, classes), labels int64 (n,) and the inputs' units (n, 1): the loss, (n,).
Objective = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]

# A unit of logits in the exponent. The logits of the quickstart's models have a standard deviation
# of about 7, so that they are attacked as by plain cross-entropy; from 4 to 10 it matters little.
SHARPNESS = 7.0


def objectives(loss: LossName) -> tuple[Objective, ...]:
    """Return what is climbed, one after the other.

    ``worst``: cross-entropy of logits brought to one scale, and the margin.
    """
    if loss == "worst":
        return scaled_cross_entropy, margin
    return (cross_entropy,) if loss == "cross_entropy" else (margin,)


def unit_of(logits: Tensor) -> Tensor:
    """Return by how much an input's logits differ, (n, 1): their standard deviation.

    Taken at the clean input, so that one loss is climbed on the whole way. 1 where all are equal.
    """
    centred = logits.detach() - logits.detach().mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    return torch.where(spread > 0, spread, torch.ones_like(spread))


def cross_entropy(logits: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    """Return u, which rises with cross-entropy, (n,)."""
    others, true = _parted(logits, y)
    return others.logsumexp(1) - true


def scaled_cross_entropy(logits: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    """Return u of the logits in units of the clean input's, (n,): the same at every scale."""
    return cross_entropy(logits * (SHARPNESS / unit), y, unit)


def margin(logits: Tensor, y: Tensor, unit: Tensor) -> Tensor:
    """Return the largest other logit minus the true one, (n,): above 0 is a wrong answer."""
    others, true = _parted(logits, y)
    return others.amax(1) - true


def _parted(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits with -inf for the true class, (n, classes), and the true class's, (n,)."""
    index = y[:, None]
    return logits.scatter(1, index, -torch.inf), logits.gather(1, index)[:, 0]
