"""Cells as tasks of a Ray cluster; needs the extra ``ray``.

A task plays into a folder of its own machine and sends the files back, so that the machines need
not share a disk. They need Backfire installed, and data files under the same paths.
"""

from __future__ import annotations

import logging
import os
import tempfile
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

from backfire.runtimes.ray import need_ray
from backfire.sweeps.workers import Done, Task, play_task, use_threads


class RayCrew:
    """Tasks on a Ray cluster: the one that ``RAY_ADDRESS`` names, else one on this machine.

    Args:
        size: Number of cells at a time; None for as many as the cluster has room for.
        threads: CPU cores for each.
        gpus: GPUs for each, where the cluster has any.

    Attributes:
        size: Number of cells at a time.

    Raises:
        RayMissingError: If Ray is not installed; says how to install it.
    """

    def __init__(self, size: int | None, threads: int, gpus: float = 1.0) -> None:
        need_ray()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ours = not ray.is_initialized()
        if self._ours:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        there: dict[str, float] = cast(Any, ray).cluster_resources()
        some = gpus if there.get("GPU", 0) > 0 else 0
        room = int(there.get("CPU", 1) // threads)
        if some:
            room = min(room, int(there["GPU"] // some))
        self.size = size or max(1, room)
        remote: Any = ray.remote(num_cpus=threads, num_gpus=some, max_retries=0)
        self._play = remote(_play_elsewhere)
        self._threads, self._open = threads, set[Any]()

    def submit(self, task: Task) -> Future[Done]:
        """See `backfire.sweeps.workers.Crew.submit`."""
        ref = self._play.remote(task, self._threads)
        return cast("Future[Done]", ref.future())

    def close(self, *, kill: bool) -> None:
        """See `backfire.sweeps.workers.Crew.close`."""
        import ray

        if self._ours:
            ray.shutdown()


def _play_elsewhere(task: Task, threads: int) -> Done:
    use_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        done = play_task(Task(folder, task.text))
        if done.error:
            return done
        (run,) = Path(folder).iterdir()
        files = tuple((file.name, file.read_bytes()) for file in sorted(run.iterdir()))
        return Done(done.seconds, files=files)
