"""An X of five pixels: S2 (Incompatibility clustering) B.2, after Tran et al. 2018.

The reference pixel is the centre, at least one pixel away from the border.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from learning.triggers.shapes import Cells, Shape


class CrossTrigger(Shape):
    """The centre and its four diagonal neighbours."""

    kind: Literal["cross"] = "cross"
    paper: ClassVar[str] = "S2, Jin et al., Incompatibility clustering, B.2; Tran et al. 2018"

    def cells(self) -> Cells:
        """Return the centre and the four pixels diagonal to it."""
        return ((0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
