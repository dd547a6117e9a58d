"""Data that were made in Python: arrays, a data set of the house, or one of PyTorch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr

from learning.data.base import DataError, DataSet, DataSource
from learning.data.images import to_labels, to_unit, with_channels
from learning.data.sketch import Sketch
from learning.families.origins import dotted

_NAMES = ("x_train", "y_train", "x_test", "y_test")


class GivenData(DataSource):
    """Arrays of the user's; its fields say in the scenario which they were."""

    kind: Literal["python"] = "python"
    of: str = Field(description="What they were: arrays, or module and name of their class.")
    sha256: str = Field(description="SHA-256 of shapes, images and labels.")
    _data: DataSet = PrivateAttr()

    @classmethod
    def holding(cls, given: object) -> GivenData:
        """Return the source of data from Python.

        Args:
            given: A `DataSet`; arrays (x_train, y_train) or (x_train, y_train, x_test, y_test), or
                a mapping with these names; a PyTorch data set of (image, label), or one to train on
                and one to test on. Images are (n, H, W), (n, H, W, C) or (n, C, H, W), uint8 or
                float in [0, 1]; labels are integers from 0, each of which occurs.

        Raises:
            DataError: If they are none of these; one line.
        """
        data = given if isinstance(given, DataSet) else _data_set(_arrays(given))
        of = "arrays" if isinstance(given, Mapping | tuple | list) else dotted(type(given))
        source = cls(of=of, sha256=_digest(data))
        source._data = data
        return source

    @property
    def known_classes(self) -> int:
        """Number of classes."""
        return self._data.classes

    @property
    def sketch(self) -> Sketch:
        """Shape, classes and rows."""
        data = self._data
        return Sketch(data.shape, data.classes, len(data.y_train), len(data.y_test))

    def load(self) -> DataSet:
        """Return the data."""
        return self._data


def _arrays(given: object) -> Sequence[object]:
    """Return two or four arrays."""
    if isinstance(given, Mapping) and set(given) in ({*_NAMES[:2]}, {*_NAMES}):
        return [given[name] for name in _NAMES if name in given]
    if isinstance(given, tuple | list) and len(given) in (2, 4):
        if all(map(_is_torch_data, given)):
            return [array for part in given for array in _items(part)]
        return given
    if _is_torch_data(given):
        return _items(given)
    raise DataError(
        f"data: expected {', '.join(_NAMES)} (or the first two), a DataSet or a PyTorch data set, "
        f"got {type(given).__name__}"
    )


def _is_torch_data(given: object) -> bool:
    from torch.utils.data import Dataset

    return isinstance(given, Dataset)


def _items(given: Any) -> tuple[NDArray[Any], NDArray[Any]]:  # noqa: ANN401 - of any items
    """Return the images and labels of a PyTorch data set."""
    try:
        pairs = [given[k] for k in range(len(given))]
        images = np.stack([np.asarray(x) for x, _ in pairs])
        return images, np.array([int(y) for _, y in pairs], dtype=np.int64)
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(
            f"data: expected {type(given).__name__} to have a length and items (image, label) of "
            f"one shape, got {type(error).__name__}: {told}"
        ) from error


def _data_set(arrays: Sequence[object]) -> DataSet:
    x_train, y_train = _split(arrays[0], arrays[1], _NAMES[:2])
    x_test, y_test = x_train[:0], y_train[:0]
    if len(arrays) == 4:
        x_test, y_test = _split(arrays[2], arrays[3], _NAMES[2:])
    if x_test.shape[1:] != x_train.shape[1:]:
        raise DataError(
            f"data: expected x_test of shape {x_train.shape[1:]} like x_train, got "
            f"{x_test.shape[1:]}"
        )
    present = np.union1d(y_train, y_test)
    missing = np.flatnonzero(present != np.arange(len(present)))
    if not len(y_train) or len(missing):
        got = f"no {missing[0]}" if len(missing) else "no rows"
        raise DataError(
            f"data: expected rows of every label from 0 on, got {got}: renumber the labels, or "
            "hand over a DataSet with class_names"
        )
    return DataSet(x_train, y_train, x_test, y_test, tuple(map(str, range(len(present)))))


def _split(
    x: object, y: object, names: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = np.asarray(x), np.asarray(y)
    shaped = to_unit(with_channels(images, "auto", names[0]), names[0])
    return shaped, to_labels(labels, len(shaped), names[1])


def _digest(data: DataSet) -> str:
    whole = hashlib.sha256(repr(data.class_names).encode())
    for part in (data.x_train, data.y_train, data.x_test, data.y_test):
        whole.update(f"{part.dtype} {part.shape}\n".encode())
        whole.update(np.ascontiguousarray(part).tobytes())
    return whole.hexdigest()
