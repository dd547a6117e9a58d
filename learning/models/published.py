"""Fitting a published network to a game: its first layer, its last layer, its weights file.

Weights are read from safetensors files alone, which hold numbers and no code.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import Field
from safetensors import SafetensorError

from learning.models.base import Architecture


class PublishedNet(Architecture):
    """A network of another library, by its name there, untrained or with weights from a file."""

    weights: str | None = Field(
        None,
        min_length=1,
        description="A safetensors file with a state dict of this network to start from; ~ is the "
        "home, relative paths start at the working directory. Its last layer is kept if it has "
        "the game's number of classes. Unset: untrained.",
        json_schema_extra={"origin": "ours"},
    )
    sha256: str | None = Field(
        None,
        pattern="^[0-9a-f]{64}$",
        description="What the SHA-256 of the weights file must be; unset: any. environment.json of "
        "a run holds what it was.",
        json_schema_extra={"origin": "ours"},
    )
    normalise: bool = Field(
        False,
        description="Bring inputs to ImageNet's mean and deviation first, as published weights "
        "expect.",
        json_schema_extra={"origin": "ours"},
    )

    @abstractmethod
    def network(
        self, shape: tuple[int, int, int], classes: int, weights: Mapping[str, torch.Tensor] | None
    ) -> torch.nn.Module:
        """Return the network for inputs of `shape` (C, H, W).

        Args:
            shape: Of one input.
            classes: Number of classes.
            weights: What the weights file holds; None without one.

        Raises:
            ValueError: If it cannot be built, or the weights are not of it; one line.
        """

    def build(self, shape: tuple[int, int, int], classes: int) -> torch.nn.Module:
        """Return the model, untrained or with the file's weights.

        Raises:
            ValueError: If it cannot be built, or the weights cannot be had or are another
                network's; one line.
        """
        from learning.models.parts.modules import Normalise

        weights = None if self.weights is None else read_weights(self.weights, self.sha256)
        net = self.network(shape, classes, weights)
        return torch.nn.Sequential(Normalise(shape[0]), net) if self.normalise else net

    def files(self) -> tuple[str, ...]:
        """Return the weights file; see `Architecture.files`."""
        return () if self.weights is None else (self.weights,)


def fitted(
    net: torch.nn.Module,
    channels: int,
    classes: int,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> torch.nn.Module:
    """Return a published network with the game's channels and classes.

    With weights, those below the last layer are kept; the last layer is new unless the file's has
    the game's number of classes. A first convolution for another number of channels is new, but a
    grey image is answered as the same image in grey RGB.

    Args:
        net: The network as published; changed in place.
        channels: C of the game's inputs.
        classes: Number of classes.
        weights: The state dict of a network of this kind.

    Raises:
        ValueError: If the weights are not of this network; one line.
    """
    if weights is not None:
        _load(net, weights)
    head, last = last_linear(net)
    if last.out_features != classes:
        new = torch.nn.Linear(last.in_features, classes, bias=last.bias is not None)
        replace(net, head, new)
    first = _first_convolution(net)
    if first is not None and first[1].in_channels != channels:
        replace(net, first[0], other_channels(first[1], channels, keep=weights is not None))
    return net


def _load(net: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict; first and last layer take the file's channels and classes."""
    head, last = last_linear(net)
    outputs = len(weights.get(f"{head}.weight", last.weight))
    if outputs != last.out_features:
        replace(net, head, torch.nn.Linear(last.in_features, outputs, bias=last.bias is not None))
    first = _first_convolution(net)
    own = None if first is None else weights.get(f"{first[0]}.weight")
    if (
        first is not None
        and own is not None
        and own.ndim == 4
        and own.shape[1] != first[1].in_channels
    ):
        replace(net, first[0], other_channels(first[1], own.shape[1], keep=False))
    wrong = _mismatch(net.state_dict(), weights)
    if wrong:
        raise ValueError(f"expected the weights of this network, got others: {wrong}")
    net.load_state_dict(dict(weights))


def _mismatch(own: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str:
    missing, unknown = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unknown:
        parts = (f"no {missing[0]}" if missing else "", f"{unknown[0]}" if unknown else "")
        return " but ".join(filter(None, parts)) + f" ({len(missing) + len(unknown)} such names)"
    for name, value in own.items():
        if value.shape != given[name].shape:
            return f"{name} of shape {tuple(given[name].shape)}, expected {tuple(value.shape)}"
    return ""


def last_linear(net: torch.nn.Module) -> tuple[str, torch.nn.Linear]:
    """Return the name and the layer of the last linear layer, in the order of the modules.

    Raises:
        ValueError: If there is none.
    """
    found = [(name, m) for name, m in net.named_modules() if isinstance(m, torch.nn.Linear)]
    if not found:
        raise ValueError(f"expected a network with a linear layer, got {type(net).__name__}")
    return found[-1]


def _first_convolution(net: torch.nn.Module) -> tuple[str, torch.nn.Conv2d] | None:
    return next(((n, m) for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)), None)


def replace(net: torch.nn.Module, name: str, layer: torch.nn.Module) -> None:
    """Put a layer in the place of another.

    Args:
        net: Changed in place.
        name: The other's name, such as ``classifier.6``.
        layer: The new one.
    """
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, layer)


def other_channels(old: torch.nn.Conv2d, channels: int, *, keep: bool) -> torch.nn.Conv2d:
    """Return the first convolution for other than three channels.

    With `keep` and one channel it does to a grey image what the old one does to the same image in
    grey RGB; other numbers of channels start anew.
    """
    new = torch.nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        stride=(old.stride[0], old.stride[1]),
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    if keep and channels == 1:
        state = {"weight": old.weight.sum(1, keepdim=True), "bias": old.bias}
        new.load_state_dict({name: value for name, value in state.items() if value is not None})
    return new


def read_weights(path: str, sha256: str | None = None) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU.

    Args:
        path: The file; ~ is the home, relative paths start at the working directory.
        sha256: What its SHA-256 must be; None for any.

    Raises:
        ValueError: If it is not there, is no such file, or has another SHA-256; one line.
    """
    found = sha256_of(path)
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"model.weights: expected the SHA-256 {sha256[:12]}..., got {found[:12]}... of {path}: "
            "take the right file, or change model.sha256"
        )
    import safetensors.torch  # imported here: it takes torch

    try:
        return safetensors.torch.load_file(Path(path).expanduser())
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"model.weights: expected a safetensors file, got {path}: {reason} (save one with "
            "safetensors.torch.save_file(model.state_dict(), FILE))"
        ) from None


def sha256_of(path: str) -> str:
    """Return the SHA-256 (hex) of a weights file.

    Raises:
        ValueError: If it cannot be read; one line.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"model.weights: expected a file, got {path}: {reason}") from None
