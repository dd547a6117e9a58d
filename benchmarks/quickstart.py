"""The whole quickstart, from scenario to report, and what the stacked engine saves it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import backfire.environment  # noqa: F401 - quietens Flower before it is imported
from backfire.playing import play
from scenarios.loader import load

SCENARIO = Path(__file__).parents[1] / "scenarios" / "quickstart.yaml"


def run(quick: bool) -> dict:
    """Play the quickstart with models trained together and one by one."""
    rows = []
    overrides = ["training.epochs=5"] if quick else []
    for together in ("auto", "false"):
        scenario = load(SCENARIO, [*overrides, f"compute.together={together}"])
        with tempfile.TemporaryDirectory() as out:
            start = time.perf_counter()
            played = play(scenario, out=Path(out))
            seconds = time.perf_counter() - start
        rows.append(
            {
                "models trained": "one by one" if together == "false" else "together",
                "trainings": played.result.trainings,
                "seconds": seconds,
                "training s": played.result.seconds["training"],
                "scoring s": played.result.seconds["scoring"],
            }
        )
    for row in rows:
        row["ratio"] = rows[-1]["seconds"] / row["seconds"]
    return {
        "name": "quickstart",
        "rows": rows,
        "note": "ratio: seconds of the whole game with models trained one by one, over seconds. "
        "Start-up of Python and imports is not counted.",
    }
