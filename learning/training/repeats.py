"""A play trained again: other initial weights and another order of rows, all else the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from learning.training.job import Trained, Training, TrainingRequests

T = TypeVar("T")


def order_of(purpose: str, repeat: int) -> str:
    """Return the purpose that gives a training's repeat number `repeat` an order of its own."""
    return f"{purpose}/repeat/{repeat}" if repeat else purpose


def trained_again(play: TrainingRequests[T], start: Trained, repeat: int) -> TrainingRequests[T]:
    """Play `play` with other noise of training.

    Args:
        play: What asks for trainings.
        start: The untrained model that stands in for the game's common initial weights.
        repeat: Number of the repeat, from 1; keys the order of rows.
    """
    models: list[Trained] | None = None
    while True:
        try:
            requests = next(play) if models is None else play.send(models)
        except StopIteration as end:
            done: T = end.value
            return done
        models = yield [_moved(request, start, repeat) for request in requests]


def _moved(request: Training, start: Trained, repeat: int) -> Training:
    return replace(
        request,
        start=request.start or start,
        purpose=order_of(request.purpose, repeat),
    )
