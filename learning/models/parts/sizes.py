"""Inputs that are too small for a model."""

from __future__ import annotations


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
