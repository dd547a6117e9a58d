"""Finished run folders without playing: numbers drawn to look like a real game's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from scenarios.scenario import Scenario
from server.referee.assembly import group_scores
from server.referee.findings import judged
from server.referee.registry import definitions
from server.referee.results import (
    AgentRecord,
    AgentScores,
    CrossASR,
    Curve,
    DefenderScores,
    FilterScores,
    GameResult,
    GroupScores,
    Quarantine,
)
from server.referee.scoring.agents import CountedHits
from server.referee.scoring.scores import difference, share, share_of
from server.referee.verdict import verdict
from server.store.run_folder import RunFolder

HOSTILE = "<script>alert(1)</script>"
FORMULA = "=cmd|' /C calc'!A0"
HEBREW = "שלום-עולם"
PLAIN = 'モリアーティ & "Søn" 😈'

# Mean ASR together and alone, by defender and kind of trigger.
RATES = {
    "undefended": {"per_agent": (0.93, 0.95), "per_row": (0.17, 0.96)},
    "augmented": {"per_agent": (0.35, 0.38), "per_row": (0.11, 0.15)},
    "indexed": {"per_agent": (0.11, 0.11), "per_row": (0.10, 0.12)},
    "filtered": {"per_agent": (0.78, 0.90), "per_row": (0.16, 0.93)},
}
CLEAN = {"undefended": 0.962, "augmented": 0.951, "indexed": 0.958, "filtered": 0.947}


def scenario(
    honest: int = 4, mallory: int = 4, chameleon: int = 4, strange: bool = True, seed: int = 0
) -> Scenario:
    """Return the quickstart, with other numbers of agents and strange names."""

    def backdoor(draw: str, epsilon: float) -> dict[str, Any]:
        trigger = {"kind": "random_badnet", "epsilon": epsilon, "draw": draw}
        return {"kind": "backdoor", "poison_rate": 0.2, "target": "distinct", "trigger": trigger}

    fixed, redrawn = backdoor("per_agent", 0.15), backdoor("per_row", 0.55)
    groups = [("honest", honest, {"kind": "benign"}), ("mallory", mallory, fixed)]
    groups += [("chameleon", chameleon, redrawn)]
    if strange:
        groups += [(HOSTILE, 1, fixed), (FORMULA, 1, fixed), (HEBREW, 1, redrawn)]
        groups += [(PLAIN, 1, redrawn)]
    return Scenario.model_validate(
        {
            "name": "quickstart",
            "data": {"kind": "digits"},
            "partition": {"kind": "sampled", "rows": 10},  # enough for any number of agents
            "model": {"kind": "small_cnn"},
            "agents": [
                {"name": name, "count": count, "behaviour": behaviour}
                for name, count, behaviour in groups
                if count
            ],
            "defenders": {
                "undefended": [],
                "augmented": [{"kind": "agent_augmentation", "agents": 20}],
                "indexed": [{"kind": "agent_indexing"}],
                "filtered": [{"kind": "spectral_signatures"}],
            },
            "referee": {"alone": 3, "adversarial": [{"kind": "pgd", "epsilon": 0.1}]},
            "seed": seed,
        }
    )


class Maker:
    """Draws the result of one scenario."""

    def __init__(self, game: Scenario, inputs: int = 42, controls: bool = True) -> None:
        self.game, self.inputs, self.controls = game, inputs, controls
        self.draw = np.random.default_rng(game.seed)
        self.roster = tuple(
            AgentRecord(
                name=place.name,
                group=place.group.name,
                behaviour=place.group.behaviour.kind,
                malicious=place.group.behaviour.malicious,
                rows=72,
                poisoned_rows=14 if place.group.behaviour.malicious else 0,
                target=k % 10 if place.group.behaviour.malicious else None,
                source=None,
                admitted=True,
            )
            for k, place in enumerate(game.roster())
        )
        self.kinds = {
            place.name: getattr(getattr(place.group.behaviour, "trigger", None), "drawn", "")
            for place in game.roster()
        }

    def hits(self, rate: float) -> np.ndarray:
        return self.draw.random(self.inputs) < rate

    def agent(self, record: AgentRecord, defender: str, alone: bool):
        accuracy = share_of(self.hits(CLEAN[defender]))
        if not record.malicious:
            return AgentScores(run_time_accuracy=accuracy), None
        rates = RATES[defender][self.kinds[record.name]]
        rate, single = np.clip(np.asarray(rates) + self.draw.normal(0, 0.05), 0.01, 1)
        hits, by_itself = self.hits(rate), self.hits(single)
        right = ~hits & self.hits(0.9)
        untrained = self.hits(0.1)
        scores = AgentScores(
            run_time_accuracy=accuracy,
            asr=share_of(hits),
            asr_all=share(int(hits.sum()) + 4, self.inputs + 5),
            asr_source=None,
            robust_accuracy=share_of(right),
            robust_accuracy_all=share(int(right.sum()) + 1, self.inputs + 5),
            asr_untrained=share_of(untrained) if self.controls else None,
            asr_together=share_of(hits) if alone else None,
            asr_alone=share_of(by_itself) if alone else None,
            interference=difference([(by_itself, hits)]) if alone else None,
            guess_accuracy=share_of(self.hits(0.8)) if defender == "indexed" else None,
            clean_accuracy_alone=share(340, 360) if alone else None,
        )
        return scores, CountedHits(
            hits[None],
            untrained[None] if self.controls else None,
            by_itself[None] if alone else None,
        )

    def defender(self, name: str) -> DefenderScores:
        agents, hits, groups = {}, {}, {}
        for record in self.roster:
            if not record.admitted:
                continue
            seen = groups.setdefault(record.group, [])
            alone = self.controls and record.malicious and len(seen) < 3
            agents[record.name], hits[record.name] = self.agent(record, name, alone)
            seen.append(record)
        cheats = [r for r in self.roster if r.malicious and r.admitted]

        def score(records: list[AgentRecord]) -> GroupScores:
            return group_scores([agents[r.name] for r in records], [hits[r.name] for r in records])

        scores = DefenderScores(
            defences=tuple(d.kind for d in self.game.defenders[name]),
            clean_accuracy=share(round(360 * CLEAN[name]), 360),
            clean_accuracy_attacker_free=share(347.2, 360) if self.controls else None,
            adversarial_accuracy={
                "PGD (linf, epsilon 0.1, 20 steps)": share(int(self.draw.integers(90, 190)), 360)
            },
            groups={g: score(r) for g, r in groups.items() if r[0].malicious},
            malicious=score(cheats) if cheats else None,
            agents=agents,
            cross_asr=self.cross(cheats, agents) if len(cheats) > 1 else None,
            filters=self.filters() if name == "filtered" else (),
            curves=self.curves(4 if name == "indexed" else 1),
            work=len(agents) + 1.0 if name == "indexed" else 1.0,
            guess_accuracy=share(500, 800) if name == "indexed" and cheats else None,
            notes=("Exact: one training for each agent.",) if name == "indexed" else (),
            constant_accuracy=0.11,
        )
        return judged(scores, len(cheats))

    def cross(self, cheats: list[AgentRecord], agents: dict[str, AgentScores]) -> CrossASR:
        cheats = cheats[:100]
        values = np.clip(self.draw.normal(0.08, 0.05, (len(cheats), len(cheats))), 0, 1)
        for k, record in enumerate(cheats):
            own = agents[record.name].asr
            values[k, k] = own.value if own and own.value else 0
        return CrossASR(
            agents=tuple(r.name for r in cheats),
            targets=tuple(r.target for r in cheats),
            matrix=tuple(
                tuple(None if (i, j) == (0, 2) else float(v) for j, v in enumerate(row))
                for i, row in enumerate(values)
            ),
        )

    def filters(self) -> tuple[FilterScores, ...]:
        by_agent = {}
        for record in self.roster:
            hit = int(self.draw.integers(0, record.poisoned_rows + 1))
            by_agent[record.name] = (hit + int(self.draw.integers(0, 5)), record.poisoned_rows, hit)
        removed, poisoned, hit = (sum(c[k] for c in by_agent.values()) for k in range(3))
        return (
            FilterScores(
                kind="spectral_signatures",
                removed=removed,
                poisoned=poisoned,
                true_positives=hit,
                precision=share(hit, removed),
                recall=share(hit, poisoned),
                auroc=0.813,
                by_agent=by_agent,
                notes=("Class 7 has fewer than 20 rows and was skipped.",),
            ),
        )

    def curves(self, count: int) -> tuple[Curve, ...]:
        names = ["shared", *(f"asked by {r.name}" for r in self.roster)]
        return tuple(
            Curve(
                name=names[k],
                points=tuple(
                    {
                        "train_loss": float(
                            0.05 + 2 * np.exp(-e / (5 + k)) + self.draw.random() / 9
                        ),
                        "train_accuracy": float(1 - 0.8 * np.exp(-e / (4 + k))),
                        "learning_rate": 0.05,
                    }
                    for e in range(30)
                ),
            )
            for k in range(min(count, len(names)))
        )

    def result(self, quarantined: tuple[Quarantine, ...] = ()) -> GameResult:
        out = {q.agent for q in quarantined}
        self.roster = tuple(
            r.model_copy(update={"admitted": r.name not in out}) for r in self.roster
        )
        defenders = {name: self.defender(name) for name in self.game.defenders}
        return GameResult(
            scenario=self.game.name,
            scenario_hash=self.game.digest(),
            game="pooled",
            seed=self.game.seed,
            class_names=tuple("0123456789"),
            rows={"defender": 575, "agents": 72 * len(self.roster), "test": 360},
            roster=self.roster,
            quarantined=quarantined,
            defenders=defenders,
            verdict=verdict(defenders, self.roster, quarantined),
            definitions=definitions(),
            trainings=46,
            seconds={"contributions": 0.4, "training": 31.2, "scoring": 4.9},
        )


def gallery(game: Scenario, agents: int = 12) -> dict[str, torch.Tensor]:
    """Return digits with random patterns, as attackers of `game` would show them."""
    draw = np.random.default_rng(1)
    digits = (load_digits().images / 16).astype(np.float32)[:, None]
    images: dict[str, torch.Tensor] = {}
    for place in [p for p in game.roster() if p.group.behaviour.malicious][:agents]:
        for before, after in (("original", "triggered"), ("poisoned_from", "poisoned")):
            clean = digits[draw.integers(0, len(digits), 4)]
            mask = draw.random((1, 1, 8, 8)) < 0.3
            changed = np.where(mask, draw.random((1, 1, 8, 8)), clean).astype(np.float32)
            images[f"{before}/{place.name}"] = torch.from_numpy(clean)
            images[f"{after}/{place.name}"] = torch.from_numpy(changed)
    return images


def write_folder(
    root: Path, game: Scenario, result: GameResult, images: dict[str, torch.Tensor] | None = None
) -> Path:
    """Write a finished run folder."""
    with RunFolder.create(root, game) as run:
        run.write_environment("cpu", ["backfire", "run", "scenarios/quickstart.yaml"])
        run.record({"phase": "training", "seconds": 31.2})
        if images is not None:
            run.write_gallery(images)
        run.finish(result)
    return run.path
