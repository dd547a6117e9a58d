"""Whether the models of a game can be trained as one."""

from __future__ import annotations

from torch import nn

from learning.models.base import Architecture
from learning.training.spec import ComputeSpec


def one_by_one(architecture: Architecture, compute: ComputeSpec, module: nn.Module) -> str | None:
    """Return why no models of a game are trained as one, in one line for the report.

    It follows from the scenario alone, so it holds for every engine of a game, whichever process
    it lives in: the server can tell it of the agents.

    Args:
        architecture: The model.
        compute: How the scenario wants it computed.
        module: One such model.

    Returns:
        The reason; None where models can be trained as one, and where the scenario asks that they
        are not.
    """
    if architecture.batchable or compute.together is False:
        return None
    kind = getattr(architecture, "kind", type(architecture).__name__)
    normed = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    why = "BatchNorm" if normed else "the architecture is not batchable"
    return f"{kind} models are trained one by one: {why}"
