"""Training curves of a defender's models, for the report."""

from __future__ import annotations

from learning.training.job import Trained
from server.referee.results import Curve
from strategies.base import Predictor

LIMIT = 12


def curves(predictor: Predictor) -> tuple[Curve, ...]:
    """Return the curves of the first `LIMIT` distinct models: the shared ones first."""
    named: dict[int, tuple[str, Trained]] = {}
    for k, model in enumerate(predictor.shared):
        name = "shared" if len(predictor.shared) == 1 else f"shared {k + 1}"
        named.setdefault(id(model.module), (name, model))
    for agent, models in predictor.by_agent.items():
        for model in models:
            named.setdefault(id(model.module), (f"asked by {agent}", model))
    return tuple(
        Curve(name=name, points=model.curve) for name, model in list(named.values())[:LIMIT]
    )
