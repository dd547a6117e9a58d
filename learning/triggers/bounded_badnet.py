"""S1's BadNet: random colours on a share of the pixels of a bounded area.

S1 (Widen the backdoor) 3.2: `p1` is "the range along the dimensions of the input to poison (e.g.
bounded area, along height and width)", `p2` "the proportion of the bounded area to be filled".
S1's poison rate p stands for p0 = p1 = p2; p0 is the behaviour's `poison_rate`. Where the area
lies, how its sides are rounded and how it is filled are left open by the paper.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field

from learning.pool import Bools, Ints
from learning.seeds import numpy_generator
from learning.shares import count_of
from learning.triggers.base import Pattern, Trigger, TriggerKey


class BoundedBadNet(Trigger):
    """An area of ``p1 H x p1 W`` pixels (at least one), a share `p2` of it covered."""

    # The scenario's word is `draw`, which is also the method's name in Python.
    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["bounded_badnet"] = "bounded_badnet"
    paper: ClassVar[str] = "S1, Datta et al., Widen the backdoor, 3.2"

    p1: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Sides of the bounded area, as a share of height and of width (halves up, at "
        "least one pixel).",
        json_schema_extra={"origin": "paper"},
    )
    p2: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the area's pixels that are covered.",
        json_schema_extra={"origin": "paper"},
    )
    area: Literal["random", "top_left", "centre"] = Field(
        "random",
        description="Where the area lies; `random`: drawn with the pattern.",
        json_schema_extra={"origin": "ours"},
    )
    fill: Literal["exact", "bernoulli"] = Field(
        "exact",
        description="`exact`: the nearest number of pixels (halves up), without replacement; "
        "`bernoulli`: each pixel with probability p2.",
        json_schema_extra={"origin": "ours"},
    )
    drawn: Literal["per_agent", "per_row"] = Field(
        "per_agent",
        alias="draw",
        description="One pattern for each agent, or a new one for every row (also at run time).",
        json_schema_extra={"origin": "ours"},
    )

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`."""
        channels, height, width = shape
        per_row = self.drawn == "per_row"
        purpose = f"trigger/bounded/{key.purpose}" if per_row else "trigger/bounded"
        generator = numpy_generator(key.seed, purpose, agent=key.agent)
        count = rows if per_row else 1
        sides = tuple(max(1, count_of(self.p1, side)) for side in (height, width))
        cover = np.zeros((count, height, width), np.bool_)
        corners = self._corners(count, (height, width), sides, generator)
        for out, (row, column), area in zip(
            cover, corners.tolist(), self._filled(count, sides, generator), strict=True
        ):
            out[row : row + sides[0], column : column + sides[1]] = area
        colours = generator.random((count, channels, height, width), dtype=np.float32)
        mask = cover[:, None].astype(np.float32)
        return Pattern(mask=mask, value=colours * mask)

    def _corners(
        self, count: int, size: tuple[int, int], sides: tuple[int, ...], draws: np.random.Generator
    ) -> Ints:
        free = np.subtract(size, sides)
        if self.area == "random":
            return draws.integers(0, free, size=(count, 2), endpoint=True)
        corner = np.zeros(2, np.int64) if self.area == "top_left" else free // 2
        return np.broadcast_to(corner, (count, 2))

    def _filled(self, count: int, sides: tuple[int, ...], draws: np.random.Generator) -> Bools:
        pixels = sides[0] * sides[1]
        coins = draws.random((count, pixels))
        if self.fill == "exact":  # the pixels with the smallest coins
            ranks = coins.argsort(axis=1).argsort(axis=1)
            filled = ranks < count_of(self.p2, pixels)
        else:
            filled = coins < self.p2
        return filled.reshape(count, *sides)
