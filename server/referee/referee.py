"""The referee: builds the control games, and scores what the defenders end with.

It alone holds the sealed data. Defences meet pools; the referee meets predictors and verdicts.

What an agent reveals is checked for its form and else believed. An agent that lies about its
run-time set changes its own scores alone. One that lies about what its poisoned rows were changes
the games without attackers, and so the controls of every agent (asr_untrained, asr_alone,
interference) and the counts of the filters; never a model, an ASR or an accuracy of the attacked
game. In a simulation the reveals are Backfire's own; those of a private agent are its owner's, and
the roster calls them `claimed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from learning.pool import Floats, Ints, Pool
from learning.seeds import numpy_generator
from learning.worlds import ALONE, ATTACKED, ATTACKER_FREE, repeated
from scenarios.schema import RefereeSpec
from server.referee.assembly import agent_scores, group_scores, own_scores, round_scores
from server.referee.damage.averaged import averaged
from server.referee.damage.hits import DamageHits, Right
from server.referee.facts import AgentFacts, AttackHistory, DefenderFacts, RoundFacts
from server.referee.findings import judged
from server.referee.registry import with_damage
from server.referee.results import (
    AgentRecord,
    AgentScores,
    CrossASR,
    DefenderScores,
    GroupScores,
    RoundScores,
    Score,
    ScoreValue,
)
from server.referee.scoring.accuracy import clean_accuracy, clean_hits
from server.referee.scoring.adversarial import Targets, adversarial_accuracy
from server.referee.scoring.agents import AgentAnswers
from server.referee.scoring.answers import Asked, Passes, ToAll, answer_everybody, ask
from server.referee.scoring.beside import Scored
from server.referee.scoring.cross import LIMIT, cross_asr
from server.referee.scoring.curves import curves
from server.referee.scoring.detection import detection_scores
from server.referee.scoring.filters import filter_scores
from server.referee.scoring.predict import Classes
from server.referee.scoring.rows import ScoredRows
from server.referee.sealed import RunTimeSet, Sealed, Worlds
from server.referee.undecided import all_or_some, undecided_notes
from strategies.base import Predictor
from strategies.pipeline import Outcome

# Of each group, where all of them would take more trainings than the attacked game.
FEW_ALONE = 2
# The gate of a game that one attacker attacks alone needs no more test inputs than these.
MAX_GATE_ROWS = 2000


@dataclass(frozen=True)
class RoundMetrics:
    """Scores of one round.

    Attributes:
        clean_accuracy: Of the model as it stands.
        asr: By malicious agent.
        note: That answers are not numbers; empty where all are.
        more: Scores that the scenario asked for, by name.
    """

    clean_accuracy: Score
    asr: dict[str, Score]
    note: str = ""
    more: dict[str, ScoreValue] = field(default_factory=dict)


@dataclass(frozen=True)
class PlayedRounds:
    """What a federated game knows of its rounds, beside what its models answer.

    Attributes:
        rounds: Of one defender in the attacked game.
        history: When each attacker attacked.
    """

    rounds: tuple[RoundScores, ...] = ()
    history: Mapping[str, AttackHistory] = field(default_factory=dict)


class Referee:
    """Scores one game.

    Only admitted agents with an admitted run-time set are scored.
    """

    def __init__(
        self,
        sealed: Sealed,
        roster: Sequence[AgentRecord],
        spec: RefereeSpec,
        seed: int,
        device: torch.device | None = None,
        batch_size: int = 2048,
        affordable: int = 0,
        class_names: Sequence[str] = (),
    ) -> None:
        """Take the sealed data.

        Args:
            sealed: Run-time sets, truth and test set.
            roster: All agents in scenario order.
            spec: What to score.
            seed: The game's seed.
            device: Where the models are; the CPU by default.
            batch_size: Rows in one pass; no score depends on it.
            affordable: How many attackers can be played alone in as many trainings as the attacked
                game takes; read with ``alone: auto``.
            class_names: Names of the classes, for scores by class; their numbers by default.
        """
        self._sealed, self._spec, self._seed = sealed, spec, seed
        self._affordable = affordable
        self._class_names = tuple(class_names)
        self._roster = [agent for agent in roster if agent.admitted]
        self._asked = with_damage(spec.scores, self._roster)
        self._scored = [agent for agent in self._roster if agent.name in sealed.run_time]
        self._engine = Passes(device or torch.device("cpu"), batch_size)
        self._targets = Targets.draw(sealed.test_x, sealed.test_y, spec.adversarial_rows, seed)
        self._gate_rows = _gate_rows(len(sealed.test_y), seed)

    def _sets(self, *, triggered: bool = False) -> list[RunTimeSet]:
        sets = [(agent, self._sealed.run_time[agent.name]) for agent in self._scored]
        return [
            own for agent, own in sets if not triggered or (agent.malicious and len(own.targets))
        ]

    def sample_alone(self) -> tuple[str, ...]:
        """Return the attackers that are also played alone, by the seed, in scenario order.

        Drawn in each group among those with a triggered input that `asr` counts, and those that
        aim at damage.
        """
        groups: dict[str, list[str]] = {}
        tells = {own.agent for own in self._sets(triggered=True) if own.counted.any()}
        for agent in self._scored:
            if agent.name in tells or agent.damages:
                groups.setdefault(agent.group, []).append(agent.name)
        most = self._spec.alone
        if most == "auto" and sum(map(len, groups.values())) > self._affordable:
            most = FEW_ALONE
        return tuple(
            name for group, names in groups.items() for name in self._draw(group, names, most)
        )

    def _draw(self, group: str, names: list[str], most: int | str) -> list[str]:
        if isinstance(most, str) or most >= len(names):
            return names
        generator = numpy_generator(self._seed, "referee/alone", agent=group)
        picked = generator.choice(len(names), size=most, replace=False)
        return [names[position] for position in sorted(picked.tolist())]

    def worlds(self, pool: Pool) -> dict[str, Pool]:
        """Return the pools of all games to play, which share their blocks by identity.

        Args:
            pool: All admitted rows, as contributed.

        Returns:
            ``"attacked"`` (the pool itself), ``"attacker_free"`` where the scenario wants it, and
            ``"alone/<agent>"`` for each of `sample_alone`; then each of them again for every
            further training. A game that is the attacked one over again (no attacker, or a single
            one alone) is the same pool object.
        """
        worlds = Worlds.build(pool, self._sealed.truth)
        games = {ATTACKED: pool}
        if self._spec.attacker_free:
            games[ATTACKER_FREE] = worlds.attacker_free()
        games.update({ALONE + agent: worlds.alone(agent) for agent in self.sample_alone()})
        return {
            repeated(world, repeat): game
            for repeat in range(self._spec.repeats)
            for world, game in games.items()
        }

    def score(self, defences: tuple[str, ...], outcomes: Mapping[str, Outcome]) -> DefenderScores:
        """Return all scores of one defender; see `scored`."""
        return self.scored(defences, outcomes).scores

    def scored(
        self,
        defences: tuple[str, ...],
        outcomes: Mapping[str, Outcome],
        played: PlayedRounds | None = None,
    ) -> Scored:
        """Return all scores of one defender, and what a comparison with another needs.

        Args:
            defences: Its defences, by kind, in order.
            outcomes: What it ended with in each game of `worlds`. Control games may be missing, and
                the scores that need them then are too. Models of the index are asked for by all
                agents in the attacked game, by the malicious ones in the attacker-free game, and
                by the attacker in a game that it plays alone.
            played: Of a federated game: its rounds.
        """
        predictor = outcomes[ATTACKED].predictor
        answers = self._answers(outcomes)
        damage = self._damage(outcomes)
        facts = self._agent_facts(answers, played or PlayedRounds(), damage)
        agents = {name: agent_scores(one, self._asked) for name, one in facts.items()}
        tests = self._tests(outcomes)
        withstood = {
            attack.title: adversarial_accuracy(attack, predictor, self._targets, self._engine)
            for attack in self._spec.adversarial
        }
        cheats = [own.agent for own in self._sets(triggered=True)]
        damaging = self._damaging()
        everybody = [a.name for a in self._scored if a.name in cheats or a.damages]
        filters = filter_scores(
            outcomes[ATTACKED], self._sealed.truth, [agent.name for agent in self._roster]
        )
        own = DefenderFacts(
            tests[ATTACKED],
            self._sealed.test_y,
            self._classes(outcomes[ATTACKED].pool.classes),
            predictor=predictor,
            test_free=tests.get(ATTACKER_FREE),
            test_of_attackers=self._asked_by_attackers(predictor, tests),
            under_attack={title: one.accuracy for title, one in withstood.items()},
            filters=filters,
            rows=len(outcomes[ATTACKED].pool),
            detection=detection_scores(played.rounds) if played else None,
            roster=self._roster,
            agents=agents,
            rounds=played.rounds if played else (),
            damage=damage,
            averaged=self._averaged(outcomes),
        )
        scores = DefenderScores(
            **own_scores(own, self._asked),
            defences=defences,
            groups={
                group: self._group(names, facts, agents, damage)
                for group, names in self._members().items()
            },
            malicious=self._group(everybody, facts, agents, damage) if everybody else None,
            agents=agents,
            cross_asr=self._cross(answers, outcomes[ATTACKED].pool.classes),
            filters=filters,
            curves=curves(predictor),
            notes=(
                *self._notes(predictor),
                *(note for one in withstood.values() for note in one.notes),
                *undecided_notes(tests, answers),
            ),
            detection=own.detection,
        )
        return Scored(
            judged(scores, sum(agent.malicious for agent in self._roster), damaging),
            clean_hits(tests[ATTACKED], self._sealed.test_y),
            {name: facts[name].hits.together[0] for name in cheats},
            {
                group: tuple(name for name in names if name in cheats)
                for group, names in self._members().items()
            },
        )

    def glance(self, outcome: Outcome) -> RoundMetrics:
        """Return the few scores that are followed round by round, in the attacked game."""
        answers = self._answers({ATTACKED: outcome})
        test = self._tests({ATTACKED: outcome})[ATTACKED]
        agents = self._agent_facts(answers, PlayedRounds(), None)
        names = self._classes(outcome.pool.classes)
        facts = RoundFacts(test, self._sealed.test_y, names, agents)
        return RoundMetrics(
            clean_accuracy(test, self._sealed.test_y),
            {
                own.agent: asr
                for own in self._sets(triggered=True)
                if (asr := agent_scores(agents[own.agent]).asr) is not None
            },
            all_or_some(test, answers),
            round_scores(facts, self._asked),
        )

    def _agent_facts(
        self,
        answers: Mapping[str, AgentAnswers],
        played: PlayedRounds,
        damage: DamageHits | None,
    ) -> dict[str, AgentFacts]:
        alone = {} if damage is None else damage.alone
        return {
            agent.name: AgentFacts(
                self._sealed.run_time[agent.name],
                answers[agent.name],
                agent.malicious,
                agent,
                played.history.get(agent.name),
                played.rounds,
                alone.get(agent.name),
            )
            for agent in self._scored
        }

    def _classes(self, classes: int) -> tuple[str, ...]:
        return self._class_names or tuple(map(str, range(classes)))

    def _answers(self, outcomes: Mapping[str, Outcome]) -> dict[str, AgentAnswers]:
        triggers = {own.agent: own.x_triggered for own in self._sets()}
        clean = self._ask(outcomes[ATTACKED], {own.agent: own.x for own in self._sets()})
        together = self._trainings(outcomes, ATTACKED, triggers)
        untrained = self._trainings(outcomes, ATTACKER_FREE, triggers)
        parts = {own.agent: own.x_part for own in self._sets() if own.x_part is not None}
        part = self._ask(outcomes[ATTACKED], parts).classes if parts else {}
        found = {}
        for name, x in triggers.items():
            alone = self._trainings(outcomes, ALONE + name, {name: x})
            found[name] = AgentAnswers(
                clean.classes[name],
                _stacked(together, name),
                None if together[0].guessed is None else together[0].guessed[name],
                _stacked(untrained, name) if untrained else None,
                _stacked(alone, name) if alone else None,
                part.get(name),
                self._accuracy_alone(outcomes, name) if alone else None,
            )
        return found

    def _trainings(
        self, outcomes: Mapping[str, Outcome], world: str, inputs: dict[str, Floats]
    ) -> list[Asked]:
        """Return the answers of each training of a world; none where it was not played."""
        return [self._ask(outcome, inputs) for outcome in _trainings_of(outcomes, world)]

    def _accuracy_alone(self, outcomes: Mapping[str, Outcome], agent: str) -> Score:
        """Return the least clean accuracy of the trainings of the game that an agent has alone."""
        x, y = (
            ScoredRows([self._sealed.test_x[self._gate_rows]]),
            self._sealed.test_y[self._gate_rows],
        )
        return min(
            (
                clean_accuracy(answer_everybody(outcome.predictor, x, [agent], self._engine), y)
                for outcome in _trainings_of(outcomes, ALONE + agent)
            ),
            key=lambda score: score.low,
        )

    def _ask(self, outcome: Outcome, inputs: dict[str, Floats]) -> Asked:
        return ask(outcome.predictor, inputs, self._engine)

    def _tests(self, outcomes: Mapping[str, Outcome]) -> dict[str, list[ToAll]]:
        """Return the answers to the test inputs: attacked and, where played, attacker-free."""
        asking = {
            ATTACKED: [agent.name for agent in self._roster],
            ATTACKER_FREE: [agent.name for agent in self._roster if agent.malicious],
        }
        rows = ScoredRows([self._sealed.test_x])
        return {
            world: answer_everybody(outcomes[world].predictor, rows, names, self._engine)
            for world, names in asking.items()
            if world in outcomes
        }

    def _asked_by_attackers(
        self, predictor: Predictor, tests: Mapping[str, Sequence[ToAll]]
    ) -> list[ToAll] | None:
        """Return what the attackers get for the test inputs where that may be something else."""
        if ATTACKER_FREE not in tests or not predictor.by_agent:
            return None
        asking = [agent.name for agent in self._roster if agent.malicious]
        rows = ScoredRows([self._sealed.test_x])
        return answer_everybody(predictor, rows, asking, self._engine)

    def _members(self) -> dict[str, list[str]]:
        """Return the scored malicious agents by group."""
        members: dict[str, list[str]] = {}
        for agent in self._scored:
            if agent.malicious:
                members.setdefault(agent.group, []).append(agent.name)
        return members

    def _group(
        self,
        names: Sequence[str],
        facts: Mapping[str, AgentFacts],
        agents: Mapping[str, AgentScores],
        damage: DamageHits | None,
    ) -> GroupScores:
        return group_scores(
            [agents[name] for name in names],
            [facts[name].hits for name in names],
            self._asked,
            names,
            damage,
        )

    def _damaging(self) -> dict[str, tuple[str, ...]]:
        """Return the scored agents that aim at damage, by group."""
        aims = {agent.name for agent in self._scored if agent.damages}
        return {group: tuple(names) for group, names in self._members().items() if aims & {*names}}

    def _damage(self, outcomes: Mapping[str, Outcome]) -> DamageHits | None:
        """Return the test inputs in all games; None where no score asks, or without a control."""
        if ATTACKER_FREE not in outcomes or not any(score.of_damage for score in self._asked):
            return None
        cheats = tuple(agent.name for agent in self._roster if agent.malicious)
        apart = any(outcome.predictor.by_agent for outcome in outcomes.values())
        free = self._right(outcomes, ATTACKER_FREE, cheats)
        alone = {}
        for agent in self._scored:
            own = self._right(outcomes, ALONE + agent.name, (agent.name,))
            if own is not None and free is not None:
                # Where all get the same answers, those that one of them gets are known.
                asked = self._right(outcomes, ATTACKER_FREE, (agent.name,)) if apart else free
                alone[agent.name] = (free if asked is None else asked, own)
        together = self._right(outcomes, ATTACKED, cheats)
        if free is None or together is None:
            return None
        return DamageHits(free, together, alone, cheats, apart)

    def _averaged(self, outcomes: Mapping[str, Outcome]) -> tuple[Right, Right] | None:
        """Return the test inputs of models of averaged weights, attacker-free and attacked."""
        if not any(score.averaged_epochs for score in self._asked):
            return None
        cheats = tuple(agent.name for agent in self._roster if agent.malicious)
        smooth = {
            world: replace(outcome, predictor=predictor)
            for world, outcome in outcomes.items()
            if (predictor := averaged(outcome.predictor)) is not None
        }
        free = self._right(smooth, ATTACKER_FREE, cheats)
        together = self._right(smooth, ATTACKED, cheats)
        return None if free is None or together is None else (free, together)

    def _right(
        self, outcomes: Mapping[str, Outcome], world: str, asking: Sequence[str]
    ) -> Right | None:
        """Return which test inputs each training answers right; None where it was not played."""
        rows = ScoredRows([self._sealed.test_x])
        trainings = [
            clean_hits(
                answer_everybody(outcome.predictor, rows, asking, self._engine), self._sealed.test_y
            )
            for outcome in _trainings_of(outcomes, world)
        ]
        return np.stack(trainings) if trainings else None

    def _cross(self, answers: Mapping[str, AgentAnswers], classes: int) -> CrossASR | None:
        if not self._spec.cross_asr:
            return None
        triggered = {name: answer.triggered for name, answer in answers.items()}
        return cross_asr(self._sets(triggered=True), triggered, classes)

    def _notes(self, predictor: Predictor) -> tuple[str, ...]:
        notes = list(predictor.notes)
        single = sum(own.target is not None for own in self._sets(triggered=True))
        if self._spec.cross_asr and single > LIMIT:
            notes.append(f"The cross-ASR matrix shows the first {LIMIT} of {single} attackers.")
        if self._spec.adversarial and predictor.by_agent:
            notes.append("Adversarial accuracy is that of the model of all agents.")
        return tuple(notes)


def _trainings_of(outcomes: Mapping[str, Outcome], world: str) -> list[Outcome]:
    found: list[Outcome] = []
    while (name := repeated(world, len(found))) in outcomes:
        found.append(outcomes[name])
    return found


def _stacked(trainings: Sequence[Asked], agent: str) -> Classes:
    """Return the answers to an agent of each training, int16 (trainings, k)."""
    return np.stack([asked.classes[agent] for asked in trainings])


def _gate_rows(rows: int, seed: int) -> Ints:
    """Return the positions of the test inputs that the gate of a game played alone looks at."""
    if rows <= MAX_GATE_ROWS:
        return np.arange(rows)
    draw = numpy_generator(seed, "referee/gate")
    return np.sort(draw.choice(rows, size=MAX_GATE_ROWS, replace=False))
