"""Blended injection: a key pattern mixed into the whole input (Chen et al. 2017, 4.2).

x' = (1 - alpha) x + alpha k
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey
from learning.triggers.shapes import Colour, colour_of


class Blended(Trigger):
    """A random key or a checkerboard, blended over all pixels."""

    kind: Literal["blended"] = "blended"
    paper: ClassVar[str] = "Chen et al. 2017, Targeted backdoor attacks by data poisoning, 4.2"

    alpha: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Weight of the key pattern.",
        json_schema_extra={"origin": "paper"},
    )
    key_pattern: Literal["random", "checkerboard"] = Field(
        "random",
        description="`random`: every value is drawn by the agent, uniformly; `checkerboard`: "
        "squares of `colour` and of its complement.",
        json_schema_extra={"origin": "paper"},
    )
    cell: int = Field(
        2,
        ge=1,
        le=4096,
        description="Side of a square of the checkerboard in pixels.",
        json_schema_extra={"origin": "ours"},
    )
    colour: Colour = Field(
        "random",
        description="Colour of the checkerboard's first square, one value for each channel (or "
        "one for all) in [0, 1]; `random`: drawn by each agent, uniformly.",
        json_schema_extra={"origin": "ours"},
    )

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`."""
        channels, height, width = shape
        generator = numpy_generator(key.seed, "trigger/blended", agent=key.agent)
        if self.key_pattern == "random":
            value = generator.random((1, *shape), dtype=np.float32)
        else:
            colour = colour_of(self.colour, channels, generator)[:, None, None]
            odd = (np.indices((height, width)) // self.cell).sum(axis=0) % 2 == 1
            value = np.where(odd, 1 - colour, colour)[None]
        return Pattern(mask=np.full((1, 1, height, width), self.alpha, np.float32), value=value)
