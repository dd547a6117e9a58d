"""Known pairs of attack and defence, each with several seeds: does what is known hold here?

Model replacement (Bagdasaryan et al., AISTATS 2020) is known to beat the mean and to fail against
the median. ALIE (Baruch et al., NeurIPS 2019) is known to beat Krum, on skewed data above all;
`alie_against_krum` plays it at z = 1.0 too.
Scores are told as they came, with 95 % intervals over seeds (Student's t); differences are paired
by seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks._game import played
from learning.training.device import threads
from scenarios.loader import load
from server.referee.results import GameResult

FOLDER = Path(__file__).parents[1] / "scenarios" / "federated"
SHOT = 17  # the round of model_replacement.yaml in which the one shot falls

PARTITIONS = {
    "iid": "{kind: iid}",
    "dirichlet 10": "{kind: dirichlet, alpha: 10.0}",
    "dirichlet 1": "{kind: dirichlet, alpha: 1.0}",
}
ATTACKS = {
    "alie (z_max)": "{kind: alie, knowledge: honest}",
    "alie (z = 1.5)": "{kind: alie, knowledge: honest, z: 1.5}",
    "alie, optimised": "{kind: alie_optimised}",
    "ipm": "{kind: ipm, knowledge: honest}",
    "sign flip": "{kind: sign_flip}",
}
RULES = "{mean: [], median: [{kind: median}], krum: [{kind: krum, f: 4}]}"


def run(quick: bool) -> dict:
    """Play both pairs; `quick` plays two seeds of a few rounds, and proves nothing."""
    seeds = range(2 if quick else 5)
    with threads(1):
        rows = [*_replacement(seeds, quick), *_byzantine(seeds, quick)]
    return {
        "name": "known pairs of attack and defence",
        "rows": rows,
        "note": "Means over seeds with 95 % t-intervals, in %. Model replacement: ASR after the "
        "round of its one shot, and clean accuracy then. Byzantine attacks: clean accuracy at the "
        "end, without attackers, and the loss (paired by seed); 4 of 16 agents attack, 30 rounds "
        "of 2 local epochs. Commands: scenarios/federated/model_replacement.yaml and "
        "byzantine.yaml with --seed.",
    }


def _replacement(seeds: Sequence[int], quick: bool) -> list[dict]:
    shot = 3 if quick else SHOT
    changes = [
        "defenders={mean: [], median: [{kind: median}]}",
        f"federation.rounds={shot}",
        f"agents.mallory.window={{first: {shot}, times: 1}}",
    ]
    games = [_game("model_replacement", changes, seed) for seed in seeds]
    return [
        {
            "pair": f"model replacement, {rule}",
            "ASR": interval([game.rounds[rule][-1].asr["mallory"].value for game in games]),
            "clean": interval([game.rounds[rule][-1].clean_accuracy.value for game in games]),
            "seeds": len(games),
        }
        for rule in ("mean", "median")
    ]


def _byzantine(seeds: Sequence[int], quick: bool) -> list[dict]:
    rows = []
    for spread, partition in PARTITIONS.items():
        for attack, update in ATTACKS.items():
            changes = [
                f"partition={partition}",
                f"agents.byzantine.update={update}",
                f"defenders={RULES}",
                f"federation.rounds={2 if quick else 30}",
                "federation.evaluate_every=100",
            ]
            games = [_game("byzantine", changes, seed) for seed in seeds]
            rows += [
                _loss(f"{attack}, {rule}, {spread}", games, rule) for rule in games[0].defenders
            ]
    return rows


def _loss(pair: str, games: Sequence[GameResult], rule: str) -> dict:
    attacked = [game.defenders[rule].clean_accuracy.value for game in games]
    free = [game.defenders[rule].clean_accuracy_attacker_free.value for game in games]
    return {
        "pair": pair,
        "clean": interval(attacked),
        "without attackers": interval(free),
        "loss": interval([b - a for a, b in zip(attacked, free, strict=True)]),
        "seeds": len(games),
    }


def _game(name: str, changes: Sequence[str], seed: int) -> GameResult:
    scenario = load(FOLDER / f"{name}.yaml", [*changes, f"seed={seed}"])
    return played(json.dumps(scenario.resolved()))[0]


def interval(values: Sequence[float]) -> str:
    """Return the mean and the 95 % t-interval of some shares, in %."""
    percent = 100 * np.asarray(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(percent) - 1) * percent.std(ddof=1) / np.sqrt(len(percent))
    return f"{percent.mean():.1f} [{percent.mean() - half:.1f}, {percent.mean() + half:.1f}]"
