"""Leave-one-out models of agent indexing: trained together, against one by one.

Both sides train the same models, on the same rows in the same order, in the same process and on
the same number of threads. A whole training magnifies rounding (a difference of 1e-8 after a step
is one of 1e-2 after thirty epochs, whatever its cause), so weights are compared after one epoch,
in float32 and in float64, and finished models by their accuracy on clean test rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from learning.models.small_cnn import SmallCNN
from learning.pool import DEFENDER, Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from learning.training.spec import ComputeSpec, TrainingSpec

AGENTS = (16, 20, 32)
TRAIN_ROWS, DEFENDER_ROWS = 1437, 575


def run(quick: bool) -> dict:
    epochs = 3 if quick else 30
    cuda = torch.cuda.is_available()
    cores = 1 if cuda else torch.get_num_threads()
    _play(4, 1, True, 1)  # warm-up
    rows = [_compare(n, epochs, threads) for n in AGENTS for threads in sorted({1, cores})]
    return {
        "name": "indexing: leave-one-out models together against one by one",
        "rows": rows,
        "note": (
            f"digits, small_cnn, batches of 64, {epochs} epochs, {'CUDA' if cuda else 'CPU'}. "
            "Seconds of one thread are CPU seconds, others wall seconds; memory is what one "
            "epoch adds at its peak; differences of weights are the largest after one epoch."
        ),
    }


def _compare(agents: int, epochs: int, threads: int) -> dict[str, object]:
    together, seconds = _play(agents, epochs, True, threads)
    apart, seconds_apart = _play(agents, epochs, False, threads)
    _, seconds_last = _play(agents, epochs, False, threads, channels_last=True)
    return {
        "N": agents,
        "threads": threads,
        "together_s": round(seconds, 2),
        "one_by_one_s": round(seconds_apart, 2),
        "ratio": round(seconds_apart / seconds, 2),
        "ratio_to_channels_last": round(seconds_last / seconds, 2),
        "together_mib": _memory(agents, True, threads),
        "one_by_one_mib": _memory(agents, False, threads),
        "difference_f32": _difference(agents, torch.float32),
        "difference_f64": _difference(agents, torch.float64),
        "clean_together": round(_accuracy(together), 4),
        "clean_one_by_one": round(_accuracy(apart), 4),
    }


def _play(
    agents: int, epochs: int, together: bool, threads: int, *, channels_last: bool = False
) -> tuple[list[Trained], float]:
    """Train the leave-one-out models; return them and the seconds."""
    engine = _engine(epochs, together, threads, channels_last=channels_last)
    clock = time.process_time if threads == 1 and engine.device.type == "cpu" else time.perf_counter
    start = clock()
    models = engine.train(_requests(agents))
    if engine.device.type == "cuda":
        torch.cuda.synchronize()
    return models, clock() - start


def _engine(
    epochs: int,
    together: bool,
    threads: int,
    *,
    channels_last: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Engine:
    compute = ComputeSpec(together=together, threads=threads, channels_last=channels_last)
    recipe = Recipe(SmallCNN(), (1, 8, 8), 10, TrainingSpec(epochs=epochs), compute, seed=0)
    return Engine(recipe, dtype=dtype)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, None] / 16).astype(np.float32)
    return x, digits.target[order].astype(np.int64)


def _requests(agents: int) -> list[Training]:
    x, y = _digits()
    bounds = np.linspace(DEFENDER_ROWS, TRAIN_ROWS, agents + 1).astype(int).tolist()
    blocks = [
        Block(DEFENDER if k == 0 else f"agent-{k}", a, x[a:b], y[a:b])
        for k, (a, b) in enumerate(zip([0, *bounds], bounds, strict=False))
    ]
    pool = Pool(tuple(blocks), 10)
    return [Training(pool.without_owner(owner)) for owner in pool.owners[1:]]


def _difference(agents: int, dtype: torch.dtype) -> float:
    sides = [_engine(1, t, 1, dtype=dtype).train(_requests(agents)) for t in (True, False)]
    pairs = [
        (a.module.state_dict()[name], b.module.state_dict()[name])
        for a, b in zip(*sides, strict=True)
        for name in a.module.state_dict()
    ]
    return float(f"{max(float((a - b).abs().max()) for a, b in pairs):.1e}")


def _accuracy(models: Sequence[Trained]) -> float:
    x, y = (torch.from_numpy(v[TRAIN_ROWS:]) for v in _digits())
    device = next(models[0].module.parameters()).device
    x, y = x.to(device), y.to(device)
    return float(np.mean([float((m.module(x).argmax(1) == y).float().mean()) for m in models]))


def _memory(agents: int, together: bool, threads: int) -> float | None:
    """Return the MiB that one epoch adds at its peak, measured in a process of its own."""
    fresh = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with fresh:
        return fresh.submit(_added, agents, together, threads).result()


def _added(agents: int, together: bool, threads: int) -> float | None:
    _play(1, 1, False, threads)  # what any training loads
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        _play(agents, 1, together, threads)
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    before = _resident("VmRSS")
    _play(agents, 1, together, threads)
    peak = _resident("VmHWM")
    return None if before is None or peak is None else round(peak - before, 1)


def _resident(what: str) -> float | None:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith(what)), None)
