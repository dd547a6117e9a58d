"""The same attackers pooled and federated: do their backdoors destroy each other, or coexist?

S0 reports that many attackers' backdoors destroy each other where data are pooled; later work on
federated learning that they coexist. The scenarios `backfire_or_coexist` (one pattern for each
attacker) and `backfire_or_coexist_redrawn` (a pattern for every row) play the same agents in both
games, here with several seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._game import played
from benchmarks.alie_against_krum import value_of
from benchmarks.known_pairs import interval
from learning.training.device import threads
from scenarios.loader import load
from server.referee.results import AgentScores, GameResult, Score

FOLDER = Path(__file__).parents[1] / "scenarios" / "federated"
SCENARIOS = {
    "one pattern each": ("backfire_or_coexist", "mallory"),
    "a pattern for every row": ("backfire_or_coexist_redrawn", "chameleon"),
}
COUNTS, SEEDS = (8, 20), 6

# By game and defender: clean accuracy, asr, asr_alone and interference, shares in 0..1.
Figures = dict[tuple[str, str], dict[str, float]]


def run(quick: bool) -> dict:
    """Play both scenarios; `quick` plays two attackers, two seeds and one round."""
    counts, seeds = ((2,), range(2)) if quick else (COUNTS, range(SEEDS))
    with threads(1):
        rows = [
            line
            for trigger in SCENARIOS
            for count in counts
            for line in lines(
                f"{trigger}, N = {count}", [game(trigger, count, s, quick) for s in seeds]
            )
        ]
    return {
        "name": "the same attackers pooled and federated",
        "rows": rows,
        "note": "Means over seeds with 95 % t-intervals, in %. ASR, alone and interference (alone "
        "- together, in points) are of the same four attackers of each game, over all their "
        "triggered inputs. Games: scenarios/federated/backfire_or_coexist.yaml and "
        "backfire_or_coexist_redrawn.yaml with --seed and agents.NAME.count=N.",
    }


def game(trigger: str, count: int, seed: int, quick: bool = False) -> Figures:
    """Play one game of N attackers; return its figures by game and defender."""
    name, group = SCENARIOS[trigger]
    changes = [f"agents.{group}.count={count}", f"seed={seed}", "federation.evaluate_every=100"]
    if quick:
        changes += ["training.epochs=1", "federation.rounds=1", "federation.local_epochs=1"]
    return figures(played(json.dumps(load(FOLDER / f"{name}.yaml", changes).resolved()))[0])


def figures(result: GameResult) -> Figures:
    """Return what a result of both games says of the attackers that were also played alone."""
    found = {}
    for part in result.games:
        for name, own in part.defenders.items():
            scores = result.defenders[name]
            alone = [agent for agent in scores.agents.values() if agent.asr_alone is not None]
            together, by_itself = _pooled(alone, "asr"), _pooled(alone, "asr_alone")
            found[part.game, own] = {
                "clean": value_of(scores.clean_accuracy),
                "asr": together,
                "alone": by_itself,
                "interference": by_itself - together,
            }
    return found


def _pooled(agents: Sequence[AgentScores], name: str) -> float:
    scores: list[Score] = [getattr(agent, name) for agent in agents]
    return sum(score.hits for score in scores) / sum(score.count for score in scores)


def lines(title: str, games: Sequence[Figures]) -> Iterator[dict]:
    """Yield the rows of some games that differ in their seeds only."""
    for kind, defender in games[0]:
        ours = [one[kind, defender] for one in games]
        yield {
            "attackers": title,
            "game": kind,
            "defender": defender,
            **{key: interval([one[key] for one in ours]) for key in ours[0]},
            "seeds": len(games),
        }
