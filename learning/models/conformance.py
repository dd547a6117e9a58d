"""Whether a model can be played: checked before anything is trained, each problem in one line."""

from __future__ import annotations

import torch

from learning.conformance import check_survives_json, expect, expected, nothing_changed
from learning.method import kind_of
from learning.models.base import Architecture
from learning.models.features import features_of, has_linear, says_features

_ROWS = 2


def check_architecture(
    architecture: Architecture,
    shape: tuple[int, int, int] = (1, 8, 8),
    classes: int = 10,
) -> None:
    """Check that a model of one's own can be played; for any test runner.

    It must take inputs of `shape`, answer with a logit for each class, end in a linear layer, draw
    its initial weights from the caller's generator and nothing else, and survive JSON.

    Args:
        architecture: The model.
        shape: Of one input, (C, H, W).
        classes: Number of classes.

    Raises:
        AssertionError: If something does not hold; one line.
    """
    where = f"{kind_of(type(architecture))} on {shape} with {classes} classes"
    with nothing_changed({}, where), expected("a model that fits", where):
        first, again = (_built(architecture, shape, classes) for _ in range(2))
        check_module(first, shape, classes)
    same = _equal(first.state_dict(), again.state_dict())
    expect(same, where, "initial weights that follow torch's generator alone", "others")
    trained = any(weight.requires_grad for weight in first.parameters())
    expect(trained, where, "weights to train", "none")
    check_survives_json(architecture, where)


def check_module(module: torch.nn.Module, shape: tuple[int, int, int], classes: int) -> None:
    """Refuse a model that does not fit the game; called before anything is trained.

    Two blank inputs are run through it in evaluation mode. The model, and torch's generators, are
    left as they were.

    Args:
        module: The untrained model.
        shape: Of one input, (C, H, W).
        classes: Number of classes.

    Raises:
        ValueError: If it does not take such inputs, does not answer with a logit for each class, or
            has no linear layer; one line.
    """
    if not has_linear(module) and not says_features(module):
        raise ValueError(
            f"model: expected a linear layer, got {type(module).__name__} without: end it with "
            "torch.nn.Linear, or give it a method features(x) -> (n, d)"
        )
    weight = next(module.parameters(), torch.zeros(()))
    blank = torch.zeros(_ROWS, *shape, device=weight.device, dtype=weight.dtype)
    training = module.training
    try:
        with torch.no_grad(), torch.random.fork_rng():
            logits = _answer(module.eval(), blank)
            _check_logits(logits, classes)
            features_of(module, blank)
    finally:
        module.train(training)


def _answer(module: torch.nn.Module, blank: torch.Tensor) -> object:
    try:
        return module(blank)
    except Exception as error:
        got = " ".join(str(error).split())[:200]
        raise ValueError(
            f"model: expected {type(module).__name__} to take inputs of shape "
            f"{tuple(blank.shape[1:])}, got {type(error).__name__}: {got}"
        ) from error


def _check_logits(logits: object, classes: int) -> None:
    if not isinstance(logits, torch.Tensor):
        raise ValueError(
            f"model: expected logits as one tensor, got {type(logits).__name__}: return the "
            "logits alone"
        )
    if logits.shape != (_ROWS, classes):
        raise ValueError(
            f"model: expected logits of shape ({_ROWS}, {classes}) for {_ROWS} inputs, got "
            f"{tuple(logits.shape)}: give the last layer one output for each of the {classes} "
            "classes"
        )


def _built(
    architecture: Architecture, shape: tuple[int, int, int], classes: int
) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return architecture.build(shape, classes)


def _equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
