"""The games that a defender is played in: the attacked one and the referee's controls.

A world is named by a string that travels with each request of a federated game. Agents that cheat
are told of it, since the controls are made by their playing honestly; defences never are. A world
that is trained again, from another start and in another order, is named ``repeat/<k>/<world>``.
"""

from __future__ import annotations

import re
from typing import Final

ATTACKED: Final = "attacked"
ATTACKER_FREE: Final = "attacker_free"
ALONE: Final = "alone/"
_REPEAT: Final = re.compile(r"repeat/([1-9][0-9]*)/(.*)", re.DOTALL)


def repeated(world: str, repeat: int) -> str:
    """Return the name of a world's training number `repeat`; 0 is the world itself."""
    return f"repeat/{repeat}/{world}" if repeat else world


def repeat_of(world: str) -> tuple[int, str]:
    """Return which of a world's trainings a name stands for, from 0, and the world itself."""
    found = _REPEAT.fullmatch(world)
    return (int(found[1]), found[2]) if found else (0, world)


def cheats(world: str, agent: str) -> bool:
    """Return whether a malicious agent plays its behaviour in a world, or honestly."""
    return repeat_of(world)[1] in (ATTACKED, ALONE + agent)
