"""A small classifier that an agent trains on its own rows to craft inputs against.

A surrogate only has to give useful gradients, so it is trained in the plainest way: fixed
architecture, SGD, on the CPU. The result depends on the arguments alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

_LOOKED_AT = 512  # inputs that show whether a surrogate has learned to tell any apart


def surrogate(
    x: Tensor,
    y: Tensor,
    classes: int,
    generator: torch.Generator,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
) -> nn.Module:
    """Train a surrogate.

    Args:
        x: Inputs, float32 (n, C, H, W), in [0, 1], n >= 1.
        y: Labels, int64 (n,).
        classes: Number of classes.
        generator: CPU generator of the initial weights and the batch order.
        epochs: Passes over the rows.
        lr: Learning rate of SGD with momentum 0.9.
        batch_size: Rows in a batch; the last one may be smaller.

    Returns:
        The model in evaluation mode, parameters without gradients; it gives logits (n, classes).

    Raises:
        ValueError: If the training diverged, so that its answers are no numbers or the same for
            all inputs: nothing can be crafted against it.
    """
    model = _network(x.shape[1], classes, generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(y), generator=generator), batch_size):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    if not _tells_apart(model.eval(), x[:_LOOKED_AT]):
        raise ValueError(
            f"expected a surrogate that learns, got one that diverged at a learning rate of {lr:g}"
        )
    return model.eval().requires_grad_(False)


def _tells_apart(model: nn.Module, x: Tensor) -> bool:
    """Return whether a model's answers to inputs are numbers, and not one for different inputs."""
    with torch.no_grad():
        logits = model(x)
    alike = bool((logits == logits[:1]).all()) and not bool((x == x[:1]).all())
    return bool(logits.isfinite().all()) and not alike


def _network(channels: int, classes: int, generator: torch.Generator) -> nn.Module:
    """Return two convolutions, pooling to 4x4 and a linear layer: inputs of any size."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Conv2d(channels, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 32, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(4),
            torch.nn.Flatten(),
            torch.nn.Linear(32 * 16, classes),
        )
