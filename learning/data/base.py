"""Data sets: what a game is played on."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from pydantic import Field

from learning.data.sketch import Sketch
from learning.method import Method
from learning.pool import Floats, Ints


class DataError(ValueError):
    """A data set cannot be read: the message names the file, what was expected and what to do."""


class NotThereError(DataError):
    """There is nothing where a data set is to be; another machine may have it."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Labelled images.

    Attributes:
        x_train: Inputs, float32 (n, C, H, W), in [0, 1].
        y_train: Labels, int64 (n,), 0..classes-1.
        x_test: Inputs of the official test split, or (0, C, H, W) where there is none.
        y_test: Its labels.
        class_names: One name for each class.
        notes: What a user would want to know of how it was read: what was left out and why, which
            split was taken, which class has which label where that surprises. One line each.
    """

    x_train: Floats
    y_train: Ints
    x_test: Floats
    y_test: Ints
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one input, (C, H, W)."""
        c, h, w = self.x_train.shape[1:]
        return int(c), int(h), int(w)


class DataSource(Method):
    """Where a data set comes from.

    Attributes:
        merge: Join the official train and test splits and draw the referee's test set from all
            rows (S0 A.2.3 uses "the whole dataset").
        test_share: Share of the rows that the referee keeps as test set where there is no
            official test split or `merge` is set.
        train_rows: Use only this many training rows, drawn by the game's seed.
        test_rows: Likewise for the test set.
        max_gib: Largest data set that is read, as float32.
    """

    merge: bool = Field(
        False, description="Join the official splits and draw the test set from all rows."
    )
    test_share: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the rows kept as test set (halves up; at least one row, and not "
        "all), without an official test split or with `merge`.",
        json_schema_extra={"origin": "paper"},
    )
    train_rows: int | None = Field(
        None, ge=1, description="Use only this many training rows, each class in proportion."
    )
    test_rows: int | None = Field(
        None, ge=1, description="Use only this many test rows, each class in proportion."
    )
    max_gib: float = Field(
        8.0,
        gt=0,
        le=4096,
        description="Refuse data sets that take more memory than this many GiB as float32.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def known_classes(self) -> int | None:
        """Number of classes, where it is known before anything is read."""
        return None

    @property
    def sketch(self) -> Sketch:
        """What is known of the data set from its fields alone."""
        return Sketch(classes=self.known_classes)

    def look(self) -> Sketch:
        """Return what little reading tells: a header, a folder's names, one image.

        Raises:
            NotThereError: If there is nothing where the files are to be.
            DataError: If they are not as expected; one line.
        """
        return self.sketch

    @abstractmethod
    def load(self) -> DataSet:
        """Read the data set as published: no merging, no sampling (`deal` does both).

        Raises:
            DataError: If it cannot be read; one line.
        """
