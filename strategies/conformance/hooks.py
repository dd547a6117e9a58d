"""What every training-time hook must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_hook(MyHook(alpha=0.3))``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from learning.conformance import (
    another_global_seed,
    check_survives_json,
    expect,
    expected,
    nothing_changed,
    numpy_untouched,
)
from learning.method import kind_of
from learning.seeds import torch_generator
from strategies.base import TrainingHook

_ROUNDING = 1e-4  # of a row of targets that should add up to 1


def check_hook(hook: TrainingHook) -> None:
    """Mix small made-up batches and check all that training relies on.

    The batches have one row, two, seven and thirty-two; grey images and coloured ones; all rows
    alike; and labels that are soft already, as after another hook.

    Args:
        hook: With its parameters as a scenario would set them.

    Raises:
        AssertionError: In one line, with the hook's kind and the batch: if inputs or targets come
            back in another shape or dtype; if inputs leave [0, 1]; if a row of targets is negative
            or does not add up to 1; if what it was given is changed; if one state of the generator
            gives two answers, also after other batches; if it draws from a global generator; if
            `tries` is not a whole number of 1 or more; if it fails; or if its parameters do not
            survive JSON.
    """
    kind = kind_of(type(hook))
    check_survives_json(hook, kind)
    tries = hook.tries
    whole = isinstance(tries, int) and not isinstance(tries, bool) and tries >= 1
    expect(whole, kind, "tries of 1 or more", repr(tries))
    first = [(name, _mixed(hook, x, y, f"{kind}, {name}")) for name, x, y in _batches()]
    with another_global_seed():
        again = [_mixed(hook, x, y, f"{kind}, {name}") for name, x, y in reversed([*_batches()])]
    for (name, one), other in zip(first, reversed(again), strict=True):
        same = all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        told = "two answers; draw from the generator alone and keep nothing"
        expect(same, f"{kind}, {name}", "the same batch from the same generator", told)


def _mixed(hook: TrainingHook, x: Tensor, targets: Tensor, where: str) -> tuple[Tensor, Tensor]:
    generator = torch_generator(7, "conformance/hook")
    given = {"x": x, "targets": targets}
    with nothing_changed(given, where), numpy_untouched(where), expected("a batch", where):
        mixed = hook.mix(x, targets, generator)
    pair = isinstance(mixed, tuple) and len(mixed) == 2
    expect(pair, where, "a pair of inputs and targets", type(mixed).__name__)
    for name, came, was in (("inputs", mixed[0], x), ("targets", mixed[1], targets)):
        expect(isinstance(came, Tensor), where, f"{name} as a tensor", type(came).__name__)
        same = came.shape == was.shape and came.dtype == was.dtype
        wanted = f"{name} of shape {tuple(was.shape)} and {was.dtype}"
        expect(same, where, wanted, f"{tuple(came.shape)} and {came.dtype}")
    inside = bool(((mixed[0] >= 0) & (mixed[0] <= 1)).all())
    expect(inside, where, "finite inputs in [0, 1]", "others")
    sums = mixed[1].sum(1)
    fair = bool((mixed[1] >= 0).all()) and bool(((sums - 1).abs() <= _ROUNDING).all())
    expect(fair, where, "targets of 0 or more that add up to 1", "others")
    return mixed


def _batches() -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield fresh batches, by name; the draws are the same at each call."""
    yield "one row", *_batch(1)
    yield "two rows", *_batch(2)
    yield "seven rows in colour", *_batch(7, channels=3)
    yield "thirty-two rows", *_batch(32)
    x, targets = _batch(6)
    yield "rows that are alike", x[:1].repeat(6, 1, 1, 1), targets[:1].repeat(6, 1)
    yield "soft labels", x, 0.75 * targets + 0.25 * targets.roll(1, 0)


def _batch(rows: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch_generator(7, "conformance/batch", round=rows)
    x = torch.rand(rows, channels, 8, 8, generator=draw)
    return x, torch.eye(4)[torch.randint(4, (rows,), generator=draw)]
