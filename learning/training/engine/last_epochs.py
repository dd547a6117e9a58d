"""The mean of the weights after the last epochs, beside the weights of the last one.

A training at a constant learning rate goes on oscillating, and the last iterate is one point of
that; the mean of the last epochs' weights is stiller (B. Polyak and A. Juditsky, "Acceleration of
stochastic approximation by averaging", 1992; P. Izmailov et al., "Averaging weights leads to wider
optima and better generalization", UAI 2018). The training itself is not touched.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from learning.training.stacked.nets import State


class LastEpochs:
    """Keeps the weights and buffers of K models after each of their last epochs.

    Buffers of floating type, such as BatchNorm's running statistics, are averaged as weights are;
    they are not computed anew under the mean weights, which would take another pass over the rows.
    Counters are those of the last epoch.

    Args:
        epochs: Over how many epochs the mean is taken; 0: nothing is kept.
    """

    def __init__(self, epochs: int) -> None:
        self._kept: deque[State] = deque(maxlen=epochs)

    @property
    def on(self) -> bool:
        """Whether anything is averaged."""
        return self._kept.maxlen != 0

    def keep(self, tensors: State) -> None:
        """Take in the models as they are after an epoch, each tensor (K, ...)."""
        if self.on:
            self._kept.append({name: value.clone() for name, value in tensors.items()})

    def take(self, models: Tensor) -> None:
        """Go on with these models only, int64 (k,)."""
        self._kept = deque(
            (
                {name: v.index_select(0, models) for name, v in state.items()}
                for state in self._kept
            ),
            maxlen=self._kept.maxlen,
        )

    def mean(self, model: int, *, but_last: bool = False) -> State:
        """Return the mean of a model's weights over the epochs kept; empty where nothing is.

        It is formed in float64 where the device has it, and rounded once.

        Args:
            model: Its position among those that are left.
            but_last: Leave the last epoch out, in which the model diverged.
        """
        kept = list(self._kept)
        kept = kept[:-1] if but_last and len(kept) > 1 else kept
        if not kept:
            return {}
        return {name: _mean([state[name][model] for state in kept]) for name in kept[-1]}


def _mean(values: list[Tensor]) -> Tensor:
    last = values[-1]
    if not last.is_floating_point():
        return last.clone()
    wide = torch.float32 if last.device.type == "mps" else torch.float64
    return torch.stack([value.to(wide) for value in values]).mean(0).to(last.dtype)
