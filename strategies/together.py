"""Plays many defenders at once, so that trainings they share are done once and the rest together.

A defender's play is a generator that asks for models (`learning.training.job.TrainingRequests`).
All plays advance stage by stage; each stage's trainings go to the engine in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from learning.training.job import Trained, Training, TrainingRequests

T = TypeVar("T")
K = TypeVar("K")

Train = Callable[[Sequence[Training]], list[Trained]]


def play_together(plays: Mapping[K, TrainingRequests[T]], train: Train) -> dict[K, T]:
    """Run all plays to their end.

    Args:
        plays: Generators by key.
        train: Trains a list of models, in order; expected to recognise equal requests.

    Returns:
        What each play returned, in the order of `plays`.
    """
    done: dict[K, T] = {}
    waiting: dict[K, list[Training]] = {}
    for key, play in plays.items():
        _advance(key, play, None, waiting, done)
    while waiting:
        models = train([request for requests in waiting.values() for request in requests])
        stage, waiting = waiting, {}
        at = 0
        for key, requests in stage.items():
            end = at + len(requests)
            _advance(key, plays[key], models[at:end], waiting, done)
            at = end
    return {key: done[key] for key in plays}


def _advance(
    key: K,
    play: TrainingRequests[T],
    models: list[Trained] | None,
    waiting: dict[K, list[Training]],
    done: dict[K, T],
) -> None:
    try:
        # A copy: a play may go on with the list that it asked with.
        waiting[key] = list(next(play) if models is None else play.send(models))
    except StopIteration as end:
        done[key] = end.value
