"""A little is enough: as far from the mean as the spread of the others hides it.

Baruch, Baruch, Goldberg, A Little Is Enough: Circumventing Defenses For Distributed Learning,
NeurIPS 2019 (arXiv 1902.06156), Algorithm 3. Of n agents m collude; they need
``s = floor(n / 2 + 1) - m`` others on their side to be a majority. Where values are normal, that
many others lie farther from the mean than

    z_max = Phi^-1((n - m - s) / (n - m))

standard deviations. In each coordinate they all hand over ``mean - z_max * std``.

The paper takes mean and deviation from the attackers' own updates (knowledge: group). Its code
divides the sum of squares by their number k, as we do; those of Karimireddy et al. (byzantine-
robust-noniid-optimizer), blades and byzfl divide by k - 1. The paper's code and Karimireddy's
subtract, blades and byzfl add: a negative `z` here. The paper's code and byzfl have no z_max but a
number, 1.5. The LIE baseline of Shejwalkar and Houmansadr has Phi where its inverse belongs.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import UpdateAttack, View
from clients.update_attacks.parts.moments import deviation_of, mean_of
from clients.update_attacks.parts.vectors import fitting

if TYPE_CHECKING:
    from torch import Tensor

# z where no bound follows: 0.1 per cent of a normal distribution lies beyond it.
UNBOUNDED = 3.0


def z_max(n: int, m: int) -> float:
    """Return the paper's z for `m` of `n` agents, >= 0.

    Where the m are a majority without help (s <= 0, also where there are no others), the formula
    has no value or infinity, and `UNBOUNDED` is returned. Where half of the others or more would
    have to help (m <= 2, most often m = 1) it is negative, and 0 is returned: no deviation is
    hidden. Others' code hands over the negative one.
    """
    needed = n // 2 + 1 - m
    if needed <= 0:
        return UNBOUNDED
    hidden = (n - m - needed) / (n - m)
    return NormalDist().inv_cdf(hidden) if hidden > 0.5 else 0.0


class Alie(UpdateAttack):
    """Hands over ``mean - z * std`` of the updates it sees, by coordinate.

    Of one update it sees the deviation is 0: then it hands that one over as it is.
    """

    kind: Literal["alie"] = "alie"
    paper: ClassVar[str] = "Baruch et al., A little is enough, NeurIPS 2019, Algorithm 3"

    knowledge: Literal["group", "honest"] = Field(
        "group",
        description="Whose updates give mean and deviation.",
        json_schema_extra={"origin": "paper"},
    )
    z: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="Standard deviations from the mean; below 0: to the other side; null: z_max "
        "of the paper, from the numbers of agents and of accomplices in the round.",
        json_schema_extra={"origin": "paper"},
    )

    def craft(self, view: View) -> Tensor:
        """Return ``mean - z * std``."""
        z = z_max(view.participants, view.accomplices) if self.z is None else self.z
        return fitting(mean_of(view.seen) - z * deviation_of(view.seen), view.own.dtype)
