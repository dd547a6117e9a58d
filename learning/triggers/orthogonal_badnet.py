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
import scipy
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey


class OrthogonalBadNet(Trigger):
    """The group's base pattern under a mask that the agent's orthogonal matrix transformed."""

    # The scenario's word is `draw`, which is also the method's name in Python.
    model_config = ConfigDict(serialize_by_alias=True)

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
    drawn: Literal["per_agent", "per_phase", "per_row"] = Field(
        "per_agent",
        alias="draw",
        description="per_agent: one matrix for each agent. per_phase: one for its contributed rows "
        "and another one at run time. per_row: a new one for every row. The base pattern stays.",
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
        moment = "" if self.drawn == "per_agent" else f"/{key.purpose}"
        count = rows if self.drawn == "per_row" else 1
        mask = self._product(z, orthogonal_matrices(height, key, count, moment))
        if self.clip == "pattern":
            mask = np.clip(mask, 0, 1)
        value = np.broadcast_to(m.astype(np.float32), (len(mask), *shape))
        return Pattern(mask=mask[:, None].astype(np.float32), value=value)

    def _product(self, z: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the masks, float64 (rows, size, size), of `matrix`, of the same shape."""
        if self.multiply == "elementwise":
            return z * matrix
        return matrix @ z if self.multiply == "left" else z @ matrix


def orthogonal_matrix(size: int, key: TriggerKey) -> NDArray[np.float64]:
    """Return the agent's one matrix of the Haar distribution, float64 (size, size)."""
    matrix: NDArray[np.float64] = orthogonal_matrices(size, key, 1)[0]
    return matrix


def orthogonal_matrices(
    size: int, key: TriggerKey, count: int, moment: str = ""
) -> NDArray[np.float64]:
    """Return `count` of the agent's matrices of the Haar distribution, float64 (count, size, size).

    Args:
        size: Rows and columns of a matrix.
        key: Whose they are.
        count: How many; 0 gives none.
        moment: Keys the draw besides; "" for the matrix that holds at all times.
    """
    generator = numpy_generator(key.seed, f"trigger/orthogonal{moment}", agent=key.agent)
    drawn = [scipy.stats.ortho_group.rvs(size, random_state=generator) for _ in range(count)]
    return np.asarray(drawn, dtype=np.float64).reshape(count, size, size)
