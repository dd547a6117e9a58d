"""What a score is: one class that says what it means, how it is counted and how it is shown.

The result, the report, the terminal's table, the long table of a sweep, cards and the leaderboard
know no score by name: they ask these classes, and for scores that a scenario asked for what the
result keeps of them (`server.referee.results.AskedScore`), so that a run can be read where the
package of a score is not installed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from learning.method import Method, kind_of
from server.referee.results import GroupValue, Quantity, ScoreValue
from server.referee.scoring.scores import over_agents

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts, DefenderFacts, GroupFacts, RoundFacts
    from server.referee.results import DefenderScores, GameResult

Of = Literal["agent", "group", "defender", "round"]
Bounds = tuple[float, float]
Computed = ScoreValue | Mapping[str, ScoreValue] | None

SHARE: Final[Bounds] = (0.0, 1.0)
GAP: Final[Bounds] = (-1.0, 1.0)
AMOUNT: Final[Bounds] = (0.0, float("inf"))
POINTS: Final[Bounds] = (-float("inf"), float("inf"))

WILSON: Final = "95 %, Wilson, over the inputs"
PAIRED: Final = "95 %, over paired inputs, clustered by agent"
PAIRED_INPUTS: Final = "95 %, over paired inputs"
COMBINED: Final = "95 %, over inputs, all games paired"
NO_INTERVAL: Final = "none within a game; a sweep has one over seeds"


class ScoreMethod(Method):
    """A score. Subclass one of the four below.

    Attributes:
        of: Whom it is a score of.
        definition: What is counted among what, in one clause.
        head: Head of its column.
        interval: What its interval is of.
        higher_is_better: For those who do not attack; None where it is neither good nor bad.
        bounds: The range of its values; ends may be infinite. A sweep's intervals are cut to it.
        unit: Of its values where they are amounts; "" for shares and differences.
        prefix: What its names begin with in the long table, where that is not its `kind`.
        rank: Where it stands among others in tables: lower ones first.
        headline: Whether a sweep's table of all cells has a column for it.
        in_sweeps: Whether a sweep's long table holds it.
        on_card: Whether a sweep's card holds it; of shares and differences only.
        ranked: Whether a leaderboard may rank defences by it.
        tells_of_attacks: Whether it says what a backdoor does, which means nothing where the model
            has not learnt.
        of_damage: Whether it tells what attackers cost in clean accuracy; such a score is computed
            in every game with an agent that aims at that, asked for or not.
    """

    of: ClassVar[Of]
    definition: ClassVar[str]
    head: ClassVar[str]
    interval: ClassVar[str] = WILSON
    higher_is_better: ClassVar[bool | None] = None
    bounds: ClassVar[Bounds] = SHARE
    unit: ClassVar[str] = ""
    prefix: ClassVar[str] = ""
    rank: ClassVar[int] = 1000
    headline: ClassVar[bool] = True
    in_sweeps: ClassVar[bool] = True
    on_card: ClassVar[bool] = False
    ranked: ClassVar[bool] = False
    tells_of_attacks: ClassVar[bool] = False
    of_damage: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """Its name in results: the `kind`, or ``<kind>:<which>`` for a parameter's value."""
        return kind_of(type(self))

    @property
    def averaged_epochs(self) -> int:
        """Over how many of the last epochs of each training it needs the mean weights; 0: none."""
        return 0


class AgentScore(ScoreMethod):
    """A score of one agent against one defender.

    Attributes:
        pooled: Whether the share over all attackers' inputs is a score of the defender as well.
    """

    of: ClassVar[Of] = "agent"
    pooled: ClassVar[bool] = False

    @abstractmethod
    def compute(self, facts: AgentFacts) -> Computed:
        """Return the agent's score; several by name; or None where it has none.

        Args:
            facts: What the referee knows of the agent in this game.
        """

    def combine(self, values: Sequence[ScoreValue], group: GroupFacts) -> GroupValue | None:
        """Return the score of several agents: mean and spread, and all inputs as one count.

        Args:
            values: Of the agents that have the score.
            group: What else is known of the agents, those without the score too.

        Returns:
            None where no agent has it.
        """
        return over_agents(values) if values else None


class BackdoorScore(AgentScore):
    """A score of attackers with a backdoor; other agents have none."""

    def compute(self, facts: AgentFacts) -> Computed:
        """Return the score of an attacker that has triggered inputs, None of anybody else."""
        return self.of_backdoor(facts) if facts.backdoor else None

    @abstractmethod
    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """Return the score of an attacker that has triggered inputs."""


class GroupScore(ScoreMethod):
    """A score of several attackers that is not made of scores of each."""

    of: ClassVar[Of] = "group"

    @abstractmethod
    def compute(self, facts: GroupFacts) -> Computed:
        """Return the score of a group of attackers, or None where it has none."""


class DefenderScore(ScoreMethod):
    """A score of a defender itself."""

    of: ClassVar[Of] = "defender"

    @abstractmethod
    def compute(self, facts: DefenderFacts) -> Computed:
        """Return the defender's score; several by name; or None where it has none.

        Args:
            facts: What the referee knows of the defender in this game.
        """

    def of_defender(self, scores: DefenderScores, result: GameResult) -> Mapping[str, ScoreValue]:
        """Return the values that a result has of a score of every game, by name."""
        name = kind_of(type(self))
        value = getattr(scores, name, None)
        if value is None:
            return {}
        return {name: Quantity(value=value) if isinstance(value, float) else value}


class RoundScore(ScoreMethod):
    """A score of a defender after a round of a federated game."""

    of: ClassVar[Of] = "round"

    @abstractmethod
    def compute(self, facts: RoundFacts) -> Computed:
        """Return the score after a round that is evaluated, or None where there is none."""


def named(title: str, computed: Computed) -> dict[str, ScoreValue]:
    """Return what a score computed by name: ``<title>``, or ``<title>:<which>`` of several."""
    if computed is None:
        return {}
    if isinstance(computed, Mapping):
        return {f"{title}:{which}": value for which, value in computed.items()}
    return {title: computed}
