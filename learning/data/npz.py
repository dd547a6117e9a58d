"""Data sets in one .npz file, laid out as Keras does: x_train, y_train, x_test, y_test."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.base import DataError, DataSet, DataSource
from learning.data.images import (
    GIB,
    Layout,
    guard,
    resolved,
    there,
    to_labels,
    to_unit,
    with_channels,
)
from learning.data.npy import Archive, Header, opened
from learning.data.sketch import Sketch
from learning.pool import Floats, Ints

TRAIN, TEST = ("x_train", "y_train"), ("x_test", "y_test")


class Npz(DataSource):
    """Images uint8 (divided by 255) or float in [0, 1]; labels integers from 0.

    `x_test` and `y_test` may be missing together. Nothing is unpickled.
    """

    kind: Literal["npz"] = "npz"
    paper: ClassVar[str] = "file layout of keras.datasets"
    examples: ClassVar = ()  # its files are its owner's

    path: str = Field(
        min_length=1,
        description="The file; ~ is the home, relative paths start at the working directory.",
    )
    layout: Layout = Field(
        "auto", description="Order of the dimensions of x: rows, height, width, channels."
    )
    classes: int | None = Field(
        None,
        ge=2,
        le=100_000,
        description="Number of classes; unset: the largest label + 1, and every label must occur.",
    )

    def look(self) -> Sketch:
        """Read the headers; see `DataSource.look`."""
        file = there(self.path)
        with opened(file) as archive:
            headers = self._headers(archive, f"{file}")
        images = headers[TRAIN[0]].shape
        # A view of a single byte: the shape is all that counts.
        blank = np.broadcast_to(np.zeros((), np.uint8), images)
        channels, height, width = with_channels(blank, self.layout, f"x_train of {file}").shape[1:]
        test = headers[TEST[0]].shape[0] if TEST[0] in headers else 0
        return Sketch((channels, height, width), self.classes, images[0], test)

    def load(self) -> DataSet:
        """Read the file.

        Raises:
            DataError: If the file or one of its arrays is not as expected.
        """
        file = resolved(self.path)
        with opened(file) as archive:
            headers = self._headers(archive, f"{file}")
            x_train, y_train = self._split(archive, headers, TRAIN, f"{file}")
            if TEST[0] in headers:
                x_test, y_test = self._split(archive, headers, TEST, f"{file}")
            else:
                x_test, y_test = x_train[:0], y_train[:0]
        if x_test.shape[1:] != x_train.shape[1:]:
            raise DataError(
                f"expected x_test of shape {x_train.shape[1:]} like x_train, got "
                f"{x_test.shape[1:]} in {file}"
            )
        names = tuple(map(str, range(self._classes(y_train, y_test, f"{file}"))))
        return DataSet(x_train, y_train, x_test, y_test, names)

    def _headers(self, archive: Archive, file: str) -> dict[str, Header]:
        there = [name for name in (*TRAIN, *TEST) if name in archive.names]
        if not set(TRAIN) <= set(there) or len(there) == 3:
            raise DataError(
                "expected arrays x_train and y_train, and x_test with y_test or neither, got "
                f"{', '.join(map(ascii, archive.names[:8])) or 'none'} in {file}"
            )
        headers = {name: archive.header(name) for name in there}
        size = sum(header.nbytes for header in headers.values()) / GIB
        if size > self.max_gib:
            raise DataError(
                f"expected at most max_gib = {self.max_gib:g} GiB, got {size:.3g} GiB in {file}"
            )
        pixels = sum(math.prod(headers[name].shape) for name in there if name.startswith("x"))
        guard(pixels, self.max_gib, file)
        return headers

    def _split(
        self, archive: Archive, headers: dict[str, Header], names: tuple[str, str], file: str
    ) -> tuple[Floats, Ints]:
        images, labels = (headers[name] for name in names)
        where = f"{images.name} of {file}"
        x = to_unit(with_channels(archive.values(images), self.layout, where), where)
        return x, to_labels(archive.values(labels), len(x), f"{labels.name} of {file}")

    def _classes(self, y_train: Ints, y_test: Ints, file: str) -> int:
        if not len(y_train):
            raise DataError(f"expected training rows, got an empty x_train in {file}")
        for name, y in (("y_train", y_train), ("y_test", y_test)):
            if self.classes is not None and len(y) and y.max() >= self.classes:
                row = int(y.argmax())
                raise DataError(
                    f"expected labels in 0..{self.classes - 1}, got {y[row]} in row {row} of "
                    f"{name} of {file}"
                )
        if self.classes is not None:
            return self.classes
        present = np.union1d(y_train, y_test)
        missing = np.flatnonzero(present != np.arange(len(present)))
        if len(missing):
            raise DataError(
                f"expected every label from 0 to {present[-1]}, got no {missing[0]} in {file}: "
                "renumber the labels, or set classes"
            )
        return len(present)
