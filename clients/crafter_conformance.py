"""What every behaviour must do that crafts rows against a model, as one check for its tests.

A plug-in's test is one line: ``check_crafter(MyAttack(strength=2.0))``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from clients.data_attacks.base import AgentContext, Contribution, Knowledge, Mate, Share
from clients.data_attacks.parts.crafter import Crafter
from clients.data_attacks.parts.poisoning import choose_rows
from learning.conformance import another_global_seed, check_survives_json, expect, expected
from learning.method import kind_of
from learning.models.softmax import Softmax
from learning.optimizers.sgd import SGD
from learning.pool import Floats, Ints
from learning.seeds import numpy_generator
from learning.training.device import threads
from learning.training.recipe import Recipe
from learning.training.spec import ComputeSpec, TrainingSpec

_CLASSES, _SIDE = 4, 6


def recipe_for_checks(seed: int = 7) -> Recipe:
    """Return how a small defender trains: softmax regression on inputs (1, 6, 6) of 4 classes."""
    training = TrainingSpec(epochs=2, batch_size=8, optimizer=SGD(lr=0.1, momentum=0.0))
    compute = ComputeSpec(device="cpu", threads=1)
    return Recipe(Softmax(), (1, _SIDE, _SIDE), _CLASSES, training, compute, seed)


def known_for_checks(others: int = 0) -> Knowledge:
    """Return what a behaviour is granted in the checks: the pool's other rows, or none."""
    draws = numpy_generator(1, "check/others")
    x, y = _rows(others, draws)
    return Knowledge(recipe_for_checks(), 200, x, y)


def check_crafter(behaviour: Crafter) -> None:
    """Check a behaviour on small data, alone and in a group.

    Raises:
        AssertionError: If it does not keep the contract; one line.
    """
    kind = kind_of(type(behaviour))
    check_survives_json(behaviour, kind)
    expect(behaviour.aim == "damage", kind, "the aim damage", behaviour.aim)
    share, seat = _share(), _seat("m-0", 0)
    for part in vars(share).values():
        part.setflags(write=False)  # whoever writes to the share fails
    played = _played(behaviour, share, seat, others=30)
    _check_rows(behaviour, share, seat, played, kind)
    again = _played(behaviour, share, seat, others=30)
    expect(_same(played, again), kind, "the same bytes when played twice", "others")
    with another_global_seed(), threads(2):
        moved = _played(behaviour, share, seat, others=30)
    expect(_same(played, moved), kind, "the same bytes on any number of threads", "others")
    alone = _played(behaviour, share, seat, others=0)
    _check_rows(behaviour, share, seat, alone, f"{kind}, of its own rows alone")
    _check_group(behaviour, kind)


def _rows(count: int, draws: np.random.Generator) -> tuple[Floats, Ints]:
    y = np.arange(count, dtype=np.int64) % _CLASSES
    x = 0.6 * draws.random((count, 1, _SIDE, _SIDE), dtype=np.float32)
    x[np.arange(count), 0, y, :3] += 0.4  # a class shows in its own line
    return x, y


def _share(seed: int = 0) -> Share:
    x, y = _rows(40, numpy_generator(seed, "check/share"))
    return Share(x[:32], y[:32], x[32:], y[32:])


def _seat(name: str, index: int) -> AgentContext:
    return AgentContext(name, "m", index, 2, 5, _CLASSES)


def _played(behaviour: Crafter, share: Share, seat: AgentContext, *, others: int) -> Contribution:
    with expected("a contribution", kind_of(type(behaviour))):
        return behaviour.play(share, replace(seat, known=known_for_checks(others)))


def _check_rows(
    behaviour: Crafter, share: Share, seat: AgentContext, played: Contribution, where: str
) -> None:
    """Check rows and labels, and that no other row than the chosen was touched."""
    chosen = choose_rows(behaviour.poison_rate, np.ones(len(share.y_train), np.bool_), seat)
    rest = np.setdiff1d(np.arange(len(share.y_train)), chosen)
    legal = np.isfinite(played.x).all() and played.x.min() >= 0 and played.x.max() <= 1
    expect(bool(legal), where, "inputs in [0, 1]", f"{played.x.min()} to {played.x.max()}")
    labels = bool(((played.y >= 0) & (played.y < _CLASSES)).all())
    expect(labels, where, f"labels in 0..{_CLASSES - 1}", f"{sorted(set(played.y.tolist()))}")
    untouched = np.array_equal(played.x[rest], share.x_train[rest])
    expect(untouched and not played.poisoned[rest].any(), where, "other rows as they were", "not")
    if behaviour.labels == "keep":
        kept = np.array_equal(played.y, share.y_train)
        expect(kept, where, "labels as they were (labels: keep)", "others")
    expect(not len(played.targets), where, "no inputs at run time", f"{len(played.targets)}")


def _check_group(behaviour: Crafter, kind: str) -> None:
    """Check that two agents that craft together do so once, whoever is first."""
    together = behaviour.model_copy(update={"coordination": "group"})
    found = [_together(together, order) for order in ((0, 1), (1, 0))]
    same = all(_same(found[0][k], found[1][k]) for k in (0, 1))
    expect(same, kind, "the same rows whoever of a group plays first", "others")


def _together(behaviour: Crafter, order: tuple[int, ...]) -> Mapping[int, Contribution]:
    shares, seats = [_share(seed) for seed in (0, 3)], [_seat(f"m-{k}", k) for k in (0, 1)]
    mates = tuple(
        Mate(seat, share.x_train, share.y_train) for seat, share in zip(seats, shares, strict=True)
    )
    known = replace(known_for_checks(), mates=mates)
    return {k: behaviour.play(shares[k], replace(seats[k], known=known)) for k in order}


def _same(one: Contribution, other: Contribution) -> bool:
    return (
        one.x.tobytes() == other.x.tobytes()
        and np.array_equal(one.y, other.y)
        and np.array_equal(one.poisoned, other.poisoned)
    )
