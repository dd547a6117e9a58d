"""A model that was made in Python: a module, or a function that builds one."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, PrivateAttr
from torch import nn

from learning.families.origins import code_of, dotted
from learning.models.base import Architecture

Builder = Callable[[], nn.Module]


class GivenModel(Architecture):
    """A module or a function of the user's; its fields say in the scenario which it was.

    A module is the start of every training: each begins with a copy of its weights, as they are
    when the game is set up. A function is called for every model, and draws its weights from the
    game's generator, so that repeats of a training differ.
    """

    kind: Literal["python"] = "python"
    of: str = Field(description="Module and name of the class or function.")
    sha256: str = Field(description="SHA-256 of its code and structure, and of a module's weights.")
    _make: Builder = PrivateAttr()

    @classmethod
    def holding(cls, given: nn.Module | Builder) -> GivenModel:
        """Return the model of a module or of a function without arguments.

        Raises:
            ValueError: If a function fails or returns no module; one line.
        """
        if isinstance(given, nn.Module):
            kept = copy.deepcopy(given)
            model = cls(of=dotted(type(given)), sha256=_digest(type(given), kept, weights=True))
            model._make = lambda: copy.deepcopy(kept)
        else:
            with torch.random.fork_rng(devices=[]):
                built = _built(given)
            model = cls(of=dotted(given), sha256=_digest(given, built, weights=False))
            model._make = lambda: _built(given)
        return model

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return the untrained model, whatever the shape; the game checks that it fits."""
        return self._make()


def _built(builder: Builder) -> nn.Module:
    try:
        built: object = builder()
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"model: expected {dotted(builder)}() to build a module without arguments, got "
            f"{type(error).__name__}: {told}"
        ) from error
    if not isinstance(built, nn.Module):
        raise ValueError(
            f"model: expected {dotted(builder)}() to return an nn.Module, got "
            f"{type(built).__name__}"
        )
    return built


def _digest(code: object, module: nn.Module, *, weights: bool) -> str:
    torchs_own = dotted(code).startswith("torch.")  # thousands of files
    source = torch.__version__ if torchs_own else code_of(code)
    whole = hashlib.sha256(f"{source}\n{module}\n".encode())
    for name, value in module.state_dict().items() if weights else ():
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        plain = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        whole.update(plain.numpy().tobytes())
    return whole.hexdigest()
