"""What is known of a data set before its rows are read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sketch:
    """A data set in outline; None where something is not known.

    Attributes:
        shape: Of one input, (C, H, W).
        classes: Number of classes.
        train: Rows of the training split as published.
        test: Rows of the official test split; 0 where there is none.
    """

    shape: tuple[int, int, int] | None = None
    classes: int | None = None
    train: int | None = None
    test: int | None = None
