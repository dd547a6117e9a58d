"""What a sweep costs beside its games, and what it saves by models that cells have in common."""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import backfire.environment  # noqa: F401 - quietens Flower before it is imported
from backfire.sweeps import play_sweep
from backfire.sweeps.cells import Player, folder_of
from benchmarks._measure import alone, goal
from scenarios.library import find
from scenarios.loader import parse_sweep
from scenarios.sweep.spec import Sweep
from server.store.run_folder import RunFolder


def cells(epochs: int, rates: int, seeds: int) -> Sweep:
    """Return the quickstart as a sweep over poison rates and seeds."""
    values = [round((1 + k) / rates, 3) for k in range(rates)]
    text = find("quickstart").read_text().replace("\nseed: 0\n", "\n")
    block = f"""
sweep:
  seeds: {seeds}
  axes: {{rate: {{field: agents.mallory.behaviour.poison_rate, values: {values}}}}}
"""
    return parse_sweep(text + block, "quickstart", [f"training.epochs={epochs}"])


def overhead(epochs: int, count: int) -> dict[str, float]:
    """Play cells one after the other in one worker; the first, in which it starts, is not counted.

    Returns:
        Medians over the cells: of the games' own seconds as their results tell them, and of the
        seconds from the end of one cell to that of the next beyond those.
    """
    sweep, ends = cells(epochs, 1, count), {}

    def watch(step: object) -> None:
        if step.last is not None:
            ends[step.last.digest] = time.perf_counter()

    with tempfile.TemporaryDirectory() as out:
        played = play_sweep(sweep, Path(out), jobs=1, watch=watch)
        paths = {c.digest: folder_of(played.folder / "cells", c.scenario) for c in sweep.cells}
        own = {d: sum(RunFolder(p).result().seconds.values()) for d, p in paths.items()}
    order = list(ends)
    beyond = [ends[b] - ends[a] - own[b] for a, b in pairwise(order)]
    return {"cell s": median(list(own.values())[1:]), "overhead s": median(beyond)}


def shared(epochs: int, rates: int) -> dict[str, float]:
    """Play cells that differ in their poison rate, with and without what they have in common."""
    sweep = cells(epochs, rates, 1)
    found = {}
    for name, player in (("apart", Player(0, 0)), ("shared", Player())):
        with tempfile.TemporaryDirectory() as out:
            player.play(Path(out) / "warm", cells(1, 1, 1).cells[0].scenario)
            start = time.process_time()
            for cell in sweep.cells:
                player.play(Path(out), cell.scenario)
            found[name] = time.process_time() - start
    return {"apart CPU s": found["apart"], "shared CPU s": found["shared"]}


def run(quick: bool) -> dict:
    """Measure the overhead of a sweep, and the models that its cells share."""
    rows = []
    for epochs in (1,) if quick else (1, 4):
        costs = overhead(epochs, 4 if quick else 7)
        costs["overhead %"] = 100 * costs["overhead s"] / costs["cell s"]
        rows.append({"what": f"quickstart, {epochs} epochs, one worker", **costs})
    rates = 3 if quick else 5
    both = alone(shared, 1 if quick else 3, rates)
    both["ratio"] = both["apart CPU s"] / both["shared CPU s"]
    rows.append({"what": f"{rates} poison rates, one process", **both})
    share = rows[-2]["overhead %"]
    return {
        "name": "sweep",
        "rows": rows,
        "note": "overhead: from the end of a cell to that of the next, beyond the game's own "
        "seconds, medians; "
        + goal("under 2 % for cells of 5 s (the row before the last)", share < 2)
        + ". The start of a worker (imports) comes once. ratio: the same cells without the "
        "attacker-free models in common, over with them; their files are the same bytes.",
    }
