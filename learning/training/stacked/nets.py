"""The two forms that the training loop drives: one plain module, or K models stacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from learning.training.stacked.stack import StackedForward

State = dict[str, Tensor]


class Net(ABC):
    """K models in training.

    Attributes:
        tensors: All weights and buffers by name, each (K, ...), as they are now; written in place.
    """

    tensors: State

    @abstractmethod
    def leaves(self, models: int) -> Sequence[Tensor]:
        """Return what to differentiate by for the first `models` models."""

    @abstractmethod
    def weights(self, models: int) -> list[Tensor]:
        """Return the trained weights of the first `models` models, each (models, ...)."""

    @abstractmethod
    def forward(self, leaves: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return logits (m, b, classes) of inputs (m, b, C, H, W)."""

    @abstractmethod
    def evaluate(self, x: Tensor) -> Tensor:
        """Return all models' logits in evaluation mode, without gradients."""

    @abstractmethod
    def take(self, models: Tensor) -> None:
        """Go on with these models only, int64 (k,)."""

    def snapshot(self) -> State:
        """Return a copy of `tensors`."""
        return {name: value.clone() for name, value in self.tensors.items()}


class PlainNet(Net):
    """A single module, trained as it is.

    Args:
        module: On the training device; trained in place.
        channels_last: Lay inputs out channels-last.
        compiled: Run the module through `torch.compile`.
    """

    def __init__(
        self, module: nn.Module, *, channels_last: bool = False, compiled: bool = False
    ) -> None:
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._module = module.to(memory_format=self._layout).train()
        self._call = torch.compile(self._module) if compiled else self._module
        self._parameters = [p for p in module.parameters() if p.requires_grad]  # not the frozen
        self.tensors = {k: v.detach().unsqueeze(0) for k, v in module.state_dict().items()}

    def leaves(self, models: int) -> Sequence[Tensor]:
        """Return the module's trained parameters."""
        return self._parameters

    def weights(self, models: int) -> list[Tensor]:
        """Return the parameters, each (1, ...)."""
        return [p.detach().unsqueeze(0) for p in self._parameters]

    def forward(self, leaves: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return logits (1, b, classes)."""
        out: Tensor = self._call(x[0].contiguous(memory_format=self._layout))
        return out.unsqueeze(0)

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """Return logits in evaluation mode."""
        self._module.eval()
        try:
            return self.forward((), x)
        finally:
            self._module.train()

    def take(self, models: Tensor) -> None:
        """Keep the one model."""


class StackedNet(Net):
    """K models of one batchable architecture, weights stacked.

    Args:
        states: The K models' initial weights, by the names of the plain model's parameters.
        forward: Their forward pass, see `learning.training.stacked.stack`.
    """

    def __init__(self, states: Sequence[State], forward: StackedForward) -> None:
        self._names = list(states[0])
        self.tensors = {
            name: _laid_out(torch.stack([s[name] for s in states])) for name in self._names
        }
        self._call = forward

    def leaves(self, models: int) -> Sequence[Tensor]:
        """Return fresh leaves that share memory with the stacked weights."""
        return [w.detach().requires_grad_() for w in self.weights(models)]

    def weights(self, models: int) -> list[Tensor]:
        """Return the stacked weights of the first models."""
        return [self.tensors[name][:models] for name in self._names]

    def forward(self, leaves: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return logits (m, b, classes).

        A single model is computed beside a copy of itself: kernels for one model sum in another
        order, and a model must not depend on whether others are trained beside it.
        """
        weights = dict(zip(self._names, leaves, strict=True))
        if len(x) > 1:
            return self._call(weights, x)
        twice = {name: _laid_out(w.expand(2, *w.shape[1:])) for name, w in weights.items()}
        return self._call(twice, x.expand(2, *x.shape[1:]))[:1]

    @torch.no_grad()
    def evaluate(self, x: Tensor) -> Tensor:
        """Return logits; batchable architectures have no separate evaluation mode."""
        return self.forward(self.weights(len(x)), x)

    def take(self, models: Tensor) -> None:
        """Go on with these models only."""
        self.tensors = {
            name: _laid_out(w.index_select(0, models)) for name, w in self.tensors.items()
        }


def _laid_out(weights: Tensor) -> Tensor:
    """Lay stacked convolutions (K, O, I, h, w) out channels-last, as grouped ones on a CPU run."""
    if weights.ndim != 5 or weights.device.type != "cpu":
        return weights
    return weights.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
