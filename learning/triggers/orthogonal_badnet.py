"""Orthogonal-BadNet: one base pattern of the group, sent far apart by orthogonal matrices.

S0 (Backdoors that backfire) A.1.8, after Cheung et al. 2019. With the group's base shape z and
colours m, and the agent's Haar orthogonal matrix o_i (one for all channels):

    x' = x * (1 - z.o_i) + m * z.o_i

The paper writes the product as element-wise but speaks of a matrix that "transforms" the pattern,
and does not say when values are clipped; both are fields. A Haar matrix has negative entries, and
only with their signs kept do the shapes reach the cosine distances near 1 of S0's Table 4: cut to
[0, 1] first, they stay near 0.5.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import ortho_group

from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey


class OrthogonalBadNet(Trigger):
    """The group's base pattern under a mask that the agent's orthogonal matrix transformed."""

    kind: Literal["orthogonal_badnet"] = "orthogonal_badnet"
    paper: ClassVar[str] = "S0, Datta & Shadbolt, Backdoors that backfire, A.1.8 Orthogonal-BadNet"

    epsilon: float = Field(
        0.55,
        ge=0,
        le=1,
        description="Perturbation rate of the base pattern: the probability that a pixel is in "
        "its shape.",
        json_schema_extra={"origin": "paper"},
    )
    multiply: Literal["elementwise", "left", "right"] = Field(
        "elementwise",
        description="How the shape z and the matrix o are multiplied: entry by entry (S0's "
        "formula), o z, or z o.",
        json_schema_extra={"origin": "paper"},
    )
    clip: Literal["result", "pattern"] = Field(
        "result",
        description="`result`: the mask keeps its sign and size, and the stamped input is cut to "
        "[0, 1]; `pattern`: the mask is cut to [0, 1] first.",
        json_schema_extra={"origin": "deduced"},
    )

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`.

        Raises:
            ValueError: If the inputs are not square, as S0 asks, or are a single pixel.
        """
        height, width = shape[1:]
        if height != width or height < 2:
            raise ValueError(
                f"expected square inputs of at least 2x2 pixels for orthogonal_badnet, got "
                f"{height}x{width}"
            )
        base = numpy_generator(key.seed, "trigger/orthogonal base", agent=key.group)
        z = (base.random((height, width)) < self.epsilon).astype(np.float64)
        m = base.random(shape) * z
        mask = self._product(z, orthogonal_matrix(height, key))
        if self.clip == "pattern":
            mask = np.clip(mask, 0, 1)
        return Pattern(mask=mask[None, None].astype(np.float32), value=m[None].astype(np.float32))

    def _product(self, z: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.multiply == "elementwise":
            return z * matrix
        return matrix @ z if self.multiply == "left" else z @ matrix


def orthogonal_matrix(size: int, key: TriggerKey) -> NDArray[np.float64]:
    """Return the agent's matrix of the Haar distribution, float64 (size, size)."""
    generator = numpy_generator(key.seed, "trigger/orthogonal", agent=key.agent)
    return np.asarray(ortho_group.rvs(size, random_state=generator), dtype=np.float64)
