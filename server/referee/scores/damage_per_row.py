"""Damage for each point of poison."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from server.referee.results import Quantity
from server.referee.scores.base import PAIRED_INPUTS, POINTS, Bounds, Computed, DefenderScore

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts


class DamagePerRow(DefenderScore):
    """Points of clean accuracy lost for each point of poison."""

    kind: Literal["damage_per_row"] = "damage_per_row"
    paper: ClassVar[str] = (
        "Lu, Kamath, Yu, Indiscriminate data poisoning attacks on neural networks, TMLR 2022, "
        "Section 5 (epsilon)"
    )
    definition: ClassVar[str] = (
        "damage divided by epsilon: poisoned rows over all other rows that are trained on, as "
        "contributed, before any filter"
    )
    head: ClassVar[str] = "damage per point of poison"
    interval: ClassVar[str] = PAIRED_INPUTS
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = POINTS
    unit: ClassVar[str] = "points per point"
    rank: ClassVar[int] = 63
    of_damage: ClassVar[bool] = True

    def compute(self, facts: DefenderFacts) -> Computed:
        """Return damage over epsilon; None without poisoned rows or without the control game."""
        lost, epsilon = facts.lost, facts.epsilon
        if lost is None or not epsilon:
            return None
        value = None if lost.value is None else lost.value / epsilon
        return Quantity(
            value=value, unit=self.unit, low=lost.low / epsilon, high=lost.high / epsilon
        )
