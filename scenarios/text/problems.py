"""A rule that a scenario breaks, before it has a place in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Fields of behaviours, and of what they contain, that hold labels of the data set.
LABEL_FIELDS: Final = frozenset({"target", "source", "label", "labels", "others"})

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """A rule that a scenario breaks.

    Attributes:
        path: The field to change.
        message: ``expected ..., got ...``, one line.
    """

    path: Path
    message: str
