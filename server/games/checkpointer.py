"""What a game asks of whoever keeps it, so that it can go on where it was cut off.

A game knows no files: it hands over what the agents gave and, after each round, its
`FederationState`, and asks for both when it begins. By default nobody keeps anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from server.events import RESUMED, Event
from server.games.federated_state import FederationState
from server.referee.results import Quarantine
from server.wire.admission import ContributionStore, Memory, Rows, Wanted

Collected = tuple[dict[str, Rows], list[Quarantine]]


class Checkpointer:
    """Keeps nothing: the game is played from its beginning, in memory."""

    def of(self, game: str) -> Checkpointer:
        """Return the keeper of one of the games of a scenario, ``pooled`` or ``federated``."""
        return self

    def collected(
        self, part: str, wanted: Sequence[Wanted], ask: Callable[[ContributionStore], Collected]
    ) -> Collected:
        """Return the rows of one part and who was refused, from the agents or as they were kept.

        Args:
            part: ``contribute``, or the part of a reveal.
            wanted: What is asked for.
            ask: Asks the agents, and puts their rows on the shelf that it is given.
        """
        return ask(Memory(wanted))

    def newest(self) -> FederationState | None:
        """Return the newest sound progress that was kept; None to begin at the beginning."""
        return None

    def keep(self, progress: FederationState, *, last: bool) -> None:
        """Keep the game as it stands after a round.

        Args:
            progress: The game.
            last: Whether this was the last round.
        """

    def resumed(self, total: int, progress: FederationState | None = None) -> Event | None:
        """Return what is told of a game that goes on; None of one that begins.

        Args:
            total: Rounds in all, 0 in a pooled game.
            progress: The progress that it goes on from.
        """
        return None


def resumed_event(total: int, done: int, facts: Mapping[str, object], note: str) -> Event:
    """Return the event of a game that goes on; its lines in the log replace those above it."""
    return Event(RESUMED, done, total, note, facts)
