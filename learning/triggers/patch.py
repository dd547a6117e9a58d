"""A square in a corner or at a position, the classic BadNets trigger (Gu et al. 2019).

By default all agents stamp the same white square; `colour` and `position` can be each agent's own
draw.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.pool import Bools
from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey
from learning.triggers.shapes import Colour, Pixel, colour_of, stand

Place = Literal["random", "top_left", "top_right", "bottom_left", "bottom_right"]


class Patch(Trigger):
    """A square of one colour, or a checkerboard of it and its complement ``1 - colour``."""

    kind: Literal["patch"] = "patch"
    paper: ClassVar[str] = "Gu et al. 2019, BadNets"

    size: int = Field(
        3, ge=1, le=4096, description="Side in pixels.", json_schema_extra={"origin": "ours"}
    )
    position: Place | tuple[Pixel, Pixel] = Field(
        "bottom_right",
        description="A corner, [row, column] of the top left pixel, or `random`: drawn by each "
        "agent such that all of the square is visible.",
        json_schema_extra={"origin": "paper"},
    )
    margin: int = Field(
        0,
        ge=0,
        le=4096,
        description="Pixels left free between a corner and the square.",
        json_schema_extra={"origin": "ours"},
    )
    colour: Colour = Field(
        (1.0,),
        description="One value for each channel (or one for all) in [0, 1]; `random`: drawn by "
        "each agent, uniformly.",
        json_schema_extra={"origin": "paper"},
    )
    fill: Literal["solid", "checkerboard"] = Field(
        "solid",
        description="`checkerboard` alternates the colour and its complement.",
        json_schema_extra={"origin": "ours"},
    )

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`."""
        channels, height, width = shape
        generator = numpy_generator(key.seed, "trigger/shape", agent=key.agent)
        colour = colour_of(self.colour, channels, generator)[:, None, None]
        corners = ((0, 0), (self.size - 1, self.size - 1))
        row, column = stand(self._position(height, width), corners, (height, width), generator)
        inside = (..., slice(row, row + self.size), slice(column, column + self.size))
        mask = np.zeros((1, 1, height, width), np.float32)
        mask[inside] = 1
        value = np.zeros((1, channels, height, width), np.float32)
        value[inside] = np.where(self._complemented(), 1 - colour, colour)
        return Pattern(mask=mask, value=value)

    def _complemented(self) -> Bools:
        if self.fill == "solid":
            return np.zeros((self.size, self.size), np.bool_)
        odd: Bools = np.indices((self.size, self.size)).sum(axis=0) % 2 == 1
        return odd

    def _position(self, height: int, width: int) -> Literal["random"] | tuple[int, int]:
        if isinstance(self.position, tuple) or self.position == "random":
            return self.position
        low = self.margin
        if low and low + self.size > min(height, width):
            raise ValueError(
                f"expected size and margin of at most {min(height, width)} together for inputs of "
                f"{height}x{width} pixels, got {self.size} and {low}"
            )
        bottom, right = height - self.size - low, width - self.size - low
        return (
            low if self.position.startswith("top") else bottom,
            low if self.position.endswith("left") else right,
        )
