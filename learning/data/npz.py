"""Data sets in one .npz file, named as Keras or MedMNIST do.

Keras: x_train, y_train, x_test, y_test. MedMNIST (Yang et al. 2023): train_images, train_labels,
test_images, test_labels; its val_images are not read, and that is told. An array of text
`class_names` gives the classes their names.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
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

# Names of the four arrays, and of what is read beside them or told to be left out.
KERAS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")
VALIDATION = ("val_images", "val_labels")
NAMES = "class_names"
LONGEST_NAME = 200  # letters


class Npz(DataSource):
    """Images uint8 (divided by 255) or float in [0, 1]; labels integers from 0.

    The arrays are x_train, y_train, x_test and y_test, or train_images, train_labels, test_images
    and test_labels; those of the test set may be missing together. `class_names`, text (classes,),
    may stand beside them. Nothing is unpickled.
    """

    kind: Literal["npz"] = "npz"
    paper: ClassVar[str] = "file layouts of keras.datasets and of MedMNIST (Yang et al. 2023)"
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
        train, test_names = _splits(headers)
        images = headers[train[0]].shape
        # A view of a single byte: the shape is all that counts.
        blank = np.broadcast_to(np.zeros((), np.uint8), images)
        channels, height, width = with_channels(blank, self.layout, f"{train[0]} of {file}").shape[
            1:
        ]
        test = headers[test_names[0]].shape[0] if test_names[0] in headers else 0
        return Sketch((channels, height, width), self.classes, images[0], test)

    def load(self) -> DataSet:
        """Read the file.

        Raises:
            DataError: If the file or one of its arrays is not as expected.
        """
        file = resolved(self.path)
        with opened(file) as archive:
            headers = self._headers(archive, f"{file}")
            train, test = _splits(headers)
            x_train, y_train = self._split(archive, headers, train, f"{file}")
            if test[0] in headers:
                x_test, y_test = self._split(archive, headers, test, f"{file}")
            else:
                x_test, y_test = x_train[:0], y_train[:0]
            notes = _unread(archive)
            told = _class_names(archive, f"{file}")
        if x_test.shape[1:] != x_train.shape[1:]:
            raise DataError(
                f"expected {test[0]} of shape {x_train.shape[1:]} like {train[0]}, got "
                f"{x_test.shape[1:]} in {file}"
            )
        classes = self._classes(y_train, y_test, f"{file}", train, test, len(told))
        if told and len(told) != classes:
            raise DataError(
                f"expected {classes} names in {NAMES}, one for each class, got {len(told)} in "
                f"{file}"
            )
        names = told or tuple(map(str, range(classes)))
        return DataSet(x_train, y_train, x_test, y_test, names, notes)

    def _headers(self, archive: Archive, file: str) -> dict[str, Header]:
        layouts = [[n for n in names if n in archive.names] for names in (KERAS, MEDMNIST)]
        there, names = max(zip(layouts, (KERAS, MEDMNIST), strict=True), key=lambda f: len(f[0]))
        if not set(names[:2]) <= set(there) or len(there) == 3:
            raise DataError(
                f"expected arrays {names[0]} and {names[1]}, and {names[2]} with {names[3]} or "
                "neither, got "
                f"{', '.join(map(ascii, archive.names[:8])) or 'none'} in {file}"
            )
        headers = {name: archive.header(name) for name in there}
        size = sum(header.nbytes for header in headers.values()) / GIB
        if size > self.max_gib:
            raise DataError(
                f"expected at most max_gib = {self.max_gib:g} GiB, got {size:.3g} GiB in {file}"
            )
        pixels = sum(math.prod(headers[name].shape) for name in there if name in names[::2])
        guard(pixels, self.max_gib, file)
        return headers

    def _split(
        self, archive: Archive, headers: dict[str, Header], names: tuple[str, str], file: str
    ) -> tuple[Floats, Ints]:
        images, labels = (headers[name] for name in names)
        where = f"{images.name} of {file}"
        x = to_unit(with_channels(archive.values(images), self.layout, where), where)
        return x, to_labels(archive.values(labels), len(x), f"{labels.name} of {file}")

    def _classes(
        self,
        y_train: Ints,
        y_test: Ints,
        file: str,
        train: tuple[str, str],
        test: tuple[str, str],
        named: int,
    ) -> int:
        if not len(y_train):
            raise DataError(f"expected training rows, got an empty {train[0]} in {file}")
        classes = self.classes or named or None
        for name, y in ((train[1], y_train), (test[1], y_test)):
            if classes is not None and len(y) and y.max() >= classes:
                row = int(y.argmax())
                raise DataError(
                    f"expected labels in 0..{classes - 1}, got {y[row]} in row {row} of "
                    f"{name} of {file}"
                )
        if classes is not None:
            return classes
        present = np.union1d(y_train, y_test)
        missing = np.flatnonzero(present != np.arange(len(present)))
        if len(missing):
            raise DataError(
                f"expected every label from 0 to {present[-1]}, got no {missing[0]} in {file}: "
                "renumber the labels, or set classes"
            )
        return len(present)


def _splits(headers: Mapping[str, Header]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the names of images and labels, of the training and of the test set."""
    names = KERAS if KERAS[0] in headers else MEDMNIST
    return (names[0], names[1]), (names[2], names[3])


def _unread(archive: Archive) -> tuple[str, ...]:
    """Say which rows of the file are not read."""
    if VALIDATION[0] not in archive.names:
        return ()
    rows = archive.header(VALIDATION[0]).shape[0]
    return (f"{VALIDATION[0]} of the data set was not read: {rows} rows for validation",)


def _class_names(archive: Archive, file: str) -> tuple[str, ...]:
    """Return the names of the classes; none where the file gives none."""
    if NAMES not in archive.names:
        return ()
    header = archive.header(NAMES, letters=LONGEST_NAME)
    values = archive.values(header).flatten()
    letters = int(values.view(np.uint32).max(initial=0)) <= sys.maxunicode
    listed = [str(name) for name in values] if letters else [""]
    if len(header.shape) != 1 or not all(name and name.isprintable() for name in listed):
        raise DataError(f"expected {NAMES} as printable text (classes,), got another in {file}")
    return tuple(listed)
