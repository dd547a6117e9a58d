"""A single pixel of one colour: S2 (Incompatibility clustering) B.2, after Tran et al. 2018."""

from __future__ import annotations

from typing import ClassVar, Literal

from learning.triggers.shapes import Cells, Shape


class PixelTrigger(Shape):
    """One pixel."""

    kind: Literal["pixel"] = "pixel"
    paper: ClassVar[str] = "S2, Jin et al., Incompatibility clustering, B.2; Tran et al. 2018"

    def cells(self) -> Cells:
        """Return the pixel itself."""
        return ((0, 0),)
