"""Hostile statistics: honest weights, beside buffers that ruin the model that averages them.

Rules that judge updates by their weights see nothing of BatchNorm's running statistics, which enter
the model all the same: one agent of many is enough where they are averaged. Users of FLAME's and
FLTrust's code found their robust rules spoilt that way (zhmzm/FLAME #10, zhmzm/FLTrust_pytorch #2).
The attack is ours. Its buffers are possible by themselves, so that they are admitted: finite, in
range, no variance and no counter below 0. What becomes of buffers:
`strategies.aggregation.parts.buffers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from clients.update_attacks.base import Before, LocalPlan, UpdateAttack, View
from learning.hostile_buffers import hostile_buffers
from learning.weights import State, WeightLayout

if TYPE_CHECKING:
    from torch import Tensor


class Statistics(UpdateAttack):
    """Hands over the update of an honest training, with hostile buffers beside it.

    It trains on its clean rows, whatever its behaviour did to them. On a model without buffers it
    is an honest agent.
    """

    kind: Literal["statistics"] = "statistics"
    paper: ClassVar[str] = (
        "ours, 2026, after user reports: zhmzm/FLAME #10, zhmzm/FLTrust_pytorch #2"
    )
    needs_buffers: ClassVar[bool] = True

    shift: float = Field(
        1e6,
        ge=0,
        le=1e9,
        description="A mean m becomes m + shift * max(1, |m|) or m - shift * max(1, |m|), entry by "
        "entry at random.",
        json_schema_extra={"origin": "ours"},
    )
    factor: float = Field(
        1e-6,
        ge=0,
        le=1e9,
        description="What variances are multiplied by.",
        json_schema_extra={"origin": "ours"},
    )

    def plan(self, before: Before) -> LocalPlan:
        """Train on clean rows."""
        return LocalPlan(honest=True)

    def craft(self, view: View) -> Tensor:
        """Return the update as trained."""
        return view.own

    def buffers(self, before: Before, trained: State, layout: WeightLayout) -> State:
        """Return the hostile buffers."""
        draws = before.generator("statistics")
        return hostile_buffers(
            trained, layout.variances, layout.counters, self.shift, self.factor, draws
        )
