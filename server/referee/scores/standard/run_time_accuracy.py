"""What an agent gets from the model for its own clean inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from server.referee.scores.base import AgentScore, Computed
from server.referee.scoring.scores import share_of

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts


class RunTimeAccuracy(AgentScore):
    """Accuracy on an agent's clean run-time inputs, of honest agents and attackers."""

    kind: Literal["run_time_accuracy"] = "run_time_accuracy"
    definition: ClassVar[str] = "clean run-time inputs of the agent predicted as their true label"
    head: ClassVar[str] = "run-time accuracy"
    higher_is_better: ClassVar[bool | None] = True
    rank: ClassVar[int] = 41
    headline: ClassVar[bool] = False

    def compute(self, facts: AgentFacts) -> Computed:
        """See `AgentScore.compute`."""
        return share_of(np.asarray(facts.answers.clean == facts.run_time.y))
