"""Scoring all agents in batched passes, against one pass for each agent.

Two ways to grow: the same rows dealt to more agents (what a pass costs), and more agents with the
same rows each (what an agent costs). Both sides answer the same rows in the same run, and their
answers must be equal.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from learning.models.small_cnn import SmallCNN
from learning.pool import DEFENDER, Block, Floats, Pool
from learning.training.job import Trained
from scenarios.schema import RefereeSpec
from server.referee.referee import Referee
from server.referee.results import AgentRecord
from server.referee.scoring.answers import Passes, ask
from server.referee.sealed import RunTimeSet, Sealed
from strategies.base import Predictor
from strategies.pipeline import Outcome

AGENTS = (1, 10, 100, 1000)
SHAPE, CLASSES = (1, 8, 8), 10


def run(quick: bool) -> dict:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    total, each = (10_000, 10) if quick else (100_000, 100)
    predictor = Predictor((_model(device),))
    _timed(lambda: ask(predictor, _deal(1, 1000), Passes(device, 2048)), device)  # warm-up
    rows = [_compare(predictor, device, "same total", n, total // n) for n in AGENTS]
    rows += [_compare(predictor, device, "same each", n, each) for n in AGENTS]
    return {
        "name": "referee: batched passes against one pass for each agent",
        "rows": rows,
        "note": (
            f"small_cnn, inputs {SHAPE}, batches of 2048, {device.type}; `score` is the whole "
            "attacked game: clean and triggered rows, test set, metrics with intervals. Memory is "
            "what a pass adds to the inputs; its answers are 2 bytes a row. Equal answers on both "
            "sides are asserted."
        ),
    }


def _model(device: torch.device) -> Trained:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = SmallCNN().build(SHAPE, CLASSES)
    return Trained(module.to(device).eval().requires_grad_(False), (), 1, 1, 0.0)


def _deal(agents: int, each: int) -> dict[str, Floats]:
    draw = np.random.default_rng(0)
    return {f"a{k}": draw.random((each, *SHAPE), dtype=np.float32) for k in range(agents)}


def _compare(
    predictor: Predictor, device: torch.device, grow: str, agents: int, each: int
) -> dict[str, object]:
    inputs, engine = _deal(agents, each), Passes(device, 2048)

    def one_by_one() -> dict[str, np.ndarray]:
        return {n: ask(predictor, {n: x}, engine).classes[n] for n, x in inputs.items()}

    together, batched, memory = _timed(lambda: ask(predictor, inputs, engine).classes, device)
    apart, single, memory_single = _timed(one_by_one, device)
    assert all((together[name] == apart[name]).all() for name in inputs)
    return {
        "grow": grow,
        "agents": agents,
        "rows": agents * each,
        "batched s": batched,
        "one by one s": single,
        "ratio": round(single / batched, 2),
        "batched MiB": memory,
        "one by one MiB": memory_single,
        "us a row": 1e6 * batched / (agents * each),
        "score s": _score(predictor, inputs, device),
    }


def _score(predictor: Predictor, inputs: dict[str, Floats], device: torch.device) -> float:
    draw = np.random.default_rng(1)
    labels = {name: draw.integers(0, CLASSES, len(x)) for name, x in inputs.items()}
    run_time = {
        name: RunTimeSet(name, x, labels[name], x, np.full(len(x), 3), 3)
        for name, x in inputs.items()
    }
    test = draw.random((1000, *SHAPE), dtype=np.float32)
    sealed = Sealed(run_time, {}, test, draw.integers(0, CLASSES, 1000))
    roster = [
        AgentRecord(
            name=name, group="mallory", behaviour="backdoor", malicious=True, rows=1,
            poisoned_rows=0, target=3, source=None, admitted=True,
        )
        for name in inputs
    ]  # fmt: skip
    spec = RefereeSpec(alone=0, attacker_free=False)
    outcome = Outcome(predictor, (), _empty_pool())
    referee = Referee(sealed, roster, spec, 0, device)
    return _timed(lambda: referee.score((), {"attacked": outcome}), device)[1]


def _empty_pool() -> Pool:
    block = Block(DEFENDER, 0, np.zeros((1, *SHAPE), np.float32), np.zeros(1, np.int64))
    return Pool((block,), CLASSES)


def _timed(work: Callable[[], object], device: torch.device):
    """Return what the work gave, the best of three times, and the memory it adds (MiB)."""
    before = _reset_peak(device)
    result = work()
    memory = _peak(device) - before
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return result, min(times), round(memory / 2**20, 1)


def _reset_peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    peaks = Path("/proc/self/clear_refs")
    if peaks.exists():
        peaks.write_text("5")  # Linux: start the high-water mark anew
    return _peak(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if status.exists():
        lines = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        if lines:
            return int(lines[0].split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
