"""What every data source must do, as one check for the tests of whoever writes one.

A plug-in's test is one line: ``check_data(MyData())``.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from learning.conformance import (
    another_global_seed,
    check_survives_json,
    expect,
    expected,
    nothing_changed,
    numpy_untouched,
)
from learning.data.base import DataSet, DataSource
from learning.data.sketch import Sketch
from learning.method import kind_of
from learning.pool import Floats, Ints


def check_data(source: DataSource) -> None:
    """Load a data set twice and check all that the game relies on.

    Args:
        source: With its parameters as a scenario would set them; it must be able to load.

    Raises:
        AssertionError: In one line, with the source's kind: if inputs are not float32 (n, C, H, W)
            in [0, 1], or labels not int64 from 0 to the number of classes; if a class has no
            training row, or two have one name; if a note is not one line; if what `known_classes`,
            `sketch` or `look` say before is not what comes; if it loads two data sets; if it draws
            from a global generator; or if its parameters do not survive JSON.
    """
    kind = kind_of(type(source))
    check_survives_json(source, kind)
    first = _loaded(source, kind)
    with another_global_seed():
        again = _loaded(source, kind)
    _check_names(first, kind)
    _check_split(first, first.x_train, first.y_train, f"{kind}, training rows")
    _check_split(first, first.x_test, first.y_test, f"{kind}, test rows")
    absent = sorted(set(range(first.classes)) - set(first.y_train.tolist()))
    expect(not absent, kind, "training rows of every class", f"none of {absent[:5]}")
    _check_sketch(source.sketch, first, f"{kind}, sketch")
    _check_sketch(source.look(), first, f"{kind}, look()")
    _check_sketch(Sketch(classes=source.known_classes), first, f"{kind}, known_classes")
    for part in ("x_train", "y_train", "x_test", "y_test", "class_names", "notes"):
        same = np.array_equal(getattr(first, part), getattr(again, part))
        expect(same, kind, f"the same {part} whenever it is loaded", "others")


def _loaded(source: DataSource, kind: str) -> DataSet:
    with nothing_changed({}, kind), numpy_untouched(kind), expected("a data set", kind):
        data = source.load()
    expect(isinstance(data, DataSet), kind, "a DataSet", type(data).__name__)
    return data


def _check_names(data: DataSet, kind: str) -> None:
    names = data.class_names
    expect(
        len(set(names)) == len(names) >= 2, kind, "two or more class names, each once", str(names)
    )
    for note in data.notes:
        expect("\n" not in note and bool(note.strip()), kind, "notes of one line each", repr(note))


def _check_split(data: DataSet, x: Floats, y: Ints, where: str) -> None:
    expect(x.dtype == np.float32, where, "inputs as float32", str(x.dtype))
    expect(y.dtype == np.int64, where, "labels as int64", str(y.dtype))
    wanted = f"inputs of shape {(len(y), *data.shape)}, one for each label"
    expect(y.ndim == 1 and x.shape == (len(y), *data.shape), where, wanted, str(x.shape))
    expect(bool(((x >= 0) & (x <= 1)).all()), where, "finite inputs in [0, 1]", "others")
    fits = bool(((y >= 0) & (y < data.classes)).all())
    expect(fits, where, f"labels from 0 to {data.classes - 1}", "others")


def _check_sketch(sketch: Sketch, data: DataSet, where: str) -> None:
    found = Sketch(data.shape, data.classes, len(data.y_train), len(data.y_test))
    for field in fields(Sketch):
        said, came = getattr(sketch, field.name), getattr(found, field.name)
        expect(said in (None, came), where, f"{field.name} as loaded ({came})", str(said))
