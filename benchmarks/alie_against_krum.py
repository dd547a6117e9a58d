"""ALIE against Krum at three strengths: is it picked, and what does it cost where it is?

The copies that f colluders hand over lie z standard deviations beside the honest mean. With f = 4
of 16 agents Krum sums up 10 distances; a copy has 3 at no distance and 7 honest ones of 1 + z^2 (in
units of an honest update's squared distance from the mean), an honest update 10 of 2. Copies are
therefore expected to be picked for z below 1.36: z_max = 0.21 is picked and close to the mean, z =
1.5 is not picked, z = 1.0 is picked and farther off.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from benchmarks._game import played
from benchmarks.known_pairs import PARTITIONS, interval
from learning.training.device import threads
from scenarios.loader import load
from server.referee.results import Score

SCENARIO = Path(__file__).parents[1] / "scenarios" / "federated" / "byzantine.yaml"
STRENGTHS = {"z_max = 0.21": "", "z = 1.0": ", z: 1.0", "z = 1.5": ", z: 1.5"}
ROUNDS, SEEDS = 30, 10


class Played(NamedTuple):
    """One game: shares in 0..1.

    Attributes:
        clean: Clean accuracy at the end.
        free: The same without attackers.
        picked: Share of the rounds in which Krum took a Byzantine update.
    """

    clean: float
    free: float
    picked: float


def run(quick: bool) -> dict:
    """Play all strengths; `quick` plays two seeds of two rounds, and proves nothing."""
    seeds, rounds = (range(2), 2) if quick else (range(SEEDS), ROUNDS)
    with threads(1):
        rows = [
            row(f"{strength}, {spread}", [game(spread, strength, s, rounds) for s in seeds])
            for spread in PARTITIONS
            for strength in STRENGTHS
        ]
    return {
        "name": "ALIE against Krum",
        "rows": rows,
        "note": "Means over seeds with 95 % t-intervals, in %; p of a paired t-test of the loss, "
        f"not corrected. 4 of 16 agents attack, {rounds} rounds of 2 local epochs. Picked: share "
        "of the rounds in which Krum took a Byzantine update, with the least and most of a seed. "
        "Games: scenarios/federated/byzantine.yaml with --seed and the attack's z.",
    }


def game(spread: str, strength: str, seed: int, rounds: int = ROUNDS) -> Played:
    """Play one game of a partition and a strength, by their names above."""
    changes = [
        f"partition={PARTITIONS[spread]}",
        f"agents.byzantine.update={{kind: alie, knowledge: honest{STRENGTHS[strength]}}}",
        "defenders={krum: [{kind: krum, f: 4}]}",
        f"federation.rounds={rounds}",
        "federation.evaluate_every=100",
        f"seed={seed}",
    ]
    result = played(json.dumps(load(SCENARIO, changes).resolved()))[0]
    scores = result.defenders["krum"]
    taken = [_byzantine(one.selected or ()) for one in result.rounds["krum"]]
    clean, free = scores.clean_accuracy, scores.clean_accuracy_attacker_free
    return Played(value_of(clean), value_of(free), sum(taken) / len(taken))


def value_of(score: Score | None) -> float:
    """Return a score that is there; a missing one is NaN, which no table takes for a figure."""
    return math.nan if score is None or score.value is None else score.value


def _byzantine(selected: Sequence[str]) -> bool:
    return any(name.startswith("byzantine") for name in selected)


def row(pair: str, games: Sequence[Played]) -> dict:
    """Return the figures of some games that differ in their seeds only."""
    picked = [100 * one.picked for one in games]
    test = stats.ttest_rel([one.free for one in games], [one.clean for one in games])
    return {
        "pair": pair,
        "picked": f"{sum(picked) / len(picked):.0f} ({min(picked):.0f} to {max(picked):.0f})",
        "clean": interval([one.clean for one in games]),
        "without attackers": interval([one.free for one in games]),
        "loss": interval([one.free - one.clean for one in games]),
        "p": f"{test.pvalue:.3f}",
        "seeds": len(games),
    }
