"""What a score is computed from: all that the referee knows of an agent, a group or a defender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from learning.pool import Ints
from server.referee.damage.hits import DamageHits, Right
from server.referee.results import (
    AgentRecord,
    AgentScores,
    DetectionScores,
    Difference,
    FilterScores,
    RoundScores,
    Score,
)
from server.referee.scoring.accuracy import clean_hits
from server.referee.scoring.agents import AgentAnswers, CountedHits, counted_hits
from server.referee.scoring.answers import ToAll
from server.referee.scoring.scores import difference
from server.referee.sealed import RunTimeSet
from strategies.base import Predictor


@dataclass(frozen=True)
class AttackHistory:
    """What one attacker did in a federated game.

    Attributes:
        rounds: Rounds (from 1, ascending) in which it was asked for an update and cheated.
        epochs: Epochs over its rows that it trained in each of these; a fraction where it trains
            a number of steps.
        seen: Rows that it trained on in each of these, each as often as it was used.
    """

    rounds: tuple[int, ...]
    epochs: float
    seen: int


@dataclass(frozen=True, eq=False)
class AgentFacts:
    """What the referee knows of one agent in the games of one defender.

    Attributes:
        run_time: The rows that it kept for run time, and its triggered inputs.
        answers: What it was answered.
        malicious: Whether it cheats.
        record: Who it is; None where a score is computed of made-up answers.
        history: When it attacked, in a federated game; None in a pooled one and of honest agents.
        rounds: The rounds of this defender in the attacked game; empty in a pooled game.
        alone: Of an attacker that was also played alone which test inputs are answered right in
            the game without attackers and in its own, each (trainings, n); None for others, and
            where no score asks for it.
    """

    run_time: RunTimeSet
    answers: AgentAnswers
    malicious: bool
    record: AgentRecord | None = None
    history: AttackHistory | None = None
    rounds: tuple[RoundScores, ...] = ()
    alone: tuple[Right, Right] | None = None

    @property
    def backdoor(self) -> bool:
        """Whether it attacks with triggered inputs."""
        return self.malicious and len(self.run_time.targets) > 0

    @cached_property
    def hits(self) -> CountedHits:
        """Which of the inputs that `asr` counts were predicted as the target, in each game."""
        return counted_hits(self.run_time, self.answers)

    @property
    def asr_by_round(self) -> dict[int, Score]:
        """Its asr after each round that was evaluated, by round."""
        own = self.run_time.agent
        return {entry.round: entry.asr[own] for entry in self.rounds if own in entry.asr}


@dataclass(frozen=True, eq=False)
class GroupFacts:
    """What the referee knows of several attackers in the games of one defender.

    Attributes:
        agents: The scores of each.
        hits: Which of the inputs that `asr` counts were predicted as the target, in the same order.
        names: Of the agents, in the same order.
        damage: What is known of the test inputs in all games; None where no score asks for it.
    """

    agents: Sequence[AgentScores]
    hits: Sequence[CountedHits]
    names: tuple[str, ...] = ()
    damage: DamageHits | None = None


@dataclass(frozen=True, eq=False)
class DefenderFacts:
    """What the referee knows of one defender.

    Attributes:
        test: The answers to the test inputs in the attacked game, and how many agents get them.
        y: Their true labels, int64 (n,).
        class_names: Names of the classes.
        predictor: What it ended with in the attacked game; None where a score is computed of
            made-up answers.
        test_free: Its answers to the test inputs in the game without attackers; None where that
            was not played.
        test_of_attackers: The answers that the attackers get in the attacked game; None where
            everybody gets the same.
        under_attack: Adversarial accuracy by the attack's title.
        filters: What its filters removed, in the order of play.
        rows: Rows of the pool that the first of them saw.
        detection: What its rule made of the updates; None in a pooled game and for rules that
            judge nobody.
        roster: The admitted agents.
        agents: Scores by agent.
        rounds: Its rounds in the attacked game; empty in a pooled game.
        damage: The answers to the test inputs in all games, beside each other; None where no score
            asks for it.
        averaged: Which test inputs models of averaged weights answer right, without attackers and
            in the attacked game, each (trainings, n); None where there are none in a game.
    """

    test: Sequence[ToAll]
    y: Ints
    class_names: tuple[str, ...]
    predictor: Predictor | None = None
    test_free: Sequence[ToAll] | None = None
    test_of_attackers: Sequence[ToAll] | None = None
    under_attack: Mapping[str, Score] = field(default_factory=dict)
    filters: tuple[FilterScores, ...] = ()
    rows: int = 0
    detection: DetectionScores | None = None
    roster: Sequence[AgentRecord] = ()
    agents: Mapping[str, AgentScores] = field(default_factory=dict)
    rounds: tuple[RoundScores, ...] = ()
    damage: DamageHits | None = None
    averaged: tuple[Right, Right] | None = None

    @property
    def lost(self) -> Difference | None:
        """Clean accuracy lost against the game without attackers; None where it was not played."""
        if self.damage is not None:
            return difference([(self.damage.free, self.damage.together)])
        if self.test_free is None:
            return None
        asked = self.test if self.test_of_attackers is None else self.test_of_attackers
        return difference([(clean_hits(self.test_free, self.y), clean_hits(asked, self.y))])

    @property
    def epsilon(self) -> float:
        """Poisoned rows over all other rows that are trained on, as contributed; 0 without any."""
        admitted = [agent for agent in self.roster if agent.admitted]
        poisoned = sum(agent.poisoned_rows for agent in admitted if agent.malicious)
        # In a federated game the pool holds the defender's rows, which are not trained on.
        rows = sum(agent.rows for agent in admitted) if self.rounds else self.rows
        return poisoned / (rows - poisoned) if rows > poisoned else 0.0


@dataclass(frozen=True, eq=False)
class RoundFacts:
    """What the referee knows of one defender after a round that is evaluated.

    Attributes:
        test: The answers to the test inputs, and how many agents get them.
        y: Their true labels, int64 (n,).
        class_names: Names of the classes.
        agents: Facts of the scored agents, with the answers of this round alone.
    """

    test: Sequence[ToAll]
    y: Ints
    class_names: tuple[str, ...]
    agents: Mapping[str, AgentFacts] = field(default_factory=dict)
