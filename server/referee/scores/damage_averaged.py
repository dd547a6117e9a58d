"""Damage to the mean of the last epochs' weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field

from server.referee.scores.base import GAP, PAIRED_INPUTS, Bounds, Computed, DefenderScore
from server.referee.scoring.scores import difference

if TYPE_CHECKING:
    from server.referee.facts import DefenderFacts

EPOCHS: Final = 5


class DamageAveraged(DefenderScore):
    """Clean accuracy that the attackers cost a model that is averaged over its last epochs.

    At a constant learning rate the last iterate of a poisoned training oscillates, and what it
    happens to lose counts as damage; the mean of the last epochs' weights tells the two apart.
    """

    kind: Literal["damage_averaged"] = "damage_averaged"
    paper: ClassVar[str] = (
        "none: Backfire's own; the averaging is that of Izmailov et al., UAI 2018, without its "
        "schedule"
    )
    definition: ClassVar[str] = (
        "damage to models whose weights, and running statistics, are the mean over the last epochs "
        "of their training, in both games; in pooled games"
    )
    head: ClassVar[str] = "damage, averaged weights"
    interval: ClassVar[str] = PAIRED_INPUTS
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = GAP
    rank: ClassVar[int] = 59
    of_damage: ClassVar[bool] = True

    epochs: int = Field(
        EPOCHS,
        ge=1,
        le=1000,
        description="Over how many of the last epochs weights are averaged; one number in a game.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """Its name in results, with the number of epochs where that is not the usual one."""
        return self.kind if self.epochs == EPOCHS else f"{self.kind}:{self.epochs}"

    @property
    def averaged_epochs(self) -> int:
        """See `ScoreMethod.averaged_epochs`."""
        return self.epochs

    def compute(self, facts: DefenderFacts) -> Computed:
        """Return the paired difference; None where no model is averaged."""
        return None if facts.averaged is None else difference([facts.averaged])
