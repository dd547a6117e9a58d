"""What a predictor answers to all agents, in as few passes as it has models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from learning.pool import Floats, Ints
from learning.training.job import Trained
from server.referee.scoring.predict import Classes, as_one, predicted
from server.referee.scoring.rows import ScoredRows
from strategies.base import Guesser, Predictor

# Inputs come to a guesser in blocks of this size whatever the batch size is, so that near ties
# between agents never depend on how much memory the scorer was given.
GUESSED = 1024

# Answers to everybody's inputs, and how many agents get them.
ToAll = tuple[Classes, int]


@dataclass(frozen=True)
class Passes:
    """Where to compute, and how many rows fit one pass."""

    device: torch.device
    batch_size: int


@dataclass(frozen=True, eq=False)
class Asked:
    """The answers to several agents' inputs.

    Attributes:
        classes: For each agent the predicted classes of its inputs, int16 (m,).
        guessed: For each agent how many of its inputs the defender thought were its; None where
            the defender knows who asks.
    """

    classes: dict[str, Classes]
    guessed: dict[str, int] | None


def ask(predictor: Predictor, inputs: dict[str, Floats], engine: Passes) -> Asked:
    """Let each agent ask for its own inputs.

    Args:
        predictor: The defender's. Where it has a guesser, the guess stands for the asking agent.
        inputs: For each agent float32 (m, C, H, W).
        engine: How to compute; no memory but the answers grows with the number of agents.
    """
    counts = [len(x) for x in inputs.values()]
    rows = ScoredRows(list(inputs.values()))
    names, owner = list(inputs), np.repeat(np.arange(len(inputs)), counts)
    asking, guessed = owner, None
    if predictor.guesser is not None:
        names, asking = guesses(predictor.guesser, rows, names)
        right = np.bincount(owner[owner == asking], minlength=len(inputs)).tolist()
        guessed = dict(zip(inputs, right, strict=True))
    answers = answer(predictor, rows, names, asking, engine)
    ends = np.cumsum(counts).tolist()
    parts = (answers[end - n : end] for end, n in zip(ends, counts, strict=True))
    return Asked(dict(zip(inputs, parts, strict=True)), guessed)


def guesses(guesser: Guesser, rows: ScoredRows, names: Sequence[str]) -> tuple[list[str], Ints]:
    """Return `names` with those guessed besides at the end, and each row's guess, a position."""
    out = np.empty(len(rows), dtype=np.int64)
    place = {name: position for position, name in enumerate(names)}
    for start in range(0, len(rows), GUESSED):
        index = np.arange(start, min(start + GUESSED, len(rows)))
        for row, name in zip(index, guesser.guess(rows.take(index)), strict=True):
            out[row] = place.setdefault(name, len(place))
    return list(place), out


def answer(
    predictor: Predictor, rows: ScoredRows, names: Sequence[str], asking: Ints, engine: Passes
) -> Classes:
    """Return the predicted class of each row, asked by ``names[asking[row]]``, int16 (n,)."""
    models, group = _groups(predictor, names)
    out = np.empty(len(rows), dtype=np.int16)
    key = group[asking] if len(asking) else asking
    order = np.argsort(key, kind="stable")
    for index in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if len(index):
            module = as_one(models[key[index[0]]])
            out[index] = predicted(module, rows, index, engine.device, engine.batch_size)
    return out


def answer_everybody(
    predictor: Predictor, rows: ScoredRows, names: Sequence[str], engine: Passes
) -> list[ToAll]:
    """Return the answers to all rows for each distinct set of models, and how many agents get them.

    Args:
        predictor: The defender's.
        rows: Inputs that every agent asks for.
        names: The asking agents; without any, the shared models answer once. With a guesser the
            name plays no part, and there is one set of answers.
        engine: How to compute.
    """
    if predictor.guesser is not None:
        known, asking = guesses(predictor.guesser, rows, names)
        return [(answer(predictor, rows, known, asking, engine), 1)]
    models, group = _groups(predictor, list(names) or [""])
    everything = np.arange(len(rows))
    return [
        (predicted(as_one(some), rows, everything, engine.device, engine.batch_size), int(count))
        for some, count in zip(models, np.bincount(group), strict=True)
    ]


def _groups(predictor: Predictor, names: Sequence[str]) -> tuple[list[tuple[Trained, ...]], Ints]:
    """Return the distinct sets of models, and for each name the position of the set it gets."""
    place: dict[tuple[int, ...], int] = {}
    models: list[tuple[Trained, ...]] = []
    group = np.empty(len(names), dtype=np.int64)
    for position, name in enumerate(names):
        some = predictor.models(name)
        key = tuple(id(model.module) for model in some)
        if key not in place:
            place[key] = len(models)
            models.append(some)
        group[position] = place[key]
    return models, group
