"""Golden playthroughs: every shipped scenario, played small, takes the decisions it took before.

Each scenario has a file in tests/golden/. After a change that is meant to change decisions, write
them anew with ``python tests/test_golden.py [NAME...]`` and say in the commit why they changed.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from backfire.play import play
from clients.agents import Agents
from scenarios.loader import load_sweep
from small_games import FILES, LIBRARY, SWEEPS, called, small

GOLDEN = Path(__file__).parent / "golden"


def decisions(path: Path) -> dict:
    """Return what must not change unnoticed; nothing that depends on a machine's arithmetic."""
    scenario = small(path)
    agents = Agents(scenario)
    plays = {name: agents.play(name)[1] for name in agents.names}
    with tempfile.TemporaryDirectory() as out:
        result = play(scenario, out=Path(out)).result
    return {
        "agents": {
            name: {
                "rows": len(play.y),
                "poisoned": np.flatnonzero(play.poisoned).tolist(),
                "labels": play.y.tolist(),
                "target": play.target,
                "triggered": len(play.targets),
            }
            for name, play in plays.items()
        },
        "admitted": [agent.name for agent in result.roster if agent.admitted],
        "quarantined": [entry.agent for entry in result.quarantined],
        "rows": result.rows,
        "defenders": {
            name: {
                "defences": list(scores.defences),
                "removed": [filtered.removed for filtered in scores.filters]
                if "activation_clustering" not in scores.defences
                else None,
                "counted": {
                    agent: None if own.asr is None else own.asr.count
                    for agent, own in scores.agents.items()
                },
                "curves": len(scores.curves),
            }
            for name, scores in result.defenders.items()
        },
    }


def cells(path: Path) -> dict:
    """Return what a sweep plays: each axis, and what the file sets for each cell.

    Fields that the file does not set are left out, so that a new field changes no golden file.
    """
    sweep = load_sweep(path)
    written = [
        [dict(cell.at), cell.seed, cell.scenario.model_dump(mode="json", exclude_unset=True)]
        for cell in sweep.cells
    ]
    text = json.dumps(written, sort_keys=True)
    return {
        "axes": {name: list(axis.coordinates) for name, axis in sweep.spec.axes.items()},
        "seeds": list(sweep.spec.all_seeds()),
        "cells": len(sweep.cells),
        "games": len({cell.digest for cell in sweep.cells}),
        "written": hashlib.sha256(text.encode()).hexdigest(),
    }


def file_of(path: Path) -> Path:
    return GOLDEN / f"{called(path)}.json"


@pytest.mark.parametrize("path", LIBRARY, ids=called)
def test_a_scenario_takes_the_decisions_that_it_took_before(path):
    assert file_of(path).exists(), "no golden file: run python tests/test_golden.py"
    golden = file_of(path).read_text().splitlines()
    assert rendered(path).splitlines() == golden


@pytest.mark.parametrize("path", SWEEPS, ids=called)
def test_a_sweep_has_the_cells_that_it_had_before(path):
    assert file_of(path).exists(), "no golden file: run python tests/test_golden.py NAME"
    assert json.loads(file_of(path).read_text()) == cells(path)


def test_every_golden_file_has_a_scenario():
    assert {f.stem for f in GOLDEN.glob("*.json")} == {called(path) for path in FILES}


def rendered(path: Path) -> str:
    lines = (
        f" {json.dumps(key)}: {json.dumps(value)}"
        for section, entries in decisions(path).items()
        for key, value in (
            ((f"{section}/{name}", entry) for name, entry in entries.items())
            if isinstance(entries, dict)
            else [(section, entries)]
        )
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for scenario_path in [path for path in FILES if not sys.argv[1:] or called(path) in sys.argv]:
        sweeps = scenario_path in SWEEPS
        text = json.dumps(cells(scenario_path)) + "\n" if sweeps else rendered(scenario_path)
        file_of(scenario_path).write_text(text)
