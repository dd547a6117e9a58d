"""The frame that all our models share: a body that makes features, and one linear head."""

from __future__ import annotations

from torch import Tensor, nn


class Classifier(nn.Module):
    """A body, then one linear layer.

    Attributes:
        body: Maps inputs (n, C, H, W) to features (n, d).
        head: Maps features to logits (n, classes).
    """

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return the input of the last linear layer, (n, d)."""
        out: Tensor = self.body(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (n, classes)."""
        out: Tensor = self.head(self.features(x))
        return out


def check_size(name: str, shape: tuple[int, int, int], smallest: int) -> None:
    """Refuse inputs that a model would pool down to nothing.

    Raises:
        ValueError: If height or width is below `smallest`.
    """
    if (reason := too_small(name, shape, smallest)) is not None:
        raise ValueError(reason)


def too_small(name: str, shape: tuple[int, int, int], smallest: int) -> str | None:
    """Return what is said of inputs below `smallest` pixels in height or width."""
    if min(shape[1:]) >= smallest:
        return None
    return (
        f"{name} takes inputs of at least {smallest}x{smallest} pixels, got "
        f"{shape[1]}x{shape[2]}: choose a smaller model or larger images"
    )
