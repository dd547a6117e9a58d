"""Several plays of one filter, advanced together so that their models are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from learning.training.job import Trained, Training, TrainingRequests

T = TypeVar("T")


def in_lockstep(plays: Sequence[TrainingRequests[T]]) -> TrainingRequests[list[T]]:
    """Play generators side by side: each stage asks for the trainings of all that are not done.

    Returns:
        What each play returned, in their order.
    """
    done: dict[int, T] = {}
    sent: dict[int, list[Trained] | None] = dict.fromkeys(range(len(plays)))
    while sent:
        asked: dict[int, list[Training]] = {}
        for at, models in sent.items():
            try:
                asked[at] = list(next(plays[at]) if models is None else plays[at].send(models))
            except StopIteration as end:
                done[at] = end.value
        sent = {}
        if asked:
            answers = iter((yield [request for requests in asked.values() for request in requests]))
            sent = {at: [next(answers) for _ in requests] for at, requests in asked.items()}
    return [done[at] for at in range(len(plays))]
