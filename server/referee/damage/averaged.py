"""A predictor of the models whose weights are averaged over their last epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from learning.training.job import Trained
from strategies.base import Predictor


def averaged(predictor: Predictor) -> Predictor | None:
    """Return the predictor with each model in its averaged form; None where one has none.

    A guess of who asks stays that of the models themselves.
    """
    shared = _averaged(predictor.shared)
    own = {name: _averaged(models) for name, models in predictor.by_agent.items()}
    by_agent = {name: models for name, models in own.items() if models is not None}
    if shared is None or len(by_agent) < len(own):
        return None
    return replace(predictor, shared=shared, by_agent=by_agent)


def _averaged(models: Sequence[Trained]) -> tuple[Trained, ...] | None:
    found: dict[int, Trained] = {}
    for model in models:
        if model.averaged is None:
            return None
        found[id(model)] = replace(model, module=model.averaged)
    return tuple(found[id(model)] for model in models)
