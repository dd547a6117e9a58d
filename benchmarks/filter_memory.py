"""Memory of each filter on rows of CIFAR's size, on the CPU.

Each filter judges the same pool in a process of its own. Trainings are played by a convolutional
network of one size that is built and never fitted (`_Untrained`): what a filter computes, and the
memory that it takes, does not depend on the weights, and a training's own memory is the same for
all filters; it is measured apart, by one epoch of the real engine on the same rows. A filter that
takes more than `BUDGET` CPU seconds is stopped, and its peak is that until then: distances between
all pairs of rows, say, are computed in chunks of one size.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Sequence
from types import FrameType

import numpy as np
import torch

from benchmarks._measure import Watch, alone, goal
from learning.method import discover
from learning.models.base import Architecture
from learning.models.small_cnn import SmallCNN
from learning.models.softmax import Softmax
from learning.pool import DEFENDER, Block, Pool
from learning.training.engine.engine import Engine, Recipe
from learning.training.job import Trained, Training
from learning.training.spec import ComputeSpec, TrainingSpec
from strategies.base import Defender, Filter, Verdict

SHAPE, CLASSES, GOAL_GIB = (3, 32, 32), 10, 8
MODEL = SmallCNN(downsample="stride")
# Where the defaults take minutes of CPU, fewer repetitions of the same step; sizes are the same.
CHEAPER: dict[str, dict[str, object]] = {
    "inverse_self_paced": {
        **{"rounds": 1, "runs": 2, "subset": 0.12, "anneal": 1, "settle": 0},
        "self_training_epochs": 10,
    },
    "iterative_trimmed_loss": {"rounds": 1},
    "sever": {"rounds": 1},
    "strip": {"images": 2},
    "trim": {"max_turns": 1},
}
VARIANTS: list[tuple[str, dict[str, object]]] = [
    ("influence", {"judge": "self"}),
    ("nearest_labels", {"space": "features"}),
]
BUDGET = 15  # CPU seconds for each


def run(quick: bool) -> dict:
    rows = 2000 if quick else 50_000
    cases = [(kind, {}) for kind in sorted(discover(Filter, "strategies.filtering"))] + VARIANTS
    found = []
    for kind, fields in cases:
        found.append(alone(_one, kind, fields, rows))
        print(found[-1], flush=True)
    found.append(alone(_training, rows))
    most = max(float(row["GiB at the peak"]) for row in found)
    return {
        "name": f"filters: memory for {rows:,} rows of 3x32x32 on the CPU",
        "rows": found,
        "note": (
            "small_cnn with strides (trim: softmax), untrained, compute.memory_gib 4; the peak is "
            "of all that is resident in a process of its own, with interpreter, torch and the pool "
            f"({rows * 12 / 2**20:.2f} GiB). Filters named with fields do fewer repetitions of the "
            f"same steps than by default. {goal(f'under {GOAL_GIB} GiB', most < GOAL_GIB)}."
        ),
    }


def _one(kind: str, fields: dict[str, object], rows: int) -> dict[str, object]:
    changed = {**CHEAPER.get(kind, {}), **fields}
    rule = discover(Filter, "strategies.filtering")[kind](**changed)
    architecture = Softmax() if getattr(rule, "linear_only", False) else MODEL
    pool, player = example(rows), _Untrained(architecture)
    defender = Defender(0, SHAPE, CLASSES, ("ada", "bob"), 1)
    start, removed = time.process_time(), None
    with Watch().over() as watch:
        signal.signal(signal.SIGPROF, _stop)
        signal.setitimer(signal.ITIMER_PROF, BUDGET)
        with contextlib.suppress(_Stopped):
            removed = len(player.play(rule, pool, defender).removed)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {
        "filter": kind,
        "fields": ", ".join(f"{name}: {value}" for name, value in changed.items()),
        "rows": rows,
        "models": player.models,
        "GiB at the peak": watch.resident / 1024,
        "CPU s": time.process_time() - start,
        "ended": "yes" if removed is not None else f"no, stopped after {BUDGET} CPU s",
    }


class _Stopped(Exception):
    pass


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def _training(rows: int) -> dict[str, object]:
    """Measure one epoch of one model by the real engine."""
    pool = example(rows)
    spec = TrainingSpec(epochs=1, batch_size=128)
    recipe = Recipe(MODEL, SHAPE, CLASSES, spec, ComputeSpec(device="cpu", threads=1), seed=0)
    start = time.process_time()
    with Watch().over() as watch:
        Engine(recipe).train([Training(pool)])
    return {
        "filter": "(a training)",
        "fields": "epochs: 1",
        "rows": rows,
        "models": 1,
        "GiB at the peak": watch.resident / 1024,
        "CPU s": time.process_time() - start,
        "ended": "yes",
    }


def example(rows: int) -> Pool:
    """Return noise under ten labels, a fifth of it the defender's, the rest two agents'."""
    draws, blocks, first = np.random.default_rng(0), [], 0
    for owner, count in ((DEFENDER, rows // 5), ("ada", rows // 2), ("bob", 0)):
        size = count or rows - first
        x = draws.random((size, *SHAPE), dtype=np.float32)
        blocks.append(Block(owner, first, x, draws.integers(0, CLASSES, size)))
        first += size
    return Pool(tuple(blocks), CLASSES)


class _Untrained:
    """Answers every training with a model of random weights, which differ between trainings."""

    def __init__(self, architecture: Architecture) -> None:
        self._architecture = architecture
        self.models = 0

    def play(self, rule: Filter, pool: Pool, defender: Defender) -> Verdict:
        """Return the filter's verdict."""
        steps = rule.inspect(pool, defender)
        try:
            asked = next(steps)
            while True:
                asked = steps.send(self._answers(asked))
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict

    def _answers(self, asked: Sequence[Training]) -> list[Trained]:
        out = []
        for job in asked:
            self.models += 1
            with torch.random.fork_rng():
                torch.manual_seed(self.models)
                module = self._architecture.build(SHAPE, CLASSES).eval().requires_grad_(False)
            assert len(job.pool.x) == len(job.pool)  # gathered, as for a training
            out.append(Trained(module, (), len(job.pool), 1, 0.0))
        return out
