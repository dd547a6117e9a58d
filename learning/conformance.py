"""What the public conformance suites share: checks that fail in one line, for any test runner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random import get_state
from torch import Tensor

from learning.method import Method


def expect(holds: bool, where: str, wanted: str, got: str) -> None:
    """Raise an `AssertionError` of one line unless a check holds.

    Args:
        holds: Whether it does.
        where: Method, round and case.
        wanted: What was expected.
        got: What came, and what to do about it.

    Raises:
        AssertionError: If it does not hold.
    """
    if not holds:
        raise AssertionError(f"{where}: expected {wanted}, got {' '.join(got.split())}")


def told(error: Exception) -> str:
    """Return an error as one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def expected(what: str, where: str) -> Iterator[None]:
    """Turn any error of a `with` block into an `AssertionError` that says what was expected."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{where}: expected {what}, got {told(error)}") from error


@contextmanager
def nothing_changed(given: Mapping[str, Tensor], where: str) -> Iterator[None]:
    """Check that a `with` block changes neither these tensors nor torch's global settings."""
    copies = {name: value.clone() for name, value in given.items()}
    generator, threads = torch.random.get_rng_state(), torch.get_num_threads()
    yield
    for name, value in given.items():
        expect(torch.equal(value, copies[name]), where, f"{name} left as it is", "it changed")
    untouched = torch.equal(torch.random.get_rng_state(), generator)
    expect(untouched, where, "torch's global generator left alone", "a draw; use the one given")
    now = torch.get_num_threads()
    expect(now == threads, where, f"torch left on {threads} threads", str(now))


@contextmanager
def numpy_untouched(where: str) -> Iterator[None]:
    """Check that a `with` block draws nothing from NumPy's global generator."""
    before = _numpy_state()
    yield
    same = _numpy_state() == before
    expect(same, where, "NumPy's global generator left alone", "a draw; use the one given")


def _numpy_state() -> tuple[object, ...]:
    name, keys, *rest = get_state()  # read only: nothing is drawn from it
    return (name, np.asarray(keys).tobytes(), *rest)


@contextmanager
def another_global_seed() -> Iterator[None]:
    """Set torch's global CPU generator to some other state for the span of a `with` block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0x5EED)
        yield


def check_survives_json(method: Method, where: str) -> None:
    """Check that a method's parameters come back from a dictionary and from JSON.

    Raises:
        AssertionError: If they do not.
    """
    with expected("it to survive JSON", where):
        same = type(method).model_validate(method.model_dump()) == method
        same &= type(method).model_validate_json(method.model_dump_json()) == method
    expect(same, where, "the same parameters after a round trip through JSON", "others")
