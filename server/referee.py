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
from dataclasses import dataclass

import torch

from learning.pool import Floats, Pool
from learning.seeds import numpy_generator
from learning.worlds import ALONE, ATTACKED, ATTACKER_FREE
from scenarios.schema import RefereeSpec
from server.results import AgentRecord, AgentScores, CrossASR, DefenderScores, GroupScores, Score
from server.scoring.accuracy import clean_accuracy, validation_accuracy
from server.scoring.adversarial import Targets, adversarial_accuracy
from server.scoring.agents import AgentAnswers, agent_scores, alone_pair
from server.scoring.answers import Asked, Engine, ToAll, answer_everybody, ask
from server.scoring.cross import LIMIT, cross_asr
from server.scoring.curves import curves
from server.scoring.filters import filter_scores
from server.scoring.groups import group_scores
from server.scoring.rows import Rows
from server.scoring.scores import share
from server.scoring.undecided import all_or_some, undecided_notes
from server.sealed import RunTimeSet, Sealed, Worlds
from strategies.base import Predictor
from strategies.pipeline import Outcome


@dataclass(frozen=True)
class Glance:
    """Scores of one round.

    Attributes:
        clean_accuracy: Of the model as it stands.
        asr: By malicious agent.
        note: That answers are not numbers; empty where all are.
    """

    clean_accuracy: Score
    asr: dict[str, Score]
    note: str = ""


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
    ) -> None:
        """Take the sealed data.

        Args:
            sealed: Run-time sets, truth and test set.
            roster: All agents in scenario order.
            spec: What to score.
            seed: The game's seed.
            device: Where the models are; the CPU by default.
            batch_size: Rows in one pass; no score depends on it.
        """
        self._sealed, self._spec, self._seed = sealed, spec, seed
        self._roster = [agent for agent in roster if agent.admitted]
        self._scored = [agent for agent in self._roster if agent.name in sealed.run_time]
        self._engine = Engine(device or torch.device("cpu"), batch_size)
        self._targets = Targets.draw(sealed.test_x, sealed.test_y, spec.adversarial_rows, seed)

    def _sets(self, *, triggered: bool = False) -> list[RunTimeSet]:
        sets = [(agent, self._sealed.run_time[agent.name]) for agent in self._scored]
        return [
            own for agent, own in sets if not triggered or (agent.malicious and len(own.targets))
        ]

    def sample_alone(self) -> tuple[str, ...]:
        """Return the attackers that are also played alone, by the seed, in scenario order.

        Drawn in each group among those with a triggered input that `asr` counts.
        """
        groups: dict[str, list[str]] = {}
        group_of = {agent.name: agent.group for agent in self._scored}
        for own in self._sets(triggered=True):
            if own.counted.any():
                groups.setdefault(group_of[own.agent], []).append(own.agent)
        return tuple(name for group, names in groups.items() for name in self._draw(group, names))

    def _draw(self, group: str, names: list[str]) -> list[str]:
        if self._spec.alone == "all" or self._spec.alone >= len(names):
            return names
        generator = numpy_generator(self._seed, "referee/alone", agent=group)
        picked = generator.choice(len(names), size=self._spec.alone, replace=False)
        return [names[position] for position in sorted(picked.tolist())]

    def worlds(self, pool: Pool) -> dict[str, Pool]:
        """Return the pools of all games to play, which share their blocks by identity.

        Args:
            pool: All admitted rows, as contributed.

        Returns:
            ``"attacked"`` (the pool itself), ``"attacker_free"`` where the scenario wants it, and
            ``"alone/<agent>"`` for each of `sample_alone`. A game that is the attacked one over
            again (no attacker, or a single one alone) is the same pool object.
        """
        worlds = Worlds.build(pool, self._sealed.truth)
        games = {ATTACKED: pool}
        if self._spec.attacker_free:
            games[ATTACKER_FREE] = worlds.attacker_free()
        games.update({ALONE + agent: worlds.alone(agent) for agent in self.sample_alone()})
        return games

    def score(self, defences: tuple[str, ...], outcomes: Mapping[str, Outcome]) -> DefenderScores:
        """Return all scores of one defender.

        Args:
            defences: Its defences, by kind, in order.
            outcomes: What it ended with in each game of `worlds`. Control games may be missing, and
                the scores that need them then are too. Models of the index are asked for by all
                agents in the attacked game, by the malicious ones in the attacker-free game, and
                by the attacker in a game that it plays alone.
        """
        predictor = outcomes[ATTACKED].predictor
        answers = self._answers(outcomes)
        agents = {
            agent.name: agent_scores(
                self._sealed.run_time[agent.name], answers[agent.name], agent.malicious
            )
            for agent in self._scored
        }
        tests = self._tests(outcomes)
        cheats = [own.agent for own in self._sets(triggered=True)]
        return DefenderScores(
            defences=defences,
            clean_accuracy=self._clean(tests[ATTACKED]),
            clean_accuracy_attacker_free=self._clean(tests[ATTACKER_FREE])
            if ATTACKER_FREE in tests
            else None,
            adversarial_accuracy={
                attack.title: adversarial_accuracy(attack, predictor, self._targets, self._engine)
                for attack in self._spec.adversarial
            },
            groups=self._groups(agents, answers),
            malicious=self._group(cheats, agents, answers) if cheats else None,
            agents=agents,
            cross_asr=self._cross(answers, outcomes[ATTACKED].pool.classes),
            filters=filter_scores(
                outcomes[ATTACKED], self._sealed.truth, [agent.name for agent in self._roster]
            ),
            curves=curves(predictor),
            work=predictor.work,
            guess_accuracy=_guesses(agents),
            notes=(*self._notes(predictor), *undecided_notes(tests, answers)),
            validation_accuracy=validation_accuracy(predictor),
        )

    def glance(self, outcome: Outcome) -> Glance:
        """Return the few scores that are followed round by round, in the attacked game."""
        answers = self._answers({ATTACKED: outcome})
        test = self._tests({ATTACKED: outcome})[ATTACKED]
        return Glance(
            self._clean(test),
            {
                own.agent: asr
                for own in self._sets(triggered=True)
                if (asr := agent_scores(own, answers[own.agent], True).asr) is not None
            },
            all_or_some(test, answers),
        )

    def _answers(self, outcomes: Mapping[str, Outcome]) -> dict[str, AgentAnswers]:
        triggers = {own.agent: own.x_triggered for own in self._sets()}
        clean = self._ask(outcomes[ATTACKED], {own.agent: own.x for own in self._sets()})
        together = self._ask(outcomes[ATTACKED], triggers)
        untrained = (
            self._ask(outcomes[ATTACKER_FREE], triggers) if ATTACKER_FREE in outcomes else None
        )
        parts = {own.agent: own.x_part for own in self._sets() if own.x_part is not None}
        part = self._ask(outcomes[ATTACKED], parts).classes if parts else {}
        alone = {
            name: self._ask(outcomes[ALONE + name], {name: triggers[name]}).classes[name]
            for name in triggers
            if ALONE + name in outcomes
        }
        return {
            name: AgentAnswers(
                clean.classes[name],
                together.classes[name],
                None if together.guessed is None else together.guessed[name],
                None if untrained is None else untrained.classes[name],
                alone.get(name),
                part.get(name),
            )
            for name in triggers
        }

    def _ask(self, outcome: Outcome, inputs: dict[str, Floats]) -> Asked:
        return ask(outcome.predictor, inputs, self._engine)

    def _tests(self, outcomes: Mapping[str, Outcome]) -> dict[str, list[ToAll]]:
        """Return the answers to the test inputs: attacked and, where played, attacker-free."""
        asking = {
            ATTACKED: [agent.name for agent in self._roster],
            ATTACKER_FREE: [agent.name for agent in self._roster if agent.malicious],
        }
        rows = Rows([self._sealed.test_x])
        return {
            world: answer_everybody(outcomes[world].predictor, rows, names, self._engine)
            for world, names in asking.items()
            if world in outcomes
        }

    def _clean(self, answers: Sequence[ToAll]) -> Score:
        return clean_accuracy(answers, self._sealed.test_y)

    def _groups(
        self, agents: Mapping[str, AgentScores], answers: Mapping[str, AgentAnswers]
    ) -> dict[str, GroupScores]:
        members: dict[str, list[str]] = {}
        for agent in self._scored:
            if agent.malicious:
                members.setdefault(agent.group, []).append(agent.name)
        return {group: self._group(names, agents, answers) for group, names in members.items()}

    def _group(
        self,
        names: Sequence[str],
        agents: Mapping[str, AgentScores],
        answers: Mapping[str, AgentAnswers],
    ) -> GroupScores:
        pairs = [alone_pair(self._sealed.run_time[name], answers[name]) for name in names]
        return group_scores(
            [agents[name] for name in names], [pair for pair in pairs if pair is not None]
        )

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


def _guesses(agents: Mapping[str, AgentScores]) -> Score | None:
    scores = [one.guess_accuracy for one in agents.values() if one.guess_accuracy is not None]
    if not scores:
        return None
    return share(sum(one.hits for one in scores), sum(one.count for one in scores))
