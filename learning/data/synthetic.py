"""Made-up images for tests and smoke scenarios: one smooth pattern for each class, plus noise."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from learning.data.base import DataSet, DataSource
from learning.data.images import guard
from learning.data.sketch import Sketch
from learning.pool import Floats, Ints
from learning.seeds import numpy_generator

WAVES = 3


class Synthetic(DataSource):
    """Class c looks like a fixed sum of three slow waves; rows go through the classes in turn.

    The data set depends on the fields alone, not on the game's seed. Pixels are k/255 like those
    of real images, which also hides last-digit differences between machines.
    """

    kind: Literal["synthetic"] = "synthetic"
    paper: ClassVar[str] = "ours"

    classes: int = Field(
        4, ge=2, le=1000, description="Number of classes.", json_schema_extra={"origin": "ours"}
    )
    channels: int = Field(
        1, ge=1, le=16, description="Colour channels.", json_schema_extra={"origin": "ours"}
    )
    height: int = Field(
        8, ge=1, le=1024, description="Pixels.", json_schema_extra={"origin": "ours"}
    )
    width: int = Field(
        8, ge=1, le=1024, description="Pixels.", json_schema_extra={"origin": "ours"}
    )
    train_per_class: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Training rows of each class.",
        json_schema_extra={"origin": "ours"},
    )
    test_per_class: int = Field(
        20,
        ge=0,
        le=1_000_000,
        description="Test rows of each class; 0 for no official test split.",
        json_schema_extra={"origin": "ours"},
    )
    noise: float = Field(
        0.1,
        ge=0,
        le=10,
        description="Standard deviation of the noise of a pixel, before clipping to [0, 1].",
        json_schema_extra={"origin": "ours"},
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        description="Draws patterns and noise.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def known_classes(self) -> int:
        """`classes`."""
        return self.classes

    @property
    def sketch(self) -> Sketch:
        """All of it: the fields say everything."""
        shape = (self.channels, self.height, self.width)
        train, test = self.classes * self.train_per_class, self.classes * self.test_per_class
        return Sketch(shape, self.classes, train, test)

    def load(self) -> DataSet:
        """Make the data set.

        Raises:
            DataError: If it takes more than `max_gib`.
        """
        shape = (self.channels, self.height, self.width)
        rows = self.classes * (self.train_per_class + self.test_per_class)
        guard(rows * math.prod(shape), self.max_gib, "the synthetic data set")
        patterns = self._patterns(shape)
        x_train, y_train = self._draw(patterns, self.train_per_class, "train")
        x_test, y_test = self._draw(patterns, self.test_per_class, "test")
        names = tuple(f"class {label}" for label in range(self.classes))
        return DataSet(x_train, y_train, x_test, y_test, names)

    def _patterns(self, shape: tuple[int, int, int]) -> Floats:
        generator = numpy_generator(self.seed, "synthetic/patterns")
        size = (self.classes, shape[0], WAVES, 1, 1)
        across = generator.uniform(-1.5, 1.5, size) * np.linspace(0, 1, self.width)
        down = generator.uniform(-1.5, 1.5, size) * np.linspace(0, 1, self.height)[:, None]
        waves = np.cos(2 * np.pi * (across + down + generator.uniform(0, 1, size)))
        pattern: Floats = (0.5 + 0.5 * waves.mean(axis=2)).astype(np.float32)
        return pattern

    def _draw(self, patterns: Floats, per_class: int, split: str) -> tuple[Floats, Ints]:
        y = np.tile(np.arange(self.classes, dtype=np.int64), per_class)
        x: Floats = patterns[y]
        generator = numpy_generator(self.seed, f"synthetic/{split}")
        x += np.float32(self.noise) * generator.standard_normal(x.shape, np.float32)
        np.clip(x, 0, 1, out=x)
        np.rint(x * np.float32(255), out=x)
        x /= np.float32(255)
        return x, y
