"""A model's state as named arrays: what travels, what is trained, what a distance is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Arrays = dict[str, NDArray[np.generic]]
State = Mapping[str, Tensor]


def to_arrays(state: State) -> Arrays:
    """Return the state as NumPy arrays on the CPU, keys as in `state_dict`."""
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def to_state(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """Return arrays as tensors that own their memory."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


class Layout:
    """Which entries of a model's state are weights, and how they lie in one flat vector.

    Buffers, such as BatchNorm's running statistics, are aggregated but take no part in distances.

    Args:
        module: A model of the architecture.
    """

    def __init__(self, module: nn.Module) -> None:
        state = module.state_dict()
        weights = dict(module.named_parameters())
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.dtypes = {
            name: str(value.dtype).removeprefix("torch.") for name, value in state.items()
        }
        self.weights = tuple(name for name in state if name in weights)
        self.buffers = tuple(name for name in state if name not in weights)

    @property
    def width(self) -> int:
        """Number of weights, d."""
        return int(sum(np.prod(self.shapes[name]) for name in self.weights))

    def flat(self, state: State) -> Tensor:
        """Return the weights as one vector, (d,)."""
        return torch.cat([state[name].flatten() for name in self.weights])

    def unflat(self, vector: Tensor, buffers: State) -> dict[str, Tensor]:
        """Return the state of a flat vector of weights and some buffers, in the model's order."""
        sizes = [int(np.prod(self.shapes[name])) for name in self.weights]
        parts = dict(zip(self.weights, torch.split(vector, sizes), strict=True))
        return {
            name: parts[name].view(shape).clone() if name in parts else buffers[name].clone()
            for name, shape in self.shapes.items()
        }

    def mean_buffers(self, states: Sequence[State], shares: Tensor) -> dict[str, Tensor]:
        """Return the buffers' weighted mean; integers (counts) are rounded.

        Args:
            states: At least one.
            shares: One for each state, float64 (n,), summing to 1.
        """
        out = {}
        for name in self.buffers:
            stacked = torch.stack([state[name].double() for state in states])
            mean = torch.tensordot(shares, stacked, 1)
            dtype = states[0][name].dtype
            out[name] = (mean if dtype.is_floating_point else mean.round()).to(dtype)
        return out
