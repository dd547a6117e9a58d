"""The training device and its settings, each for the span of a `with` block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def gpus() -> tuple[str, ...]:
    """Return the names of this machine's CUDA devices, such as ``cuda:0``."""
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def pick_device(name: str) -> torch.device:
    """Return the device of a scenario; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ValueError: If there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= there:
        raise ValueError(
            f"compute.device: expected a device of this machine, got {name!r}: use 'auto' or 'cpu'"
        )
    return device


def one_thread() -> None:
    """Let the calling thread compute on one core."""
    torch.set_num_threads(1)


def usable_cores() -> int:
    """Return how many cores this process may keep busy: ``OMP_NUM_THREADS``, or its affinity."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on `count` CPU threads; None leaves them as they are."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Keep CUDA convolutions in full float32 and in a fixed order of sums."""
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


@contextmanager
def layer_draws(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Let layers that draw (dropout) draw from a keyed stream, not from the global one."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(generator.initial_seed())
        yield


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute the same bytes whatever the number of CPU threads: on one, in exact convolutions."""
    with threads(1), exact_convolutions():
        yield
