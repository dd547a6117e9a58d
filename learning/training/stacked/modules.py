"""The plain modules that trainings start from and end with."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from types import NoneType

import torch
from torch import Tensor, nn

from learning.seeds import torch_generator
from learning.training.recipe import Recipe

# What a copy of a layer may share with it.
_PLAIN = (int, float, str, NoneType, torch.dtype, torch.Size)
_CONTAINERS = (dict, set, list)


def fresh_module(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return the untrained model with the game's initial weights, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.random.set_rng_state(torch_generator(recipe.seed, "init").get_state())
        module = recipe.architecture.build(recipe.shape, recipe.classes)
    return module.to(device, dtype)


def has_batchnorm(module: nn.Module) -> bool:
    """Return whether a layer of the module is a BatchNorm."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


class Template:
    """Makes models of one architecture.

    `copy.deepcopy` was most of a round of many small agents. Where all layers hold nothing but
    weights, other layers and plain values, a copy is made layer by layer in a tenth of its time.

    Args:
        module: The untrained model; not changed.

    Attributes:
        state: Its initial weights and buffers.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.state = module.state_dict()
        layers = list(module.modules())
        weights = [id(w) for layer in layers for w in layer._parameters.values() if w is not None]
        tied = len(set(weights)) < len(weights)
        self._simple = not tied and all(map(_holds_plain_values, layers))

    def holding(self, state: Mapping[str, Tensor]) -> nn.Module:
        """Return a model with given weights, all its own, in evaluation mode, gradients off.

        Raises:
            ValueError: If the names or shapes of `state` are not those of the model.
        """
        problem = self._mismatch(state)
        if problem:
            raise ValueError(f"expected the weights of this model: {problem}")
        if self._simple:
            return _copied(self.module, "", state, {})
        module = copy.deepcopy(self.module)
        module.load_state_dict(dict(state))
        return module.eval().requires_grad_(False)

    @staticmethod
    def digest(state: Mapping[str, Tensor]) -> bytes:
        """Return what tells the bits of two states apart."""
        whole = hashlib.blake2b(digest_size=16)
        for name, value in state.items():
            whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            whole.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return whole.digest()

    def _mismatch(self, state: Mapping[str, Tensor]) -> str:
        if self.state.keys() != state.keys():
            missing, unknown = self.state.keys() - state.keys(), state.keys() - self.state.keys()
            return f"missing {sorted(missing)[:5]}, unknown {sorted(unknown)[:5]}"
        for name, own in self.state.items():
            if own.shape != state[name].shape:
                return f"{name} must be {tuple(own.shape)}, got {tuple(state[name].shape)}"
        return ""


def _copied(
    layer: nn.Module, prefix: str, state: Mapping[str, Tensor], done: dict[int, nn.Module]
) -> nn.Module:
    """Return a copy of a layer; one that has two names in the model is copied once."""
    if id(layer) in done:
        return done[id(layer)]
    new: nn.Module = object.__new__(type(layer))
    done[id(layer)] = new
    own = vars(new)
    for name, value in vars(layer).items():
        # Hooks and the like are kept in dicts, each layer's own; most are empty.
        if isinstance(value, _CONTAINERS):
            value = value.copy() if value else type(value)()
        own[name] = value
    own["training"] = False
    for name, weight in layer._parameters.items():
        if weight is not None:
            value = torch.empty_like(weight, requires_grad=False).copy_(state[prefix + name])
            new._parameters[name] = nn.Parameter(value, requires_grad=False)
    for name, buffer in layer._buffers.items():
        if buffer is not None:
            new._buffers[name] = torch.empty_like(buffer).copy_(state.get(prefix + name, buffer))
    for name, child in layer._modules.items():
        if child is not None:
            new._modules[name] = _copied(child, f"{prefix}{name}.", state, done)
    return new


def _holds_plain_values(layer: nn.Module) -> bool:
    return all(
        _plain(value)
        for name, value in vars(layer).items()
        if name not in ("_parameters", "_buffers", "_modules")
    )


def _plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_plain(k) and _plain(v) for k, v in value.items())
    if isinstance(value, list | tuple | set):
        return all(map(_plain, value))
    return isinstance(value, _PLAIN)
