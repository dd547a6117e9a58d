"""What every filter must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_filter(MyFilter())``. What the filter is to find is for its
own tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from learning.conformance import (
    another_global_seed,
    check_survives_json,
    expect,
    expected,
    nothing_changed,
    numpy_untouched,
)
from learning.method import kind_of
from learning.models.parts.modules import Classifier
from learning.pool import DEFENDER, Block, Ints, Pool
from learning.seeds import numpy_generator, torch_generator
from learning.training.job import Trained, Training, TrainingRequests
from strategies.base import Defender, Filter, Verdict

SHAPE, CLASSES, WIDTH = (1, 4, 4), 3, 24
ROWS = {DEFENDER: 40, "ada": 12, "bob": 12, "cyd": 12, "dan": 12}
MOST_STAGES = 10_000  # in which a filter may ask for trainings
ALIKE = 0.5  # least rank correlation of scores of the same rows, where draws follow positions

# For each block: for each row, the position that it had in the block of another pool.
_Orders = tuple[Ints, ...]


def check_filter(
    rule: Filter,
    *,
    equivariant: bool = True,
    needs_defender: bool = False,
    linear: bool = False,
    tolerance: float = 1e-3,
) -> None:
    """Play a filter on small made-up pools and check all that the game relies on.

    The pools hold rows of three classes, some under a wrong label, from the defender and four
    agents, with ids that do not start at 0 and have gaps: as they are; with their rows in other
    orders under other ids; after another filter; without one class; with a class of one row;
    without the defender; with all rows alike; of six rows, and of two. Models come from
    `ExactLearner`, which no order of rows changes; and once from trainings that diverged, whose
    models answer NaN.

    Args:
        rule: With its parameters as a scenario would set them.
        equivariant: Whether the same rows in another order lead to the same verdict. A filter
            whose draws follow ids may say no: then the scores of the same rows must have a rank
            correlation of 0.5 at least, which an answer by positions has not.
        needs_defender: Whether it may refuse a pool without rows of the defender's, with a
            ValueError of one line.
        linear: Whether it works with linear models only; it is given such.
        tolerance: Of scores, in units of their largest magnitude.

    Raises:
        AssertionError: In one line, with the filter's kind and the pool: if what it removes or
            scores are not ids of rows of the pool, each once; if scores are not finite or not
            aligned with their ids; if a note is not one line; if it asks for anything but
            trainings on rows of the pool; if it changes the pool, its arrays or a global
            generator; if it gives two answers to one question, also under another global seed;
            if its verdict does not follow the rows; if it removes a row by what a model of NaN
            answers, or does not say that it could not judge; if it fails; or if its parameters
            do not survive JSON.
    """
    kind = kind_of(type(rule))
    check_survives_json(rule, kind)
    for name, pool in _pools():
        own = set(pool.block(DEFENDER).ids.tolist()) if DEFENDER in pool.owners else set()
        refusable = needs_defender and own <= set(pool.removed)
        _check_pool(_FilterCase(rule, f"{kind}, {name}", linear, refusable), pool)
    _check_diverged(_FilterCase(rule, f"{kind}, all trainings diverged", linear))
    for seed in range(3):
        where = f"{kind}, the rows in another order ({seed + 1})"
        _check_order(_FilterCase(rule, where, linear), seed, equivariant, tolerance)


class ExactLearner:
    """Trains a model in closed form, the same for every order of the rows.

    Ridge regression on random features, as a `Classifier`: a model continues another one
    (`Training.start`) by adding its rows to those that it has seen. Hooks, steps, rates and
    steering have no meaning for it; another `purpose` gives other features, as another order of
    batches would give another model.

    Args:
        shape: Input shape (C, H, W).
        classes: Number of classes.
        width: Number of features; 0 for a linear model on the pixels.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, width: int = WIDTH) -> None:
        self._shape, self._classes, self._width = shape, classes, width

    def train(self, job: Training) -> Trained:
        """Return the model of a training.

        Raises:
            ValueError: If the pool is empty.
        """
        if not len(job.pool):
            raise ValueError("expected rows to train on, got an empty pool")
        before = job.start.module if job.start is not None else None
        module = before.copy() if isinstance(before, _Ridge) else self._fresh(job.purpose)
        module.learn(torch.from_numpy(job.pool.x), torch.from_numpy(job.pool.y))
        epochs = job.epochs or 1
        curve = ({"train_loss": 0.0, "train_accuracy": 1.0, "learning_rate": 0.0},) * epochs
        return Trained(module, curve, len(job.pool), epochs, 0.0)

    def _fresh(self, purpose: str) -> _Ridge:
        generator = torch_generator(7, f"conformance/{purpose}")
        pixels = int(np.prod(self._shape))
        weights = torch.randn(self._width, pixels, generator=generator)
        return _Ridge(weights, self._classes)


class _Ridge(Classifier):
    def __init__(self, weights: Tensor, classes: int) -> None:
        width, pixels = weights.shape
        body: list[nn.Module] = [nn.Flatten()]
        if width:
            body += [_layer(weights), nn.ReLU()]
        else:
            width = pixels
        super().__init__(nn.Sequential(*body), _layer(torch.zeros(classes, width)))
        self._random = weights
        self.gram = torch.eye(width, dtype=torch.float64) * 1e-3
        self.moment = torch.zeros(width, classes, dtype=torch.float64)
        self.eval().requires_grad_(False)

    def learn(self, x: Tensor, y: Tensor) -> None:
        z = self.features(x).double()
        self.gram = self.gram + z.T @ z
        targets = nn.functional.one_hot(y, self.moment.shape[1]).double()
        self.moment = self.moment + z.T @ targets
        self.head.weight.data.copy_(torch.linalg.solve(self.gram, self.moment).T)

    def copy(self) -> _Ridge:
        other = _Ridge(self._random, self.moment.shape[1])
        other.gram, other.moment = self.gram, self.moment
        return other


def _layer(weights: Tensor) -> nn.Linear:
    """Return a layer with these weights; nn.Linear's own start draws from a global generator."""
    outputs, inputs = weights.shape
    layer = nn.Linear(inputs, outputs, bias=False, device="meta").to_empty(device="cpu")
    layer.weight.data.copy_(weights)
    return layer


@dataclass(frozen=True, eq=False)
class _FilterCase:
    """A filter, where it is looked at, the models it is given and whether it may refuse."""

    rule: Filter
    where: str
    linear: bool
    refusable: bool = False


@dataclass(frozen=True, eq=False)
class _FilterPlay:
    """What came of a filter: its verdict, or what it refused with."""

    verdict: Verdict | None
    refused: str | None = None


def made_pool(seed: int = 0, rows: dict[str, int] | None = None, classes: int = CLASSES) -> Pool:
    """Return rows of made-up classes, told apart by bright pixels, a tenth under a wrong label.

    Args:
        seed: Another one gives other rows.
        rows: Rows of each contributor; by default 40 of the defender's and 12 of four agents each.
        classes: Number of classes that have rows, 1 to 3; the pool has 3 in any case.
    """
    draws = numpy_generator(seed, "conformance/pool")
    blocks, first = [], 5
    for owner, count in (rows or ROWS).items():
        y = draws.integers(0, classes, count)
        x = draws.random((count, *SHAPE), dtype=np.float32) * np.float32(0.4)
        x[np.arange(count), 0, y, y] += np.float32(0.5)
        wrong = (draws.random(count) < 0.1) & (owner != DEFENDER)
        y = np.where(wrong, (y + 1) % classes, y).astype(np.int64)
        for array in (x, y):
            array.flags.writeable = False
        blocks.append(Block(owner, first, x, y))
        first += count + 3
    return Pool(tuple(blocks), CLASSES)


def _pools() -> Iterator[tuple[str, Pool]]:
    pool = made_pool()
    yield "a pool", pool
    yield "after another filter", pool.without_rows(pool.ids[::4].tolist())
    yield "a class without rows", made_pool(classes=2)
    lonely = pool.ids[pool.y == 0][1:]
    yield "a class of one row", pool.without_rows(lonely.tolist())
    yield "no rows of the defender's", pool.without_owner(DEFENDER)
    gone = pool.block(DEFENDER).ids
    yield "all rows of the defender's removed", pool.without_rows(gone.tolist())
    yield "all rows alike", _alike(pool)
    yield "six rows", made_pool(rows={DEFENDER: 4, "ada": 2})
    yield "two rows", made_pool(rows={DEFENDER: 1, "ada": 1})


def _alike(pool: Pool) -> Pool:
    blocks = [
        Block(b.owner, b.first_id, np.full_like(b.x, 0.25), np.zeros_like(b.y)) for b in pool.blocks
    ]
    return Pool(tuple(blocks), pool.classes)


def _defender(pool: Pool) -> Defender:
    agents = tuple(owner for owner in pool.owners if owner != DEFENDER)
    return Defender(seed=11, shape=SHAPE, classes=pool.classes, agents=agents, epochs=4)


def _check_pool(case: _FilterCase, pool: Pool) -> None:
    one = _played(case, pool)
    with another_global_seed():
        other = _played(case, pool)
    same = one.refused == other.refused
    if one.verdict is not None and other.verdict is not None:
        same = _same(one.verdict, other.verdict)
    wanted = "the same verdict whenever it is given the same pool"
    expect(same, case.where, wanted, "two verdicts")


def _same(one: Verdict, other: Verdict) -> bool:
    same = np.array_equal(one.removed, other.removed) and one.notes == other.notes
    same = same and np.array_equal(one.scored_ids, other.scored_ids)
    return same and np.array_equal(one.scores, other.scores)


def _played(case: _FilterCase, pool: Pool) -> _FilterPlay:
    """Play a filter to its end, everything checked that is true of every verdict."""
    before, refused, where = _digest(pool), None, case.where
    verdict: Verdict | None = None
    with nothing_changed({}, where), numpy_untouched(where), expected("a verdict", where):
        try:
            steps = case.rule.inspect(pool, _defender(pool))
            learner = ExactLearner(SHAPE, pool.classes, 0 if case.linear else WIDTH)
            verdict = _run(steps, pool, where, learner)
            _check_verdict(verdict, pool, where)
        except ValueError as error:
            if not case.refusable:
                raise
            refused = str(error)
            expect(len(refused.splitlines()) == 1, where, "a reason of one line", refused)
    expect(_digest(pool) == before, where, "the pool left as it is", "it changed")
    return _FilterPlay(verdict, refused)


def _check_diverged(case: _FilterCase) -> None:
    """Play a filter whose models answer NaN; one that asks for no model has nothing to fear."""
    pool, learner = made_pool(), _Diverging(SHAPE, CLASSES, 0 if case.linear else WIDTH)
    with expected("a verdict", case.where):
        verdict = _run(case.rule.inspect(pool, _defender(pool)), pool, case.where, learner)
    _check_verdict(verdict, pool, case.where)
    if learner.asked:
        gone = f"{len(verdict.removed)} rows removed"
        expect(not len(verdict.removed), case.where, "that no row is removed", gone)
        expect(bool(verdict.notes), case.where, "a note that it could not judge", "none")


class _Diverging(ExactLearner):
    """Its models' weights are NaN."""

    asked = 0

    def train(self, job: Training) -> Trained:
        """Return a model that answers NaN."""
        self.asked += 1
        trained = super().train(job)
        for weights in trained.module.parameters():
            weights.fill_(torch.nan)
        return trained


def _run(
    steps: TrainingRequests[Verdict], pool: Pool, where: str, learner: ExactLearner
) -> Verdict:
    ids = set(pool.ids.tolist())
    try:
        asked = next(steps)
        for _ in range(MOST_STAGES):
            fits = isinstance(asked, list) and all(isinstance(job, Training) for job in asked)
            expect(fits, where, "it to yield lists of Training", type(asked).__name__)
            strange = [i for job in asked for i in job.pool.ids.tolist() if i not in ids]
            expect(not strange, where, "trainings on rows of the pool", f"ids {strange[:5]}")
            asked = steps.send([learner.train(job) for job in asked])
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    raise AssertionError(f"{where}: expected an end, got more than {MOST_STAGES} trainings")


def _check_verdict(verdict: Verdict, pool: Pool, where: str) -> None:
    expect(isinstance(verdict, Verdict), where, "a Verdict", type(verdict).__name__)
    ids = set(pool.ids.tolist())
    for name, some in (("removed", verdict.removed), ("scored_ids", verdict.scored_ids)):
        fits = isinstance(some, np.ndarray) and some.dtype == np.int64 and some.ndim == 1
        got = f"{getattr(some, 'dtype', type(some).__name__)} {getattr(some, 'shape', '')}"
        expect(fits, where, f"{name} as int64 (k,)", got)
        strange = sorted(set(some.tolist()) - ids)
        expect(not strange, where, f"{name} of ids of the pool's rows", f"{strange[:5]}")
        expect(len(set(some.tolist())) == len(some), where, f"each of {name} once", "repetitions")
    scores = verdict.scores
    fits = isinstance(scores, np.ndarray) and scores.dtype == np.float32
    fits = fits and scores.shape == verdict.scored_ids.shape
    got = f"{getattr(scores, 'dtype', type(scores).__name__)} {getattr(scores, 'shape', '')}"
    expect(fits, where, f"scores as float32 ({len(verdict.scored_ids)},)", got)
    expect(bool(np.isfinite(scores).all()), where, "finite scores", "inf or nan")
    lines = all(isinstance(note, str) and len(note.splitlines()) == 1 for note in verdict.notes)
    fits = isinstance(verdict.notes, tuple) and lines
    expect(fits, where, "notes as a tuple of lines", repr(verdict.notes))


def _check_order(case: _FilterCase, seed: int, equivariant: bool, tolerance: float) -> None:
    pool, where = made_pool(seed), case.where
    moved, renamed = shuffled(pool, seed)
    one, other = (_played(case, each).verdict for each in (pool, moved))
    if one is None or other is None:
        return
    scored = set(map(renamed.get, one.scored_ids.tolist())) == set(other.scored_ids.tolist())
    expect(scored or not equivariant, where, "the same rows to be scored", "other ones")
    after = dict(zip(other.scored_ids.tolist(), other.scores.tolist(), strict=True))
    both = [
        (score, after[renamed[i]])
        for i, score in zip(one.scored_ids.tolist(), one.scores.tolist(), strict=True)
        if renamed[i] in after
    ]
    if equivariant:
        wanted = sorted(renamed[i] for i in one.removed.tolist())
        got = sorted(other.removed.tolist())
        apart = sorted(set(wanted) ^ set(got))
        expect(wanted == got, where, "the same rows to be removed", f"others, as {apart[:5]}")
        farthest = max((abs(a - b) for a, b in both), default=0.0)
        bound = tolerance * max((abs(a) for a, _ in both), default=0.0)
        expect(farthest <= bound, where, f"the same scores within {bound:.1e}", f"{farthest:.1e}")
    elif len({a for a, _ in both}) > 1:
        correlation = _rank_correlation(*np.asarray(both).T)
        wanted_text = f"scores that follow the rows (rank correlation {ALIKE})"
        expect(correlation >= ALIKE, where, wanted_text, f"{correlation:.2f}")


def shuffled(pool: Pool, seed: int) -> tuple[Pool, dict[int, int]]:
    """Return the same rows under other ids, each block in another order; and old id -> new id."""
    draws = numpy_generator(seed, "conformance/order")
    blocks, renamed, first = [], dict[int, int](), 0
    for block in pool.blocks:
        order = draws.permutation(len(block.y))
        first += int(draws.integers(1, 1000))
        new = Block(block.owner, first, block.x[order], block.y[order])
        renamed |= dict(zip(block.ids[order].tolist(), new.ids.tolist(), strict=True))
        blocks.append(new)
        first += len(block.y)
    return Pool(tuple(blocks), pool.classes), renamed


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    from scipy.stats import spearmanr

    value = float(spearmanr(one, other).statistic)
    return value if np.isfinite(value) else 0.0


def _digest(pool: Pool) -> tuple[object, ...]:
    rows = [(b.owner, b.first_id, _bytes(b.x), _bytes(b.y)) for b in pool.blocks]
    # What a pool has gathered from its blocks is cached there, and could be written to.
    return (*rows, pool.removed, _bytes(pool.ids), _bytes(pool.x), _bytes(pool.y))


def _bytes(array: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
