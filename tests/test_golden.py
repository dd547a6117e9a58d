"""Golden playthroughs: every shipped scenario, played small, comes out as it came out before.

Each scenario has a file in tests/golden/; `golden_games` says what it pins and how closely. After a
change that is meant to change outcomes, write them anew with ``python tests/test_golden.py
[NAME...]``, which tells each difference, and say in the commit why they changed.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import learning.triggers.base as triggers
from golden_games import decisions, differences, rendered
from scenarios.loader import load_sweep
from server.referee.referee import Referee
from small_games import FILES, LIBRARY, SWEEPS, called

GOLDEN = Path(__file__).parent / "golden"


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


def golden(path: Path) -> dict:
    assert file_of(path).exists(), "no golden file: run python tests/test_golden.py NAME"
    return json.loads(file_of(path).read_text())


@pytest.mark.parametrize("path", LIBRARY, ids=called)
def test_a_scenario_comes_out_as_it_came_out_before(path):
    assert not (found := differences(golden(path), decisions(path))), "\n".join(found)


@pytest.mark.parametrize("path", SWEEPS, ids=called)
def test_a_sweep_has_the_cells_that_it_had_before(path):
    assert golden(path) == cells(path)


def test_every_golden_file_has_a_scenario():
    assert {f.stem for f in GOLDEN.glob("*.json")} == {called(path) for path in FILES}


REHEARSAL = next(path for path in LIBRARY if called(path) == "rehearsal")


def test_triggers_stamped_at_half_strength_are_noticed(monkeypatch):
    whole = triggers.Pattern.stamp

    def half(self, x):
        return ((whole(self, x) + x) / 2).astype(np.float32)

    monkeypatch.setattr(triggers.Pattern, "stamp", half)
    found = differences(golden(REHEARSAL), decisions(REHEARSAL))
    assert any("mallory: inputs" in line for line in found), "the contributed rows"
    assert any("mallory: triggered_inputs" in line for line in found), "the run-time rows"
    assert any("gallery: poisoned/mallory" in line for line in found), "what the table got"
    assert any("gallery: triggered/mallory" in line for line in found)
    assert not any("alice" in line for line in found), "an honest agent's rows"


def test_an_asr_of_answers_to_clean_inputs_is_noticed(monkeypatch):
    right = Referee._trainings

    def of_clean(self, outcomes, world, inputs):
        sets = {own.agent: own for own in self._sets()}
        clean = {name: sets[name].x[sets[name].triggered_rows] for name in inputs}
        return right(self, outcomes, world, clean)

    monkeypatch.setattr(Referee, "_trainings", of_clean)
    found = differences(golden(REHEARSAL), decisions(REHEARSAL))
    assert any(line.startswith("defenders/") and ".asr was" in line for line in found)
    assert not any(line.startswith("agents/") for line in found)


def test_a_golden_file_tells_each_difference_in_a_line():
    was = {
        "agents/a": {"labels": [1, 2], "inputs": "ab"},
        "defenders/d": {"scores": {"asr": [0.5, 0.2, 0.8, 10], "mean": 0.5}},
        "rounds/d/1": {"selected": ["a"], "clean_accuracy": [0.5, 100]},
    }
    assert differences(was, was) == []
    now = {
        "agents/a": {"labels": [1, 3], "inputs": "cd"},
        "defenders/d": {"scores": {"asr": [0.7, 0.2, 0.8, 10], "mean": 0.7, "new": 0.1}},
        "rounds/d/1": {"selected": ["b"], "clean_accuracy": [0.6, 100]},
    }
    assert differences(was, now) == [
        "agents/a: labels was [1, 2], is [1, 3]",
        'agents/a: inputs was "ab", is "cd"',
        "defenders/d: scores.asr was [0.5, 0.2, 0.8, 10], is [0.7, 0.2, 0.8, 10]",
        "defenders/d: scores.mean was 0.5, is 0.7",
        'rounds/d/1: selected was ["a"], is ["b"]',
        "rounds/d/1: clean_accuracy was [0.5, 100], is [0.6, 100]",
    ]


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [
        ([0.5, 0.2, 0.8, 10], [0.6, 0.3, 0.9, 10], True),  # one input more
        ([0.5, 0.2, 0.8, 10], [0.5, 0.2, 0.8, 11], False),  # another count
        ([0.5, 0.4, 0.6, 1000], [0.53, 0.4, 0.6, 1000], False),
        ([0.5, 0.4, 0.6, 1000], [0.5, 0.4, 0.64, 1000], False),  # another interval
        ([0.5, 0.4, 0.6, 1000], None, False),  # no longer told
    ],
)
def test_a_score_is_pinned_within_the_stated_tolerance(was, now, same):
    old = {"defenders/d": {"scores": {"asr": was}}}
    new = {"defenders/d": {"scores": {} if now is None else {"asr": now}}}
    assert (differences(old, new) == []) is same


def write(path: Path) -> None:
    """Write a golden file anew and tell what changed."""
    sweep = path in SWEEPS
    now = cells(path) if sweep else decisions(path)
    was = json.loads(file_of(path).read_text()) if file_of(path).exists() else {}
    changes = differences(was, now) if not sweep else ["other cells"] if was != now else []
    print(f"{called(path)}: {len(changes)} differences", *changes, sep="\n  ")
    file_of(path).write_text(json.dumps(now) + "\n" if sweep else rendered(now))


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for scenario_path in [path for path in FILES if not sys.argv[1:] or called(path) in sys.argv]:
        write(scenario_path)
