"""A model's state as named arrays: what travels, what is trained, what a distance is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = dict[str, NDArray[np.generic]]
State = Mapping[str, "Tensor"]

# What PyTorch's normalisation layers add to a variance before they take its root.
_EPSILON = 1e-5


def to_arrays(state: State) -> Arrays:
    """Return the state as NumPy arrays on the CPU, keys as in `state_dict`."""
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def to_state(arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Tensor]:
    """Return arrays as tensors that own their memory."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


class WeightLayout:
    """Which entries of a model's state are weights, and how they lie in one flat vector.

    Buffers, such as BatchNorm's running statistics, are aggregated but take no part in distances.
    Frozen parameters (``requires_grad`` is false) are neither: they stay as they are. Where several
    names stand for one memory (tied weights, a layer used twice), the first parameter among them,
    else the first name, counts, and the others follow it.

    Args:
        module: A model as its architecture builds it. Where nothing is to be trained (a model held
            for evaluation), all parameters count as weights.

    Attributes:
        shapes: Of every entry of the state, by name, in the model's order.
        dtypes: Names of their dtypes (``float32``, ``int64``, ``bool``).
        weights: Names of the trained weights, each memory once.
        buffers: Names of the buffers, each memory once.
        frozen: Names of the parameters that are not trained, each memory once.
        variances: For each buffer that is a variance, what its layer adds before it takes the
            root. Variances and counters are never negative.
        counters: Names of the buffers that count batches.
        head: Where in the flat vector the weights of the last linear layer lie; None where there is
            none, or it is not trained.

    Raises:
        ValueError: If two entries share a part of their memory, which no entry can follow.
    """

    def __init__(self, module: nn.Module) -> None:
        state = module.state_dict(keep_vars=True)
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.dtypes = {
            name: str(value.dtype).removeprefix("torch.") for name, value in state.items()
        }
        self._follows = _followers(state)
        own = [name for name in state if name not in self._follows]
        parameters = {name for name in own if isinstance(state[name], torch.nn.Parameter)}
        trained = {name for name in parameters if state[name].requires_grad} or parameters
        self.weights = tuple(name for name in own if name in trained)
        self.buffers = tuple(name for name in own if name not in parameters)
        self.frozen = tuple(name for name in own if name in parameters - trained)
        self.variances = {n: e for n, e in _variances(module) if n in self.buffers}
        self.counters = frozenset(_counters(module)).intersection(self.buffers)
        self.head = self._columns(_last_linear(module))

    @property
    def width(self) -> int:
        """Number of weights, d."""
        return int(sum(np.prod(self.shapes[name]) for name in self.weights))

    def _columns(self, names: Sequence[str]) -> slice | None:
        """Return where weights lie that follow one another; None where one of them is no weight."""
        if not names or not set(names) <= set(self.weights):
            return None
        sizes = {name: int(np.prod(self.shapes[name])) for name in self.weights}
        first = self.weights.index(names[0])
        start = sum(sizes[name] for name in self.weights[:first])
        return slice(start, start + sum(sizes[name] for name in names))

    def flat(self, state: State) -> Tensor:
        """Return the weights as one vector, (d,)."""
        return torch.cat([state[name].flatten() for name in self.weights])

    def rest(self, state: State) -> dict[str, Tensor]:
        """Return what a state holds besides the weights: buffers and frozen parameters."""
        return {name: state[name] for name in (*self.buffers, *self.frozen)}

    def stacked(self, states: Sequence[State]) -> dict[str, Tensor]:
        """Return the buffers of n states, at least one, each (n, ...)."""
        return {name: torch.stack([state[name] for state in states]) for name in self.buffers}

    def unflat(self, vector: Tensor, rest: State) -> dict[str, Tensor]:
        """Return the state of a flat vector of weights and a `rest`, in the model's order."""
        sizes = [int(np.prod(self.shapes[name])) for name in self.weights]
        parts = dict(zip(self.weights, torch.split(vector, sizes), strict=True))
        out: dict[str, Tensor] = {}
        for name in (*parts, *self.buffers, *self.frozen):
            value = parts[name].view(self.shapes[name]) if name in parts else rest[name]
            out[name] = value.clone()
        for name, (first, order) in self._follows.items():
            out[name] = out[first].flatten()[order].view(self.shapes[name])
        return {name: out[name] for name in self.shapes}


Follower = tuple[str, "Tensor"]


def _followers(state: State) -> dict[str, Follower]:
    """Return which entries share another's memory, and where in it their values lie."""
    together: dict[tuple[torch.device, int], list[str]] = {}
    for name, value in state.items():
        if value.numel():
            at = value.untyped_storage().data_ptr()
            together.setdefault((value.device, at), []).append(name)
    found: dict[str, Follower] = {}
    for names in together.values():
        if len(names) > 1:
            found |= _among(
                sorted(names, key=lambda n: not isinstance(state[n], torch.nn.Parameter)), state
            )
    return found


def _among(names: Sequence[str], state: State) -> dict[str, Follower]:
    """Return the followers among entries of one storage."""
    leaders: dict[str, Tensor] = {}
    found: dict[str, Follower] = {}
    for name in names:
        places = _places(state[name])
        first = next((n for n, other in leaders.items() if torch.isin(places, other).any()), None)
        if first is None:
            leaders[name] = places
            continue
        ascending, order = leaders[first].sort()
        if not torch.equal(places.sort().values, ascending):
            raise ValueError(
                f"expected weights that share all of their memory or none, got {name!r} and "
                f"{first!r}, which share a part"
            )
        found[name] = (first, order[torch.searchsorted(ascending, places)])
    return found


def _places(value: Tensor) -> Tensor:
    """Return where in its storage each value lies, int64, in the order of `flatten`."""
    size = value.untyped_storage().nbytes() // value.element_size()
    numbers = torch.arange(size)
    return numbers.as_strided(value.shape, value.stride(), value.storage_offset()).flatten()


def _last_linear(module: nn.Module) -> list[str]:
    """Return the names of the last linear layer's parameters; none where there is no such layer."""
    layers = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    if not layers:
        return []
    prefix, layer = layers[-1]
    return [_joined(prefix, name) for name, value in layer._parameters.items() if value is not None]


def _variances(module: nn.Module) -> Iterator[tuple[str, float]]:
    """Yield the buffers that are variances, and what is added to each before its root is taken."""
    for name, layer in _buffers_of(module, "running_var", "variances"):
        yield name, float(getattr(layer, "eps", _EPSILON))


def _counters(module: nn.Module) -> Iterator[str]:
    """Yield the buffers that count batches."""
    for name, _ in _buffers_of(module, "num_batches_tracked", "counters"):
        yield name


def _buffers_of(module: nn.Module, usual: str, attribute: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield buffers of one kind and their layers: PyTorch's own, and those that a layer names.

    Args:
        module: The model.
        usual: What PyTorch's layers call such a buffer.
        attribute: In which other layers may name theirs, as a tuple.
    """
    for prefix, layer in module.named_modules(remove_duplicate=False):
        named = getattr(layer, attribute, ())
        for name in (usual, *(named if isinstance(named, tuple) else ())):
            if layer._buffers.get(name) is not None:
                yield _joined(prefix, name), layer


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
