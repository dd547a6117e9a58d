"""What the triggers of a small shape have in common: where they stand, and their colour."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from learning.pool import Floats
from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey

Unit = Annotated[float, Field(ge=0, le=1)]
Colour = Literal["random"] | Annotated[tuple[Unit, ...], Field(min_length=1, max_length=64)]
Pixel = Annotated[int, Field(ge=0, le=100_000)]
Position = Literal["random"] | tuple[Pixel, Pixel]
Cells = tuple[tuple[int, int], ...]


class Shape(Trigger):
    """A shape of one colour; where it stands and its colour may be the agent's own draw."""

    colour: Colour = Field(
        "random",
        description="One value for each channel (or one for all) in [0, 1], such as 103/255; "
        "`random`: drawn by each agent, uniformly.",
        json_schema_extra={"origin": "paper"},
    )
    position: Position = Field(
        "random",
        description="[row, column] of the shape's reference pixel, from 0 at the top left, the "
        "order in which S2's code reads (X, Y); `random`: drawn by each agent such that the whole "
        "shape is visible.",
        json_schema_extra={"origin": "paper"},
    )

    @abstractmethod
    def cells(self) -> Cells:
        """Return the shape's pixels as (row, column) offsets from the reference pixel."""

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`."""
        channels, height, width = shape
        generator = numpy_generator(key.seed, "trigger/shape", agent=key.agent)
        colour = colour_of(self.colour, channels, generator)
        row, column = stand(self.position, self.cells(), (height, width), generator)
        mask = np.zeros((1, 1, height, width), np.float32)
        for down, right in self.cells():
            mask[0, 0, row + down, column + right] = 1
        return Pattern(mask=mask, value=mask * colour[:, None, None])


def colour_of(colour: Colour, channels: int, generator: np.random.Generator) -> Floats:
    """Return a colour, float32 (C,) in [0, 1].

    Raises:
        ValueError: If it has neither one value nor one for each channel.
    """
    drawn = generator.random(channels, dtype=np.float32)
    if isinstance(colour, str):
        return drawn
    if len(colour) not in (1, channels):
        many = "1 value" if channels == 1 else f"1 or {channels} values"
        raise ValueError(f"expected a colour of {many}, got {len(colour)}")
    return np.broadcast_to(np.asarray(colour, np.float32), (channels,))


def stand(
    position: Position, cells: Cells, size: tuple[int, int], generator: np.random.Generator
) -> tuple[int, int]:
    """Return (row, column) of the reference pixel such that all cells lie inside the image.

    Raises:
        ValueError: If they cannot, or do not at the given position; names the limits.
    """
    lows = [-min(cell[axis] for cell in cells) for axis in (0, 1)]
    highs = [size[axis] - 1 - max(cell[axis] for cell in cells) for axis in (0, 1)]
    if lows[0] > highs[0] or lows[1] > highs[1]:
        needed = [size[axis] + lows[axis] - highs[axis] for axis in (0, 1)]
        raise ValueError(
            f"expected inputs of at least {needed[0]}x{needed[1]} pixels for this trigger, got "
            f"{size[0]}x{size[1]}"
        )
    if isinstance(position, str):
        row, column = generator.integers(lows, highs, endpoint=True).tolist()
        return row, column
    if not all(low <= at <= high for low, at, high in zip(lows, position, highs, strict=True)):
        raise ValueError(
            f"trigger outside the image: expected a position from {lows} to {highs} for inputs of "
            f"{size[0]}x{size[1]} pixels, got {list(position)}"
        )
    return position
