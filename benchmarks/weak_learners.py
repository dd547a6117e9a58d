"""The weak learners of inverse self-paced learning: trained together, against one by one.

Both sides train the same 24 models on the same components (three partitions of a pool into eight),
each with a batch order of its own, on one thread and in a process of its own. A whole training
magnifies rounding, so weights are compared after one epoch, and what the filter makes of the models
(the votes on all rows) after all of them.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from benchmarks._measure import alone, peak
from learning.models.base import Architecture
from learning.models.mlp import MLP
from learning.models.small_cnn import SmallCNN
from learning.pool import Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from learning.training.spec import ComputeSpec, TrainingSpec
from strategies.filtering.parts.trimming import ballots

RUNS, ROUNDS, CLASSES = 3, 8, 10
ARCHITECTURES: dict[str, Architecture] = {
    "mlp": MLP(),
    "mlp, 512 wide": MLP(hidden=(512, 512)),
    "small_cnn": SmallCNN(),
}


def run(quick: bool) -> dict:
    sizes = [(1400, 8, 4)] if quick else [(1400, 8, 40), (4000, 28, 10)]
    cases = [(name, *size) for name in ("mlp", "small_cnn") for size in sizes]
    cases.append(("mlp, 512 wide", 1400, 28, 4 if quick else 10))
    return {
        "name": "inverse self-paced learning: 24 weak learners together against one by one",
        "rows": [_compare(*case) for case in cases],
        "note": (
            "Batches of 64, one thread, CPU; pixels are of one side of a grey image. Ratios above "
            "1: together is faster. MiB is what the training adds to its process at its peak. The "
            "difference of weights is the largest after one epoch; of votes, how many of all "
            "votes, on each row of the pool, the two sides do not share at the end."
        ),
    }


def _compare(model: str, rows: int, side: int, epochs: int) -> dict[str, object]:
    together, apart = (alone(_cost, model, rows, side, epochs, way) for way in (True, False))
    return {
        "model": model,
        "rows": rows,
        "pixels": side,
        "epochs": epochs,
        "together s": together[0],
        "one by one s": apart[0],
        "ratio": apart[0] / together[0],
        "together CPU s": together[1],
        "one by one CPU s": apart[1],
        "CPU ratio": apart[1] / together[1],
        "together MiB": together[2],
        "one by one MiB": apart[2],
        "difference f32": _difference(model, rows, side, torch.float32),
        "difference f64": _difference(model, rows, side, torch.float64),
        "other votes": float((together[3] != apart[3]).mean()),
    }


def _cost(
    model: str, rows: int, side: int, epochs: int, together: bool
) -> tuple[float, float, float, np.ndarray]:
    """Return wall and CPU seconds (better of two), MiB added, and the votes (24, rows)."""
    _train(model, 200, 8, 1, together)  # first calls do not count
    pool, best, best_cpu, before = example(rows, side), np.inf, np.inf, peak()
    for _ in range(2):
        clock, cpu = time.perf_counter(), time.process_time()
        models = _train(model, rows, side, epochs, together)
        best = min(best, time.perf_counter() - clock)
        best_cpu = min(best_cpu, time.process_time() - cpu)
    mib = peak() - before
    x = torch.from_numpy(pool.x)
    votes = np.stack([m.module(x).argmax(1).numpy() for m in models])
    assert ballots(votes, CLASSES).sum(1).tolist() == [RUNS * ROUNDS] * rows
    return best, best_cpu, mib, votes


def _train(
    model: str,
    rows: int,
    side: int,
    epochs: int,
    together: bool,
    dtype: torch.dtype = torch.float32,
) -> list[Trained]:
    compute = ComputeSpec(device="cpu", together=together, threads=1)
    spec = TrainingSpec(epochs=epochs)
    recipe = Recipe(ARCHITECTURES[model], (1, side, side), CLASSES, spec, compute, seed=0)
    return Engine(recipe, dtype=dtype).train(components(example(rows, side)))


def example(rows: int, side: int) -> Pool:
    """Return noisy images of ten classes, each a bright bar at a place of its own."""
    draws = np.random.default_rng(0)
    y = draws.integers(0, CLASSES, rows)
    x = draws.random((rows, 1, side, side), dtype=np.float32) * np.float32(0.7)
    at = (np.arange(CLASSES) * side * side // CLASSES)[y]
    x.reshape(rows, -1)[np.arange(rows)[:, None], at[:, None] + np.arange(side // 2)] += 0.3
    return Pool((Block("ada", 0, x, y),), CLASSES)


def components(pool: Pool) -> list[Training]:
    """Return what the filter asks for: weak learners on the parts of three partitions."""
    draws, out = np.random.default_rng(1), []
    for run in range(RUNS):
        order = draws.permutation(len(pool))
        for part in np.array_split(order, ROUNDS):
            rest = pool.ids[np.setdiff1d(order, part)].tolist()
            purpose = f"learner {run}/{len(out)}"
            out.append(Training(pool.without_rows(rest), purpose=purpose))
    return out


def _difference(model: str, rows: int, side: int, dtype: torch.dtype) -> float:
    sides = [_train(model, rows, side, 1, together, dtype) for together in (True, False)]
    return max(
        float((one - other).abs().max())
        for a, b in zip(*sides, strict=True)
        for one, other in zip(a.module.parameters(), b.module.parameters(), strict=True)
    )
