"""Handwritten digits of scikit-learn: 1,797 real images of 8 x 8 pixels, installed with it.

E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998. https://doi.org/10.24432/C50P49
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from learning.data.base import DataSet, DataSource
from learning.data.sketch import Sketch

LEVELS = np.float32(16)  # a pixel counts the dark points of a 4 x 4 block, 0..16


class Digits(DataSource):
    """scikit-learn's `load_digits`: shape (1, 8, 8), ten classes, no official test split."""

    kind: Literal["digits"] = "digits"
    paper: ClassVar[str] = "Alpaydin & Kaynak 1998, UCI, doi 10.24432/C50P49"

    @property
    def known_classes(self) -> int:
        """Ten digits."""
        return 10

    @property
    def sketch(self) -> Sketch:
        """1,797 rows of 8 x 8 pixels."""
        return Sketch((1, 8, 8), 10, 1797, 0)

    def load(self) -> DataSet:
        """Read the data set; pixels are k/16 for k in 0..16."""
        from sklearn.datasets import load_digits  # takes a second: not for every command

        x, y = load_digits(return_X_y=True)
        return DataSet(
            x_train=(x.astype(np.float32) / LEVELS).reshape(-1, 1, 8, 8),
            y_train=y.astype(np.int64),
            x_test=np.zeros((0, 1, 8, 8), np.float32),
            y_test=np.zeros(0, np.int64),
            class_names=tuple("0123456789"),
        )
