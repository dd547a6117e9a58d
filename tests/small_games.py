"""Shrinks any scenario to a game of seconds, for tests."""

import json
from pathlib import Path

from scenarios.loader import load, parse
from scenarios.scenario import Scenario
from scenarios.text.yaml_reader import read, read_file

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "scenarios").rglob("*.yaml"))
SWEEPS = [path for path in FILES if "sweep" in read(read_file(path)).data]
LIBRARY = [path for path in FILES if path not in SWEEPS]


def called(path: Path) -> str:
    """Return the name of a scenario of the library, as a file name."""
    return "-".join(path.relative_to(ROOT / "scenarios").with_suffix("").parts)


TINY_DATA = {
    "kind": "synthetic",
    "classes": 10,
    "channels": 1,
    "height": 8,
    "width": 8,
    "train_per_class": 24,
    "test_per_class": 6,
}


def small(path: Path, agents: int = 2, epochs: int = 2, players=None, **changes) -> Scenario:
    """Return the scenario of a file with tiny data, few agents and short training.

    `agents` bounds the size of each group of a pooled game; `players` replaces the groups.
    """
    resolved = load(path).resolved()
    resolved |= {"data": TINY_DATA, "partition": {"kind": "iid"}}
    resolved["poison_count"] = {"reference_agents": None, "rounding": "nearest"}
    resolved["training"]["epochs"] = epochs
    resolved["training"]["batch_size"] = 16
    resolved["model"] = {"kind": "small_cnn"}
    if resolved["game"] != "pooled":  # its rules are told how many agents cheat
        resolved["federation"]["rounds"] = 2
        for group in resolved["agents"]:  # a later window would not open in two rounds
            group["window"] = {}
    else:
        for group in resolved["agents"]:
            group["count"] = min(group["count"], agents)
    resolved["referee"]["adversarial_rows"] = 10
    resolved |= changes | ({} if players is None else {"agents": players})
    return parse(json.dumps(resolved), path.name)
