"""The result of a game: what `result.json` holds and the report shows.

Every score carries its definition by name, its count and its 95 % interval. What the scores of
every game mean is said by their classes (`server.referee.scores.standard`); those that a scenario
asks for stand in the mappings called `more`, which are left out where they are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RESULT_VERSION: Final = 1

# A result may come from anybody: what is outside these ranges is no result. Shares leave room for
# the rounding of intervals.
_ROUNDING = 1e-9
Count = Annotated[int, Field(ge=0, le=2**53)]
Hits = Annotated[float, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=-_ROUNDING, le=1 + _ROUNDING)]
Distance = Annotated[float, Field(ge=-_ROUNDING, le=2 + _ROUNDING)]
Gap = Annotated[float, Field(ge=-1 - _ROUNDING, le=1 + _ROUNDING)]
Label = Annotated[int, Field(ge=0, le=2**31)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(BaseModel):
    # A diverged training has losses that JSON has no number for.
    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, ser_json_inf_nan="strings"
    )


class Score(_Record):
    """A share of a count, with its 95 % Wilson interval.

    Attributes:
        value: hits / count, or None where count is 0.
        hits: May be fractional where models of several asking agents are averaged.
        count: Number of inputs.
        low: Lower end of the interval; 0 where count is 0.
        high: Upper end; 1 where count is 0.
    """

    value: Share | None
    hits: Hits
    count: Count
    low: Share
    high: Share


class Difference(_Record):
    """A paired difference with its 95 % interval.

    Attributes:
        value: Mean of the differences, or None where count is 0.
        count: Number of paired inputs.
        low: Lower end.
        high: Upper end.
        trainings: How often each of the two games was trained. With 1 the interval is one of
            these inputs and these two models: the noise of training is not in it.
    """

    value: Gap | None
    count: Count
    low: Gap
    high: Gap
    trainings: Annotated[int, Field(ge=1, le=2**31)] = 1


class Quantity(_Record):
    """An amount, or a share that no single count is made of.

    Attributes:
        value: The amount; None where there was nothing to measure.
        unit: What it is an amount of, such as ``rounds``; "" for a share.
        at_least: Whether the game ended first, so that the amount is a lower bound.
        low: Lower end of its interval; None where there is none.
        high: Upper end.
    """

    value: Finite | None
    unit: str = ""
    at_least: bool = False
    low: Finite | None = None
    high: Finite | None = None


class QuantitySummary(_Record):
    """An amount over several agents; the spread is across agents, not across seeds.

    Attributes:
        mean: Mean over the agents' values; None without agents.
        std: Standard deviation across agents (n - 1); None for fewer than two.
        agents: Number of agents with a value.
        unit: Of the amounts.
        at_least: How many of the values are lower bounds.
    """

    mean: Finite | None
    std: Finite | None
    agents: Count
    unit: str = ""
    at_least: Count = 0


class Summary(_Record):
    """A score over several agents; the spread is across agents, not across seeds.

    Attributes:
        mean: Mean over the agents' values; None without agents.
        std: Standard deviation across agents (n - 1); None for fewer than two.
        agents: Number of agents.
        pooled: All agents' inputs as one count.
    """

    mean: Share | None
    std: Share | None
    agents: Count
    pooled: Score


# A value of a score: of an agent, a defender or a round; and of a group of agents. Told apart by
# their fields, of which none are left open.
ScoreValue = Score | Difference | Quantity
GroupValue = Summary | QuantitySummary | Score | Difference | Quantity


def _more() -> Any:  # noqa: ANN401 - what pydantic's fields are made of
    """Return a field of scores by name that is left out of files where it is empty."""
    return Field(default_factory=dict, exclude_if=_is_empty)


def _is_backdoor(aim: str) -> bool:
    return aim == "backdoor"


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: Mapping[str, object]) -> bool:
    return not value


class AskedScore(_Record):
    """What a result keeps of a score that its scenario asked for, so that all can show it.

    Attributes:
        of: Whom it is a score of.
        head: Head of its column.
        interval: What its interval is of.
        higher_is_better: For those who do not attack; None where it is neither.
        low: Lower end of its range; None for no end.
        high: Upper end.
        unit: Of amounts; "" for shares and differences.
    """

    of: Literal["agent", "group", "defender", "round"]
    head: str
    interval: str
    higher_is_better: bool | None
    low: Finite | None
    high: Finite | None
    unit: str = ""


class AgentScores(_Record):
    """One agent's scores against one defender.

    Benign agents have `run_time_accuracy` only, and what the scenario asked for of all.

    Attributes:
        more: Scores that the scenario asked for.
    """

    run_time_accuracy: Score
    asr: Score | None = None
    asr_all: Score | None = None
    asr_source: Score | None = None
    robust_accuracy: Score | None = None
    robust_accuracy_all: Score | None = None
    asr_untrained: Score | None = None
    asr_alone: Score | None = None
    interference: Difference | None = None
    guess_accuracy: Score | None = None
    asr_part: Score | None = None
    asr_together: Score | None = None
    clean_accuracy_alone: Score | None = None
    more: dict[str, ScoreValue] = _more()


class ControlComparison(_Record):
    """A group's attack beside its controls, all figures of the same agents, inputs and trainings.

    Attributes:
        agents: Agents that were also played alone, with an input that `asr` counts.
        of: Agents of the group with such an input.
        trainings: How often each game was trained; the scores are means over them.
        together: asr in the attacked game.
        alone: asr of each agent in the game that it attacks alone.
        untrained: asr in the game without attackers; None where that was not played.
        interference: alone - together.
        alone_effect: alone - untrained.
        together_effect: together - untrained.
        clean_accuracy_alone: The lowest clean accuracy of the games that they attack alone.
    """

    agents: Count
    of: Count
    trainings: Annotated[int, Field(ge=1, le=2**31)]
    together: Score
    alone: Score
    untrained: Score | None
    interference: Difference
    alone_effect: Difference | None
    together_effect: Difference | None
    clean_accuracy_alone: Score | None


FindingCode = Literal[
    "no_backdoor",
    "single",
    "not_learnt",
    "destroyed",
    "not_learnt_alone",
    "no_control",
    "not_alone",
    "no_effect",
    "lower",
    "higher",
    "alike",
    "backfired",
    "helped",
    "not_backfired",
    "bounded",
    "open",
    "no_damage",
    "damages",
    "hinder",
    "assist",
    "add_up",
    "beside_others",
]


class Finding(_Record):
    """What may be said of a group's interference; see `server.referee.findings`.

    Attributes:
        code: The gate that it failed, what one training of each game describes, or what several
            allow to conclude.
        most: Of ``no_effect``: how much the attack may do alone at most. Of ``bounded``: how much
            it may have lost to the others at most. Of ``no_damage``: how much clean accuracy it may
            cost at most.
        trainings: Of attackers that aim at damage: how often each game was trained; with 1 the
            finding describes that training alone. None for others.
    """

    code: FindingCode
    most: Share | None = None
    trainings: Annotated[int, Field(ge=1, le=2**31)] | None = Field(None, exclude_if=_is_none)


class GroupScores(_Record):
    """Scores over the malicious agents of one group against one defender.

    Attributes:
        effect: asr - asr_untrained over all agents, input by input.
        comparison: Of the agents that were also played alone; None where none was.
        finding: What may be said of the group; None in a result that was not judged.
        against: asr - asr of the reference defender over all agents, input by input, in the games
            themselves (one training of each); None for the reference.
        more: Scores that the scenario asked for.
    """

    asr: Summary
    asr_all: Summary
    robust_accuracy: Summary
    asr_untrained: Summary | None = None
    asr_alone: Summary | None = None
    interference: Difference | None = None
    asr_part: Summary | None = None
    robust_accuracy_all: Summary | None = None
    asr_together: Summary | None = None
    effect: Difference | None = None
    comparison: ControlComparison | None = None
    finding: Finding | None = None
    against: Difference | None = None
    more: dict[str, GroupValue] = _more()


class FilterScores(_Record):
    """What a filter removed, against the truth that only the referee holds.

    Attributes:
        kind: The filter.
        removed: Rows removed.
        poisoned: Poisoned rows in the pool that it saw.
        true_positives: Poisoned rows removed.
        precision: true_positives / removed.
        recall: true_positives / poisoned.
        auroc: Area under the ROC curve of its suspicion scores; None where undefined.
        by_agent: For each agent: removed, poisoned, true positives.
        notes: What the filter itself had to say.
    """

    kind: str
    removed: Count
    poisoned: Count
    true_positives: Count
    precision: Score
    recall: Score
    auroc: Share | None
    by_agent: dict[str, tuple[Count, Count, Count]]
    notes: tuple[str, ...] = ()


class CrossASR(_Record):
    """asr of agent i's triggered inputs (row) towards agent j's target (column).

    Attributes:
        agents: Malicious agents with one target, in scenario order.
        targets: Their target labels.
        matrix: Values; None where an entry has no inputs.
    """

    agents: tuple[str, ...]
    targets: tuple[Label, ...]
    matrix: tuple[tuple[Share | None, ...], ...]

    @model_validator(mode="after")
    def _check_shape(self) -> CrossASR:
        side = len(self.agents)
        if {side} != {len(self.targets), len(self.matrix), *map(len, self.matrix)}:
            raise ValueError("expected one target, one row and one column for each agent")
        return self


class Curve(_Record):
    """A training curve, one point for each epoch."""

    name: str
    points: tuple[dict[str, float], ...]


class AgentDetection(_Record):
    """What a rule made of one agent's updates.

    Attributes:
        judged: Rounds in which its update was admitted and judged.
        cheated: Of these, those in which it cheated.
        removed: Of these, those in which the rule did not take its update; None for rules that
            only weigh.
        caught: Rounds in which it cheated and was removed; None for rules that only weigh.
        auroc: Of the pairs of its updates and those of the other kind (cheating or not) in the
            same round, the share in which the cheating one has less weight, ties counted half;
            None where there are none.
    """

    judged: Count
    cheated: Count
    removed: Count | None
    caught: Count | None
    auroc: Share | None


class DetectionScores(_Record):
    """How well a rule tells who cheats, over all rounds of the attacked game that it judged.

    Counts are added up; intervals are those of the sums, as if rounds were independent. They are
    not: the same agents come again, and a rule that is fooled once tends to be fooled again.

    Attributes:
        rounds: Rounds judged: neither skipped nor aggregated by a fallback.
        updates: Updates judged.
        cheating: Those of agents that cheated in their round.
        removed: Those that the rule did not take; None for rules that only weigh.
        true_positives: Cheating updates removed; None for rules that only weigh.
        precision: true_positives / removed; None for rules that only weigh.
        recall: true_positives / cheating; None for rules that only weigh.
        auroc: Over all pairs of a cheating and another update of the same round; None where
            there are none.
        by_agent: By agent name.
    """

    rounds: Count
    updates: Count
    cheating: Count
    removed: Count | None
    true_positives: Count | None
    precision: Score | None
    recall: Score | None
    auroc: Share | None
    by_agent: dict[str, AgentDetection]


class DefenderScores(_Record):
    """All scores against one defender.

    Attributes:
        defences: Its defences, by kind, in order.
        clean_accuracy: In the attacked game.
        clean_accuracy_attacker_free: The same defender in the game without attackers.
        adversarial_accuracy: By the attack's title.
        groups: By scenario entry; malicious groups only.
        malicious: Over all malicious agents; None where there are none.
        agents: By agent name.
        cross_asr: None where no two attackers have a target each.
        filters: In the order of play.
        curves: Training curves of its models (at most 12).
        work: Trainings, in units of one full training, that this defender needs by itself.
        guess_accuracy: Over all malicious agents, where the index is unknown.
        notes: For the report.
        detection: Of a federated game: how well its rule tells who cheats; None for rules that
            judge nobody.
        validation_accuracy: On the rows of the pool that the training of its one model held out,
            under their labels in the pool; None without such rows, and for several models.
        constant_accuracy: Clean accuracy of the best constant answer: the share of the most
            frequent class among the test inputs.
        damage: Clean accuracy lost against the game without attackers, test input by test input;
            asked for by the malicious agents where models differ by asking agent. In the game
            itself (one training of each), but over all trainings where an agent aims at it.
        clean_against: Clean accuracy - that of the reference defender, test input by test input;
            None for the reference.
        more: Scores that the scenario asked for.
    """

    defences: tuple[str, ...]
    clean_accuracy: Score
    clean_accuracy_attacker_free: Score | None
    adversarial_accuracy: dict[str, Score]
    groups: dict[str, GroupScores]
    malicious: GroupScores | None
    agents: dict[str, AgentScores]
    cross_asr: CrossASR | None
    filters: tuple[FilterScores, ...]
    curves: tuple[Curve, ...]
    work: Amount
    guess_accuracy: Score | None = None
    notes: tuple[str, ...] = ()
    detection: DetectionScores | None = None
    validation_accuracy: Score | None = None
    constant_accuracy: Share | None = None
    damage: Difference | None = None
    clean_against: Difference | None = None
    more: dict[str, ScoreValue] = _more()


class RoundDetection(_Record):
    """How well a rule told in one round who cheats; see `server.referee.scoring.detection`.

    Attributes:
        cheated: Admitted agents that cheated in the round.
        precision: Cheating updates among those removed; None for rules that only weigh.
        recall: Removed updates among the cheating ones; None for rules that only weigh.
        auroc: Of the weights, else of being removed; None where no admitted agent cheated, or
            all did.
        weights: By admitted agent: its trust over what it would have if the rule told nobody
            apart (1 is like everybody, 0 no part at all); None for rules whose trust is no
            judgement.
    """

    cheated: tuple[str, ...]
    precision: Score | None
    recall: Score | None
    auroc: Share | None
    weights: dict[str, Amount] | None = None


class RoundScores(_Record):
    """One round of one defender in the attacked game.

    Attributes:
        round: From 1.
        sampled: Agents asked for an update.
        admitted: Agents whose update was admitted.
        skipped: Whether the model stayed as it was.
        selected: Admitted agents that the rule took; None for rules that do not select.
        clean_accuracy: After the round; None where it was not evaluated.
        asr: After the round, by malicious agent; empty where it was not evaluated.
        note: Why it was skipped, what the rule had to say, and whether answers are not numbers.
        fallback: The rule that aggregated in place of the defender's own, which was infeasible;
            "" for none.
        detection: None for rules that judge nobody, and in rounds that were not judged.
        more: Scores that the scenario asked for; empty where the round was not evaluated.
    """

    round: int
    sampled: tuple[str, ...]
    admitted: tuple[str, ...]
    skipped: bool
    selected: tuple[str, ...] | None
    clean_accuracy: Score | None
    asr: dict[str, Score]
    note: str = ""
    fallback: Literal["", "median"] = ""
    detection: RoundDetection | None = None
    more: dict[str, ScoreValue] = _more()


class Quarantine(_Record):
    """A contribution that was refused.

    Attributes:
        agent: Registered name.
        code: Reason code, such as ``non_finite``.
        message: One line: what was expected, what came.
        stage: What the contribution was for: ``contribution`` or ``run_time_set``.
    """

    agent: str
    code: str
    message: str
    stage: str = "contribution"


class TriggerDistance(_Record):
    """How far an agent's trigger lies from that of the first agent of its kind (S0 A.2.5).

    Attributes:
        shape: Cosine distance of the masks, 0..2; None where one of them is empty.
        shape_colour: Cosine distance of the masked values, which S0 calls "shape+colour"; None
            where one of them is empty.
    """

    shape: Distance | None
    shape_colour: Distance | None


class AgentRecord(_Record):
    """Who an agent is, as the referee knows it.

    Attributes:
        name: Its name.
        group: Its scenario entry.
        behaviour: Kind of its behaviour.
        malicious: Whether it cheats.
        rows: Rows of its registered share that are contributed.
        poisoned_rows: Rows it changed.
        target: Its target label, where it has one for all inputs.
        source: Its source class, where it has one.
        admitted: Whether its contribution was admitted.
        update: Kind of its update attack, if it has one.
        claimed: Whether `malicious`, `poisoned_rows`, `target` and `source` are what its owner says
            of a private agent, which nobody can check.
        trigger_distance: Of its trigger at train time from that of the scenario's first agent with
            a trigger, whose own is 0; None for agents whose trigger is not known from the scenario.
        aim: What a malicious agent is after; left out of files for all but ``damage``.
    """

    name: str
    group: str
    behaviour: str
    malicious: bool
    rows: Count
    poisoned_rows: Count
    target: Label | None
    source: Label | None
    admitted: bool
    update: str | None = None
    claimed: bool = False
    trigger_distance: TriggerDistance | None = None
    aim: Literal["backdoor", "damage"] = Field("backdoor", exclude_if=_is_backdoor)

    @property
    def damages(self) -> bool:
        """Whether it cheats in order to make the model worse for everybody."""
        return self.malicious and self.aim == "damage"


class Effort(_Record):
    """How much an undefended model is trained in a game, as the scenario plans it.

    Attributes:
        rounds: Of a federated game; 0 in a pooled one.
        epochs: Of the one training, or in a round; None where agents train `steps`.
        steps: Local steps in a round.
        agents: Contributing agents, or the most in a round.
        rows: Rows that they train on: the whole pool, or on average all that a round's agents hold.
        own_rows: The defender's rows among them.
        seen: Rows seen in all, each as often as it is trained on.
    """

    rounds: Count
    epochs: Count | None
    steps: Count | None = None
    agents: Count
    rows: Amount
    own_rows: Count
    seen: Count


class GamePart(_Record):
    """One game of a scenario that plays both.

    Attributes:
        game: Which.
        defenders: For each name in `GameResult.defenders` its name in the scenario.
        roster: All agents, as this game knows them.
        effort: How much a model is trained.
        trainings: Models trained.
    """

    game: Literal["pooled", "federated"]
    defenders: Annotated[dict[str, str], Field(min_length=1)]
    roster: tuple[AgentRecord, ...]
    effort: Effort
    trainings: Count


class GameResult(_Record):
    """The whole result of a game, or of the two games of a scenario that plays both.

    Attributes:
        version: Layout of this file.
        scenario: Name of the scenario.
        scenario_hash: SHA-256 of the resolved scenario with its seed.
        game: The kind of game.
        games: Where both were played, what is known of each; empty otherwise.
        seed: The seed.
        class_names: Names of the classes.
        rows: Rows of the joint data set, by `defender`, `agents` and `test`.
        roster: All agents in scenario order.
        quarantined: Refused contributions.
        defenders: By name, in scenario order.
        verdict: What the numbers say, in sentences; the first is the finding.
        definitions: Definition of every score.
        trainings: Models trained, all defenders and controls together.
        seconds: Wall time by phase.
        rounds: Of a federated game: each defender's rounds in the attacked game.
        notes: What the training had to say.
        asked: What the scores are that the scenario asked for, by name.
    """

    version: Literal[1] = RESULT_VERSION
    scenario: str
    scenario_hash: str
    game: Literal["pooled", "federated", "both"]
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    class_names: tuple[str, ...]
    rows: dict[str, Count]
    roster: tuple[AgentRecord, ...]
    quarantined: tuple[Quarantine, ...]
    defenders: dict[str, DefenderScores]
    verdict: Annotated[tuple[str, ...], Field(min_length=1)]
    definitions: dict[str, str]
    trainings: Count
    seconds: dict[str, Amount]
    rounds: dict[str, tuple[RoundScores, ...]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    games: tuple[GamePart, ...] = ()
    asked: dict[str, AskedScore] = _more()

    @model_validator(mode="after")
    def _check_games(self) -> GameResult:
        kinds = ["pooled", "federated"] if self.game == "both" else []
        if [part.game for part in self.games] != kinds:
            raise ValueError(f"expected the games {kinds} in a result of {self.game}")
        named = [name for part in self.games for name in part.defenders]
        if kinds and sorted(named) != sorted(self.defenders):
            raise ValueError("expected each defender in one of the games")
        return self

    def part_of(self, defender: str) -> GamePart | None:
        """Return the game that a defender plays in, where both were played."""
        return next((part for part in self.games if defender in part.defenders), None)

    def roster_of(self, defender: str) -> tuple[AgentRecord, ...]:
        """Return all agents as the game knows them that a defender plays in."""
        part = self.part_of(defender)
        return self.roster if part is None else part.roster
