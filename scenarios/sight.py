"""Looking at a scenario's data before it is played."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from learning.data.base import DataError, DataSource, NotThereError
from learning.data.sketch import Sketch
from scenarios import checks
from scenarios.fit import misfits
from scenarios.text.problems import Problem

if TYPE_CHECKING:
    from scenarios.scenario import Scenario


class Look(StrEnum):
    """How much is looked at besides the scenario itself."""

    NO = "no"
    """Nothing: the scenario may be played elsewhere, or may be a part of a game in play."""
    IF_THERE = "if there"
    """The data where they are on this machine, and blocks that no game reads."""
    MUST = "must"
    """The same, and it is a mistake if the data are not there."""


class Sight:
    """What is seen of data sets; each is looked at once, whatever the number of scenarios.

    Args:
        look: How much to look at.
    """

    def __init__(self, look: Look = Look.NO) -> None:
        self._look = look
        self._seen: dict[DataSource, Sketch | str] = {}

    def misfits(self, scenario: Scenario) -> list[Problem]:
        """Return what is wrong with a scenario in the sight of its data."""
        if self._look == Look.NO:
            return []
        seen = self._of(scenario.data)
        return (
            [Problem(("data",), seen)] if isinstance(seen, str) else list(misfits(scenario, seen))
        )

    def unread(self, scenario: Scenario) -> list[Problem]:
        """Return the blocks that no game of a scenario reads."""
        return [] if self._look == Look.NO else checks.unread(scenario)

    def _of(self, source: DataSource) -> Sketch | str:
        """Return what a look at a data set tells, or why there can be none."""
        if source not in self._seen:
            try:
                self._seen[source] = source.look()
            except NotThereError as error:
                absent = str(error) if self._look == Look.MUST else source.sketch
                self._seen[source] = absent
            except DataError as error:
                self._seen[source] = str(error)
        return self._seen[source]
