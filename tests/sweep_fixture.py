"""Folders of finished sweeps without playing: numbers drawn to look like real games'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from backfire.evidence.long_table import write_rows
from backfire.evidence.rows import ScoreRow
from scenarios.loader import parse_sweep
from scenarios.sweep.spec import Sweep
from server.store.atomic import write_bytes, yaml_bytes
from small_games import TINY_DATA

HOSTILE = "<script>alert(1)</script>"
SIDE = {"defender": "undefended", "score": "asr_all"}
PUBLISHED = {
    "source": "S1, Table 3",
    "comparable": "no: digits instead of CIFAR-10",
    "figures": [{**SIDE, "at": {"attackers": 5}, "value": 0.155, "spread": 0.03}],
    "claims": [
        {
            "text": f"With more attackers each has less success {HOSTILE}",
            "less": {**SIDE, "at": {"attackers": 5}},
            "than": {**SIDE, "at": {"attackers": 1}},
        }
    ],
}
ADVERSARIAL = [
    {"kind": "fgsm", "epsilon": 0.1},
    {"kind": "pgd", "epsilon": 0.1, "steps": 5},
    {"kind": "fgsm", "epsilon": 0.2},
]
# Clean accuracy without attackers.
FREE = {"undefended": 0.96, "cutmix": 0.955}


def sweep(name: str = "tiny", seeds: int = 5, **blocks: Any) -> Sweep:
    """Return a sweep of attackers x epsilon x trigger against two defenders."""
    behaviour = {"kind": "backdoor", "target": 1, "trigger": {"kind": "random_badnet"}}
    trigger = "agents.mallory.behaviour.trigger"
    axes = {
        "attackers": {"field": "agents.mallory.count", "values": [1, 5]},
        "epsilon": {"field": f"{trigger}.epsilon", "values": [0.2, 0.5]},
        "trigger": {
            "choices": {
                "fixed": {f"{trigger}.draw": "per_agent"},
                HOSTILE: {f"{trigger}.draw": "per_row"},
            }
        },
    }
    payoffs = {"attacker": ["trigger", "epsilon"], "score": "asr_all"}
    document = {
        "name": name,
        "data": TINY_DATA,
        "model": {"kind": "mlp"},
        "agents": [{"name": "mallory", "count": 1, "behaviour": behaviour}],
        "defenders": {"undefended": [], "cutmix": [{"kind": "cutmix"}]},
        "referee": {"adversarial": ADVERSARIAL},
        "sweep": {"seeds": seeds, "axes": axes, "payoffs": payoffs},
        "published": PUBLISHED,
        **blocks,
    }
    return parse_sweep(json.dumps(document), name)


def rows(
    chosen: Sweep, rates: dict[str, float] | None = None, untrained: float = 0.1
) -> list[ScoreRow]:
    """Return a long table: ASR falls with redrawn triggers and many attackers, and by defender.

    Args:
        chosen: The sweep.
        rates: ASR of a single attacker, by defender.
        untrained: ASR of the triggers on a model that never saw them.
    """
    rates = rates or {"undefended": 0.9, "cutmix": 0.5}
    draw = np.random.Generator(np.random.Philox(7))
    out = []
    for cell in chosen.cells:
        count = int(cell.at["attackers"])
        for defender, rate in rates.items():
            mean = rate if cell.at.get("trigger", "fixed") == "fixed" else rate / count
            agents = np.clip(mean + draw.normal(0, 0.03, count), 0, 1)
            place = (cell.at, cell.seed, cell.folder, defender)
            for score, values in (
                ("asr_all", agents),
                ("asr", agents),
                ("asr_untrained", np.full(count, untrained)),
            ):
                std = float(values.std(ddof=1)) if count > 1 else None
                mean_row = ("", score, float(values.mean()), 50.0, 100, 0.0, 1.0, std, count)
                out += [ScoreRow(*place, group, *mean_row) for group in ("malicious", "mallory")]
                out += [
                    ScoreRow(*place, "mallory", f"mallory-{k + 1}", score, float(value))
                    for k, value in enumerate(values)
                ]
            clean = float(0.95 + draw.normal(0, 0.005))
            own = (("clean_accuracy", clean), ("clean_accuracy_attacker_free", FREE[defender]))
            out += [ScoreRow(*place, "", "", name, v, 95.0, 100, 0.9, 0.98) for name, v in own]
            out.append(ScoreRow(*place, "", "", "work", 1.0))
            for attack, value in zip(
                cell.scenario.referee.adversarial, (0.5, 0.4, 0.3), strict=False
            ):
                shift = float(draw.normal(0, 0.01))
                title = f"adversarial:{attack.title}"
                out.append(ScoreRow(*place, "", "", title, value + shift, 1.0, 2, 0.0, 1.0))
    return out


def write(folder: Path, chosen: Sweep, table: list[ScoreRow] | None = None) -> Path:
    """Write the folder of a finished sweep and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "sweep.yaml", yaml_bytes(chosen.document()))
    write_rows(folder, chosen.spec, rows(chosen) if table is None else table)
    return folder
