"""The rows of a data set that are in play: checked, merged, sampled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from learning.data.base import DataError, DataSet, DataSource
from learning.data.partition.base import as_rows
from learning.pool import Ints
from learning.seeds import numpy_generator
from learning.shares import apportioned, count_of


def rows_in_play(source: DataSource, seed: int) -> DataSet:
    """Load a data set, draw its test set if it needs one, and sample as the source's fields say.

    Test set and samples keep each class in proportion (`in_proportion`).

    Args:
        source: The data set.
        seed: The game's seed.

    Raises:
        DataError: If it cannot be read, breaks what a `DataSet` promises, or has too few rows.
    """
    data = source.load()
    name = str(getattr(source, "kind", type(source).__name__))
    _check(data, name)
    if source.merge or not len(data.y_test):
        data = _draw_test(data, source, seed)
    for split, asked in (("train", source.train_rows), ("test", source.test_rows)):
        if asked is not None:
            data = _sample(data, split, asked, name, seed)
    return data


def planned_rows(source: DataSource, train: int, test: int) -> tuple[int, int]:
    """Return how many training and test rows will be in play, before anything is read.

    Args:
        source: The data set, with its fields for merging and sampling.
        train: Rows of its training split.
        test: Rows of its official test split; 0 where there is none.
    """
    if source.merge or not test:
        total = train + test
        test = _test_rows(source, total)
        train = total - test
    return min(source.train_rows or train, train), min(source.test_rows or test, test)


def _test_rows(source: DataSource, rows: int) -> int:
    return min(max(count_of(source.test_share, rows), 1), rows - 1)


def _draw_test(data: DataSet, source: DataSource, seed: int) -> DataSet:
    x, y = data.x_train, data.y_train
    if len(data.y_test):
        x, y = np.concatenate([x, data.x_test]), np.concatenate([y, data.y_test])
    if len(y) < 2:
        raise DataError(f"expected at least 2 rows to draw a test set from, got {len(y)}")
    count = _test_rows(source, len(y))
    test = in_proportion(y, count, numpy_generator(seed, "deal/test"))
    train = np.setdiff1d(np.arange(len(y), dtype=np.int64), test, assume_unique=True)
    return replace(data, x_train=x[train], y_train=y[train], x_test=x[test], y_test=y[test])


def _sample(data: DataSet, split: str, asked: int, name: str, seed: int) -> DataSet:
    x, y = getattr(data, f"x_{split}"), getattr(data, f"y_{split}")
    if asked > len(y):
        raise DataError(f"expected {split}_rows of at most {len(y)} for {name!r}, got {asked}")
    rows = in_proportion(y, asked, numpy_generator(seed, f"deal/{split}_rows"))
    return replace(data, **{f"x_{split}": x[rows], f"y_{split}": y[rows]})


def in_proportion(y: Ints, rows: int, generator: np.random.Generator) -> Ints:
    """Draw rows so that each class keeps its share (largest remainder, ties to the lower label).

    Args:
        y: Labels, int64 (n,).
        rows: How many to draw, 0..n.
        generator: Source of the draws.

    Returns:
        Positions, ascending, int64 (rows,).
    """
    quota = apportioned(rows, np.bincount(y))
    drawn = [
        generator.permutation(np.flatnonzero(y == label))[:count]
        for label, count in enumerate(quota.tolist())
    ]
    return as_rows(np.concatenate(drawn))


def _check(data: DataSet, name: str) -> None:
    """Check what every source promises; plug-in sources are no exception."""
    if not len(data.y_train):
        raise DataError(f"expected training rows, got none from {name!r}")
    if data.classes < 2:
        raise DataError(f"expected at least 2 classes, got {data.classes} from {name!r}")
    for split, x, y in (
        ("train", data.x_train, data.y_train),
        ("test", data.x_test, data.y_test),
    ):
        where = f"{name!r} x_{split}"
        shape = data.x_train.shape[1:]
        if x.dtype != np.float32 or len(shape) != 3 or 0 in shape or x.shape[1:] != shape:
            raise DataError(f"expected {where} float32 (n, C, H, W), got {x.dtype} {x.shape}")
        if len(x) and not (x.min() >= 0 and x.max() <= 1):
            raise DataError(f"expected {where} in [0, 1], got {x.min()} to {x.max()}")
        if y.dtype != np.int64 or y.shape != x.shape[:1]:
            raise DataError(
                f"expected {name!r} y_{split} int64 {x.shape[:1]}, got {y.dtype} {y.shape}"
            )
        if len(y) and not (y.min() >= 0 and y.max() < data.classes):
            raise DataError(
                f"expected {name!r} y_{split} in 0..{data.classes - 1}, got {y.min()} to {y.max()}"
            )
