"""Randomness keyed by (seed, purpose, round, agent): every draw can be replayed alone.

No module of Backfire touches a global generator. Whoever needs randomness asks here for a
generator of its own; two different keys give independent streams, the same key always the same
one, on every machine and in every order of play.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch


def _digest(seed: int, purpose: str, round: int, agent: str) -> bytes:
    key = json.dumps([int(seed), purpose, int(round), agent])
    return hashlib.sha256(key.encode()).digest()


def derived_seed(seed: int, purpose: str) -> int:
    """Return a seed of one's own, 0..2^63-1, which does not show `seed`.

    The defender is given such a seed: with the game's own it could replay the agents' draws. It
    guards against use, not against search: a game's seed is often a small number.
    """
    return int.from_bytes(_digest(seed, f"seed/{purpose}", 0, "")[:8], "little") >> 1


def numpy_generator(
    seed: int, purpose: str, *, round: int = 0, agent: str = ""
) -> np.random.Generator:
    """Return the NumPy generator of one purpose.

    Args:
        seed: The game's seed.
        purpose: What the draw is for, such as ``"trigger"``.
        round: Round of a federated game; 0 in a pooled game.
        agent: Name of the agent that draws, or "" for the defender and the referee.
    """
    return np.random.Generator(
        np.random.Philox(int.from_bytes(_digest(seed, purpose, round, agent)[:16], "little"))
    )


def torch_generator(seed: int, purpose: str, *, round: int = 0, agent: str = "") -> torch.Generator:
    """Return the CPU torch generator of one purpose; see `numpy_generator` for the key."""
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(_digest(seed, purpose, round, agent)[:8], "little") >> 1)
    return generator
