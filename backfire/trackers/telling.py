"""From the events and the result of a game, and from a sweep's cells, to what trackers are told."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from backfire.callbacks.base import Callback
from backfire.trackers.base import Setting, Tracker, open_tracker
from scenarios.scenario import Scenario
from server.events import Event, Observer, ignore
from server.referee.results import GameResult

if TYPE_CHECKING:
    from backfire.evidence.rows import ScoreRow

# Folder of a run or a sweep that trackers write in.
FOLDER: Final = "tracking"
_NAMED: Final = 5


class Tracking:
    """Tells several trackers, and an observer of what goes wrong with them.

    A tracker that fails is told of and left out from then on: no game is lost to it.

    Args:
        trackers: By name.
        observe: Told of each event, and of trackers that fail.
    """

    def __init__(self, trackers: Mapping[str, Tracker], observe: Observer = ignore) -> None:
        self._trackers = dict(trackers)
        self._observe = observe
        self._cells = 0
        self._dropped: Counter[str] = Counter()
        # Models that train side by side report from threads of their own.
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        """Tell of an event of a game; it is an observer."""
        self._observe(event)
        self.heard(event)

    def heard(self, event: Event) -> None:
        """Tell the trackers of an event of a game."""
        if event.phase == "round":
            self._numbers(_of_round(event.facts), event.done)

    def settings(self, values: Mapping[str, Setting]) -> None:
        """Tell what is played."""
        self._each(lambda tracker: tracker.settings(values))

    def scored(self, result: GameResult) -> None:
        """Tell of a finished game: curves, what its rounds say of attacks, and its scores."""
        from backfire.evidence.rows import rows_of  # sweeps play games, which are tracked

        for step, values in _by_step(result).items():
            self._numbers(values, step)
        self._numbers(scores_of(rows_of(result, {}, "")), 0)

    def cell(
        self, name: str, at: Mapping[str, Setting], seed: int, rows: Iterable[ScoreRow]
    ) -> None:
        """Tell of a finished cell of a sweep.

        Args:
            name: The cell's name.
            at: Its axes.
            seed: Its seed.
            rows: Its lines of the long table.
        """
        with self._lock:
            values = self._finite(scores_of(rows))
            step = self._cells
            self._cells += 1
            self._each(lambda tracker: tracker.cell(name, {**at, "seed": seed}, values, step))

    def close(self, *, finished: bool) -> None:
        """Let all trackers write what is left; say which values they were not told."""
        if self._dropped:
            self._observe(Event("tracking", 0, 0, _not_told(self._dropped)))
            self._dropped.clear()
        self._each(lambda tracker: tracker.close(finished=finished))
        self._trackers.clear()

    def _numbers(self, values: Mapping[str, float], step: int) -> None:
        with self._lock:
            kept = self._finite(values)
            if kept:
                self._each(lambda tracker: tracker.numbers(kept, step))

    def _finite(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers that trackers can keep; the others are counted."""
        if self._trackers:
            self._dropped.update(name for name, x in values.items() if not math.isfinite(x))
        return {name: x for name, x in values.items() if math.isfinite(x)}

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        with self._lock:
            for name, tracker in list(self._trackers.items()):
                try:
                    tell(tracker)
                except Exception as error:  # the user's tracker, server or disk: anything at all
                    del self._trackers[name]
                    note = f"{name} failed and is told no more: {' '.join(str(error).split())}"
                    self._observe(Event("tracking", 0, 0, note))


def _opened(
    names: Sequence[str], folder: Path, title: str, observe: Observer
) -> dict[str, Tracker]:
    trackers: dict[str, Tracker] = {}
    for name in dict.fromkeys(names):
        try:
            trackers[name] = open_tracker(name, folder / FOLDER, title)
        except Exception as error:  # as above
            note = f"{name} cannot be used: {' '.join(str(error).split())}"
            observe(Event("tracking", 0, 0, note))
    return trackers


@contextmanager
def tracking(
    names: Sequence[str], folder: Path, title: str, observe: Observer = ignore
) -> Iterator[Tracking]:
    """Open trackers for the time of one game or one sweep.

    Args:
        names: Of `TRACKERS`, checked by `need_trackers`; none is well.
        folder: The run's or the sweep's folder.
        title: Name of what is played.
        observe: Told of each event, and of trackers that fail.
    """
    opened = Tracking(_opened(names, folder, title, observe), observe)
    try:
        yield opened
    except BaseException:
        opened.close(finished=False)
        raise
    opened.close(finished=True)


class Tracked(Callback):
    """Tells trackers of one game.

    Args:
        names: Of trackers, checked by `need_trackers`; none is well.
        observe: Told of trackers that fail.
    """

    def __init__(self, names: Sequence[str], observe: Observer = ignore) -> None:
        self._names, self._observe = tuple(names), observe
        self._tracking = Tracking({}, observe)

    def on_start(self, scenario: Scenario, folder: Path) -> None:
        """Open the trackers and tell them what is played."""
        title = f"{scenario.name}-seed{scenario.seed}"
        self._tracking = Tracking(_opened(self._names, folder, title, self._observe), self._observe)
        if self._names:
            settings = flattened(scenario.resolved())
            self._tracking.settings({**settings, "digest": scenario.digest()})

    def on_event(self, event: Event) -> None:
        """Tell of a round."""
        self._tracking.heard(event)

    def on_end(self, result: GameResult | None) -> None:
        """Tell of the scores, and close."""
        if result is not None:
            self._tracking.scored(result)
        self._tracking.close(finished=result is not None)


def _not_told(dropped: Counter[str]) -> str:
    total = sum(dropped.values())
    named = ", ".join(f"{name} ({count})" for name, count in dropped.most_common(_NAMED))
    more = f" and {len(dropped) - _NAMED} more names" if len(dropped) > _NAMED else ""
    return (
        f"{total} value{'s' * (total > 1)} that {'are' if total > 1 else 'is'} not finite (NaN or "
        f"infinite) left out of what trackers are told: {named}{more}"
    )


def flattened(value: object, path: str = "") -> dict[str, Setting]:
    """Return the plain values of nested mappings and lists by path, such as ``training.epochs``."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {path: value} if isinstance(value, str | int | float) else {}
    return {
        name: plain
        for key, inner in items
        for name, plain in flattened(inner, f"{path}.{key}" if path else str(key)).items()
    }


def scores_of(rows: Iterable[ScoreRow]) -> dict[str, float]:
    """Return the scores of defenders and groups by name, ``score/<defender>/<group>/<score>``."""
    return {
        "/".join(filter(None, ("score", row.defender, row.group, row.score))): row.value
        for row in rows
        if not row.agent and row.value is not None
    }


def _of_round(facts: Mapping[str, Any]) -> dict[str, float]:
    name = f"round/{facts.get('defender', '')}"
    found = {f"{name}/skipped": float(bool(facts.get("skipped")))}
    if facts.get("admitted") is not None:
        found[f"{name}/admitted"] = float(len(facts["admitted"]))
    if facts.get("selected") is not None:
        found[f"{name}/selected"] = float(len(facts["selected"]))
    score = facts.get("clean_accuracy")
    if score and score["value"] is not None:
        found[f"{name}/clean_accuracy"] = float(score["value"])
    return found


def _by_step(result: GameResult) -> dict[int, dict[str, float]]:
    """Return what a finished game says of its epochs and rounds, by epoch or round."""
    steps: dict[int, dict[str, float]] = {}
    for name, scores in result.defenders.items():
        for curve in scores.curves:
            for number, point in enumerate(curve.points, 1):
                step = int(point.get("epoch", number))
                for key, value in point.items():
                    if key != "epoch":
                        steps.setdefault(step, {})[f"training/{name}/{curve.name}/{key}"] = value
    for name, rounds in result.rounds.items():
        for entry in rounds:
            shares = [score.value for score in entry.asr.values() if score.value is not None]
            if shares:
                steps.setdefault(entry.round, {})[f"round/{name}/asr"] = sum(shares) / len(shares)
    return dict(sorted(steps.items()))
