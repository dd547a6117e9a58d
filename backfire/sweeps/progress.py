"""Shows a sweep while it is played: a live table on a terminal, a line for each cell elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from backfire.sweeps.playing import Step, Watcher
from backfire.terminal import time_left
from scenarios.text.quoting import printable

_SHOWN = 12


@contextmanager
def watched(console: Console, *, plain: bool = False) -> Iterator[Watcher]:
    """Give a watcher for the time of one sweep.

    Args:
        console: Where to show it; the standard error, so that results can be piped.
        plain: Lines even on a terminal.
    """
    if plain or not console.is_terminal:
        yield lambda step: _print(console, step)
        return
    view = _View()
    with Live(get_renderable=view.render, console=console, refresh_per_second=4) as live:

        def watch(step: Step) -> None:
            view.step = step
            if step.error:
                _print(live.console, step)

        yield watch


class _View:
    """What is seen on a terminal."""

    def __init__(self) -> None:
        self.step: Step | None = None
        self._began: dict[str, float] = {}

    def render(self) -> RenderableType:
        """Return a bar for the sweep and a line for each cell in play."""
        step, now = self.step, time.monotonic()
        if step is None:
            return Text("looking for cells that are played already")
        bar = Table.grid(padding=(0, 1))
        count = Text(f"{step.done}/{step.total} games")
        bar.add_row(count, ProgressBar(step.total, step.done, width=32), Text(_left(step)))
        table = Table.grid(padding=(0, 1))
        self._began = {c.digest: self._began.get(c.digest, now) for c in step.playing}
        for cell in step.playing[:_SHOWN]:
            seconds = Text(f"{now - self._began[cell.digest]:.0f} s", style="dim")
            table.add_row(Text(printable(cell.title, 100)), seconds)
        more = len(step.playing) - _SHOWN
        return Group(bar, table, *([Text(f"and {more} more")] if more > 0 else []))


def _print(console: Console, step: Step) -> None:
    if step.last is None:
        return
    what = f"failed: {step.error}" if step.error else f"{step.seconds:.1f} s"
    line = f"{step.done}/{step.total} {printable(step.last.title)}: {printable(what, 300)}"
    left = _left(step) if step.done < step.total else ""
    console.print(Text(f"{line}; {left}" if left else line), soft_wrap=True)


def _left(step: Step) -> str:
    """Return how long the rest will take, in words."""
    return "" if step.left is None else time_left(step.left)
