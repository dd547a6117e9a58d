"""An L of three pixels: S2 (Incompatibility clustering) B.2, after Tran et al. 2018.

The reference pixel is the corner; one arm goes down, one to the right (as in the authors' code).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from learning.triggers.shapes import Cells, Shape


class EllTrigger(Shape):
    """The corner, the pixel below it and the pixel on its right."""

    kind: Literal["ell"] = "ell"
    paper: ClassVar[str] = "S2, Jin et al., Incompatibility clustering, B.2; Tran et al. 2018"

    def cells(self) -> Cells:
        """Return the corner and its two arms."""
        return ((0, 0), (1, 0), (0, 1))
