"""One pooled game at a thousand attackers, against the same game at one attacker.

The attackers share the same rows, and each poisons its part at the same rate, so that the training
is the same and only dealing, contributing, admission and scoring grow (S0 E1's cells). Rows have
the shape and number of CIFAR-10's.
"""

from __future__ import annotations

import json

from benchmarks._game import played
from benchmarks._measure import Mark, alone, goal, peak
from scenarios.loader import parse

GOAL = 1.2
CLASSES = 10


def scenario_of(attackers: int, rows: int) -> str:
    """Return a game of one epoch, so that a real training would hide more of what grows."""
    scenario = {
        "name": f"many-attackers-{attackers}",
        "data": {
            "kind": "synthetic",
            "classes": CLASSES,
            "channels": 3,
            "height": 32,
            "width": 32,
            "train_per_class": rows // CLASSES,
            "test_per_class": rows // CLASSES // 5,
        },
        "model": {"kind": "small_cnn"},
        "training": {"epochs": 1, "batch_size": 128},
        "defender_share": 0.2,
        "agents": [
            {
                "name": "mallory",
                "count": attackers,
                "behaviour": {
                    "kind": "backdoor",
                    "poison_rate": 0.55,
                    "target": "random",
                    "trigger": {"kind": "random_badnet", "epsilon": 0.55, "draw": "per_agent"},
                },
            }
        ],
        "defenders": {"undefended": []},
        # The controls are trainings too: they would hide more of what grows.
        "referee": {"alone": 0, "attacker_free": False, "cross_asr": False},
    }
    return json.dumps(parse(json.dumps(scenario), "benchmark").resolved())


def cost(text: str) -> dict[str, float]:
    """Return what a game cost this process, which plays nothing else."""
    before = Mark.now()
    result, _ = played(text)
    seconds, cpu = Mark.now().since(before)
    phases = {f"{phase} s": value for phase, value in result.seconds.items()}
    return {
        "s": seconds,
        "CPU s": cpu,
        **phases,
        "peak MiB": peak(),
        "pool rows": result.rows["defender"] + result.rows["agents"],
    }


def run(quick: bool) -> dict:
    """Play one attacker and many in turns, each game in a process of its own."""
    return measure((1, 10, 100), 5_000, 1) if quick else measure((1, 100, 1000), 50_000, 2)


def measure(sizes: tuple[int, ...], rows: int, times: int) -> dict:
    """Return the table of some numbers of attackers; the best of each number of `times`.

    Args:
        sizes: Numbers of attackers; the first is what the others are set beside.
        rows: Training rows of all parties.
        times: How often all sizes are played, one after the other.
    """
    texts = {attackers: scenario_of(attackers, rows) for attackers in sizes}
    found = [{n: alone(cost, text) for n, text in texts.items()} for _ in range(times)]
    best = {n: min((one[n] for one in found), key=lambda row: row["CPU s"]) for n in sizes}
    table: list[dict[str, object]] = []
    for n in sizes:
        ratio = best[n]["CPU s"] / best[sizes[0]]["CPU s"]
        row: dict[str, object] = {"attackers": n, **best[n], "times the first": ratio}
        if n == 1000:
            row["note"] = goal(f"at most {GOAL:g} times one attacker", ratio <= GOAL)
        table.append(row)
    note = (
        f"{rows} training rows and {rows // 5} test rows of 3x32x32, small_cnn, one epoch of "
        "batches of 128, undefended, no control games; the attackers share 80 % of the rows and "
        f"poison 55 % of theirs. CPU seconds, the best of {times}, and its phases in wall seconds; "
        "each game in a process of its own, without run folder and report."
    )
    return {
        "name": "many attackers: one cell at N against one attacker",
        "rows": table,
        "note": note,
    }
