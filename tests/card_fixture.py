"""Cards of made-up numbers: what leaderboards are made of, without sweeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from backfire.evidence.card import CardEntry, CardScore, Identity, SweepCard

Values = Sequence[float] | Mapping[int, float]


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def score(values: Values) -> CardScore:
    by_seed = dict(values) if isinstance(values, Mapping) else dict(enumerate(values))
    mean = float(np.mean(list(by_seed.values())))
    kept = {str(seed): float(value) for seed, value in by_seed.items()}
    return CardScore(value=mean, low=None, high=None, by_seed=kept)


def entry(
    defence: str, attack: str = "backdoor", game: str = "pooled", **scores: Values
) -> CardEntry:
    """Return one attack against one defence; the one called ``undefended`` has no defences.

    Args:
        defence: Its name.
        attack: Its name.
        game: The kind of game.
        scores: By name: values of the seeds 0, 1, ..., or by seed.
    """
    own: object = [] if defence == "undefended" else [{"kind": defence}]
    if defence == "mean":
        own = [{"kind": "mean"}]
    return CardEntry(
        at={"attack": attack},
        bench=Identity(name=f"digits, mlp, {game}", hash=digest([game])),
        attack=Identity(name=attack, hash=digest([attack])),
        defence=Identity(name=defence, hash=digest(own)),
        scores={name: score(values) for name, values in scores.items()},
        work=1.0,
    )


def card(
    *entries: CardEntry, version: int = 2, score: str = "asr", name: str = "made up"
) -> SweepCard:
    return SweepCard(
        card=version,  # type: ignore[arg-type]
        sweep=name,
        hash=digest([name]),
        seeds=(0,),
        games=1,
        score=score,
        replay=f"backfire sweep {name}/sweep.yaml",
        versions={},
        entries=entries,
    )


def defended(name: str, free: Values, attacked: Values, asr: Values, **more: object) -> CardEntry:
    """Return an entry whose attack surely beats its control."""
    untrained = dict.fromkeys(asr, 0.0) if isinstance(asr, Mapping) else [0.0] * len(asr)
    return entry(
        name,
        **more,  # type: ignore[arg-type]
        asr=asr,
        asr_untrained=untrained,
        clean_accuracy=attacked,
        clean_accuracy_attacker_free=free,
    )
