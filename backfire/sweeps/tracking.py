"""Tells trackers of a sweep's cells as they finish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from backfire.trackers.telling import Tracking, tracking
from server.events import Event, Observer, ignore
from server.store.run_folder import RunFolder, RunFolderError

if TYPE_CHECKING:
    from backfire.sweeps.playing import Step, Watcher


@contextmanager
def track_sweep(
    names: Sequence[str], title: str, watch: Watcher, observe: Observer = ignore
) -> Iterator[Watcher]:
    """Give a watcher that tells trackers of each cell that has been played, and then `watch`.

    They write in the sweep's folder, which is known once the first cell begins. Cells that were
    played before are not told of again.

    Args:
        names: Of `TRACKERS`, checked by `need_trackers`; none is well.
        title: Name of the sweep.
        watch: Told of each step.
        observe: Told of trackers that fail.
    """
    with ExitStack() as stack:
        opened: list[Tracking] = []

        def watched(step: Step) -> None:
            if names and not opened:
                opened.append(stack.enter_context(tracking(names, step.folder, title, observe)))
            watch(step)
            if opened and step.last is not None and not step.error:
                _tell(opened[0], step, observe)

        yield watched


def _tell(tracked: Tracking, step: Step, observe: Observer) -> None:
    from backfire.evidence.rows import rows_of
    from backfire.sweeps.cells import folder_of
    from backfire.sweeps.folder import CELLS

    cell = step.last
    if cell is None:
        return
    folder = folder_of(step.folder / CELLS, cell.scenario)
    try:
        rows = rows_of(RunFolder.open(folder).result(), cell.at, folder.name)
    except (OSError, RunFolderError) as error:  # a sweep is not lost to a tracker
        observe(Event("tracking", 0, 0, f"{folder.name}: {' '.join(str(error).split())}"))
        return
    tracked.cell(folder.name, cell.at, cell.seed, rows)
