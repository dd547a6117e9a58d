"""What a golden file pins of a game, and how two of them differ, told line by line.

Exact: who is in the game, the deal, labels, poisoned rows, targets, what was admitted, removed and
counted, and SHA-256 of the inputs, contributed and triggered. They are made of additions and
multiplications, one by one, which every machine rounds alike; still they are hashed in steps of
1/4095, so that a last bit is no difference.

Within a tolerance (`SHARE`, and what `INPUTS` inputs more or less would change): every score with
its interval, and the clean accuracy of each round. They follow from training, whose sums other
processors order otherwise: with ATEN_CPU_CAPABILITY=default, ONEDNN_MAX_CPU_ISA=SSE41 and
MKL_ENABLE_INSTRUCTIONS=SSE4_2 no input of nine of the ten games is answered otherwise, and of
mnist_20_agents a few. Averages over agents, which tell no count, have `MEAN`.

Of games with crafted inputs only what does not follow from training is pinned.

A score that came later than a golden file is not compared until the file is written anew.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from backfire.playing import PlayedGame, play
from clients.agents import Agents
from clients.data_attacks.base import Contribution
from scenarios.loader import load
from scenarios.scenario import Scenario
from server.referee.results import DefenderScores, GameResult, RoundScores
from server.store.run_folder import RunFolder
from small_games import small

SHARE = 0.02
INPUTS = 1.2
MEAN = 0.16
_STEPS = 4095


def golden_scenario(path: Path) -> Scenario:
    """Return a scenario of the library as a game of seconds in which models learn."""
    resolved = load(path).resolved()
    optimizer = {"kind": "adam", "lr": 0.01}
    changes = {
        "model": {"kind": "mlp"},
        "training": {**resolved["training"], "epochs": 6, "batch_size": 16, "optimizer": optimizer},
    }
    if resolved["game"] != "pooled":
        rounds = {"rounds": 3, "local_epochs": 4, "local_steps": None, "evaluate_every": 1}
        changes["federation"] = {**resolved["federation"], **rounds}
    return small(path, **changes)


def decisions(path: Path) -> dict:
    """Return what must not change unnoticed, by a name for each line of a golden file."""
    scenario = golden_scenario(path)
    agents = Agents(scenario)
    with tempfile.TemporaryDirectory() as out:
        played = play(scenario, out=Path(out))
        shown = _gallery(played)
    result = played.result
    if any(place.group.behaviour.grant is not None for place in scenario.roster()):
        return _of_crafters(scenario, agents, result)
    return {
        **{f"agents/{name}": _agent(agents.play(name)[1]) for name in agents.names},
        "admitted": [agent.name for agent in result.roster if agent.admitted],
        "quarantined": [entry.agent for entry in result.quarantined],
        **{f"rows/{name}": count for name, count in result.rows.items()},
        "trainings": result.trainings,
        "gallery": shown,
        **{f"defenders/{name}": _defender(scores) for name, scores in result.defenders.items()},
        **_trajectories(result),
    }


def _of_crafters(scenario: Scenario, agents: Agents, result: GameResult) -> dict:
    """Return what is pinned of a game whose inputs are crafted against a model.

    Those follow from training, to the last bit, and everything that is trained on them from them.
    """
    crafted = {p.name: p.group.behaviour.grant is not None for p in scenario.roster()}
    told = {name: _agent(agents.play(name)[1]) for name in agents.names}
    for name, one in told.items():
        if crafted[name]:
            del one["inputs"]
    return {
        **{f"agents/{name}": one for name, one in told.items()},
        "admitted": [agent.name for agent in result.roster if agent.admitted],
        **{f"rows/{name}": count for name, count in result.rows.items()},
        "trainings": result.trainings,
    }


def _agent(played: Contribution) -> dict:
    return {
        "rows": len(played.y),
        "poisoned": np.flatnonzero(played.poisoned).tolist(),
        "labels": played.y.tolist(),
        "target": played.target,
        "triggered": len(played.targets),
        "inputs": fingerprint(played.x),
        "triggered_inputs": fingerprint(played.x_triggered),
    }


def fingerprint(x: np.ndarray) -> str:
    """Return the SHA-256 of inputs in [0, 1], in steps of 1/4095, and of their shape."""
    steps = np.rint(np.asarray(x, np.float64) * _STEPS).astype("<u2")
    return hashlib.sha256(repr(steps.shape).encode() + steps.tobytes()).hexdigest()


def _gallery(played: PlayedGame) -> dict[str, str]:
    """Return what the table holds of the attackers' inputs, which came to it in messages."""
    images = RunFolder.open(played.folder).gallery()
    return {name: fingerprint(rows)[:16] for name, rows in sorted(images.items())}


def _defender(scores: DefenderScores) -> dict:
    told = {"defences": list(scores.defences), "curves": len(scores.curves)}
    if "activation_clustering" in scores.defences:
        return told  # of two clusters of one size it may remove either
    dumped = scores.model_dump(mode="json", exclude={"defences", "curves", "notes"})
    removed = [filtered.removed for filtered in scores.filters]
    return {**told, "removed": removed, "scores": dict(_scores(dumped))}


def _scores(node: object, at: str = "") -> Iterator[tuple[str, list | float]]:
    """Yield each score by its path: [value, low, high, count]; other numbers as they are."""
    if isinstance(node, dict) and {"value", "low", "high", "count"} <= node.keys():
        if node["value"] is not None:
            shares = [round(node[key], 4) for key in ("value", "low", "high")]
            yield at, [*shares, node["count"]]
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _scores(value, f"{at}.{key}" if at else key)
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _scores(value, f"{at}[{place}]")
    elif isinstance(node, float):
        yield at, round(node, 4)


def _trajectories(result: GameResult) -> dict:
    return {
        f"rounds/{name}/{entry.round}": _round(entry)
        for name, rounds in result.rounds.items()
        for entry in rounds
    }


def _round(entry: RoundScores) -> dict:
    clean = entry.clean_accuracy
    return {
        "sampled": list(entry.sampled),
        "admitted": list(entry.admitted),
        "selected": None if entry.selected is None else list(entry.selected),
        "skipped": entry.skipped,
        "fallback": entry.fallback,
        "clean_accuracy": None if clean is None else [round(clean.value, 4), clean.count],
    }


def rendered(golden: dict) -> str:
    """Return a golden file's text: one line for each agent, defender and round."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def differences(golden: dict, now: dict) -> list[str]:
    """Return what differs, one line each; [] where all is as it was."""
    return [
        f"{name}: {told}"
        for name in {**golden, **now}
        for told in _differ(golden.get(name), now.get(name), "")
    ]


def _differ(was: object, now: object, at: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        scores = at == "scores"
        for key in {**was, **({} if scores else now)}:
            yield from _differ(was.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif not _same(was, now, at):
        yield f"{at + ' ' if at else ''}was {json.dumps(was)}, is {json.dumps(now)}"


def _same(was: object, now: object, at: str) -> bool:
    if "scores." not in at and not at.endswith("clean_accuracy"):
        return was == now
    if isinstance(was, list) and isinstance(now, list):
        *shares, count = was
        *others, counted = now
        near = SHARE + INPUTS / max(count, 1)
        return count == counted and all(
            abs(a - b) <= near for a, b in zip(shares, others, strict=True)
        )
    if isinstance(was, float) and isinstance(now, float):
        return abs(was - now) <= MEAN
    return was == now
