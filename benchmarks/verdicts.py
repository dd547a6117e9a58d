"""Do verdicts hold? Games in which nothing happens, games in which something does, dead models.

- Null games: the only other attacker poisons one row with one pixel, so that the true interference
  of attacker `a` is about 0. A 95 % interval may exclude 0 in about one of twenty, and hardly a
  game may say that `a` backfired.
- Chameleon games: four attackers redraw their patterns for every row, which no model can tell
  apart. They are known to backfire.
- Dead games: README's own scenario with one epoch. Whatever the numbers, they mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._game import played
from learning.statistics import wilson
from learning.training.device import threads
from scenarios.loader import parse
from server.referee.results import GroupScores

NULL = """
name: null-game
data: {kind: digits}
model: {kind: small_cnn}
training: {epochs: 15, batch_size: 64, optimizer: {kind: adam, lr: 0.003}}
defender_share: 0.3
run_time_share: 0.5
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: a
    behaviour: {kind: backdoor, poison_rate: 0.2, target: 3,
                trigger: {kind: random_badnet, epsilon: 0.55, draw: per_row}}
  - name: b
    behaviour: {kind: backdoor, poison_rate: 0.01, target: 7, trigger: {kind: pixel}}
defenders: {undefended: []}
referee: {alone: all, cross_asr: false}
"""
CHAMELEONS = """
name: chameleons
data: {kind: digits}
model: {kind: small_cnn}
training: {epochs: 30, batch_size: 64, optimizer: {kind: adam, lr: 0.003}}
defender_share: 0.3
run_time_share: 0.3
agents:
  - {name: honest, count: 2, behaviour: {kind: benign}}
  - name: a
    count: 4
    behaviour: {kind: backdoor, poison_rate: 0.2, target: distinct,
                trigger: {kind: random_badnet, epsilon: 0.55, draw: per_row}}
defenders: {undefended: []}
referee: {alone: 2, cross_asr: false}
"""
DEAD = """
name: mine
data: {kind: digits}
model: {kind: small_cnn}
training: {epochs: 1}
agents:
  - {name: honest, count: 3, behaviour: {kind: benign}}
  - name: a
    count: 5
    behaviour: {kind: backdoor, poison_rate: 0.2, target: distinct,
                trigger: {kind: random_badnet, epsilon: 0.15}}
defenders: {undefended: []}
referee: {alone: all, cross_asr: false}
"""
REPEATS = 5


@dataclass(frozen=True)
class Told:
    """What one game says of the attackers `a`.

    Attributes:
        code: Its finding.
        value: Interference.
        low: Lower end of its interval.
        high: Upper end.
    """

    code: str
    value: float
    low: float
    high: float


def run(quick: bool) -> dict:
    """Play the games; `quick` plays a few of each, and proves nothing."""
    with threads(1):
        kinds = {
            "null, each game trained once": games(NULL, 1, range(4 if quick else 200)),
            f"null, trained {REPEATS} times": games(NULL, REPEATS, range(4 if quick else 200)),
            f"chameleons, trained {REPEATS} times": games(
                CHAMELEONS, REPEATS, range(2 if quick else 50)
            ),
            f"dead, trained {REPEATS} times": games(DEAD, REPEATS, range(2 if quick else 50)),
        }
        rows = [_row(kind, list(told)) for kind, told in kinds.items()]
    return {
        "name": "verdicts: what games say of interference",
        "rows": rows,
        "note": "Of each kind of game, one a seed: how many 95 % intervals of interference exclude "
        "0, how many games say that the attackers backfired, how many are void; in brackets the "
        "share with its Wilson interval, in %. Mean, standard deviation over games and mean half "
        "width of the intervals in points. Goals: null games exclude 0 in at most 5 % and say "
        "`backfired` in at most 1 %, chameleons say it in at least 95 %, dead games are all void. "
        "Scenarios: benchmarks/verdicts.py.",
    }


def games(text: str, repeats: int, seeds: Iterable[int]) -> Iterable[Told]:
    """Yield what each seed's game says."""
    for seed in seeds:
        scenario = parse(text, "benchmark", [f"seed={seed}", f"referee.repeats={repeats}"])
        result, _ = played(json.dumps(scenario.resolved()))
        yield _told(result.defenders["undefended"].groups["a"])


def _told(group: GroupScores) -> Told:
    gap, found = group.interference, group.finding
    if gap is None or gap.value is None or found is None:
        raise ValueError("expected a group that was scored and played alone")
    return Told(found.code, gap.value, gap.low, gap.high)


def _row(kind: str, told: Sequence[Told]) -> dict:
    values = np.array([one.value for one in told])
    return {
        "games": kind,
        "played": len(told),
        "exclude 0": _share(sum(one.low > 0 or one.high < 0 for one in told), len(told)),
        "say backfired": _share(sum(one.code == "backfired" for one in told), len(told)),
        "void": _share(
            sum("learnt" in one.code or one.code == "destroyed" for one in told), len(told)
        ),
        "mean": 100 * float(values.mean()),
        "sd": 100 * float(values.std(ddof=1)),
        "half width": 50 * float(np.mean([one.high - one.low for one in told])),
    }


def _share(hits: int, count: int) -> str:
    value, low, high = (100 * one for one in wilson(hits, count))
    return f"{hits} ({value:.1f} [{low:.1f}, {high:.1f}])"
