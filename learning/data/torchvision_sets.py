"""The standard image sets that torchvision knows how to fetch and check.

MNIST: Y. LeCun et al. 1998. Fashion-MNIST: H. Xiao et al. 2017. CIFAR-10/100: A. Krizhevsky 2009.
SVHN: Y. Netzer et al. 2011. STL-10: A. Coates et al. 2011. S0 A.2.3 plays on MNIST, SVHN,
CIFAR-10 and STL-10.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learning.data.base import DataError, DataSet, DataSource
from learning.data.images import Layout, guard, resized, resolved, there, to_labels, with_channels
from learning.data.sketch import Sketch
from learning.pool import Ints

DIGITS = tuple("0123456789")
EXTRA = 531_131  # rows of SVHN's split `extra`
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


class _TorchvisionSet(DataSource):
    """A set of `torchvision.datasets`; grey images keep their one channel.

    torchvision itself unpickles CIFAR's files, after it has checked their published MD5 sums.
    """

    examples: ClassVar = ()  # its files are its owner's
    published: ClassVar[str]
    layout: ClassVar[Layout]
    names: ClassVar[tuple[str, ...] | None] = None
    class_count: ClassVar[int] = 10
    image: ClassVar[tuple[int, int, int]]
    rows: ClassVar[tuple[int, int]]  # of the splits train and test
    flagged: ClassVar[bool] = True  # takes train=True or False rather than split="..."

    root: str = Field(
        min_length=1,
        examples=["data"],
        description="Folder of torchvision's files; with `download: true` they are fetched into "
        "it, as in root: data, download: true. ~ is the home, relative paths start at the working "
        "directory.",
    )
    download: bool = Field(False, description="Fetch the files if they are not there.")
    size: int | None = Field(
        None, ge=1, le=4096, description="Resize to squares of this many pixels (bilinear)."
    )

    @property
    def known_classes(self) -> int:
        """As published."""
        return self.class_count

    @property
    def sketch(self) -> Sketch:
        """As published, in the size that is asked for."""
        channels, height, width = self.image
        shape = (channels, height, width) if self.size is None else (channels, self.size, self.size)
        return Sketch(shape, self.class_count, self._train_rows(), self.rows[1])

    def look(self) -> Sketch:
        """Look for the folder, unless the files are to be fetched; see `DataSource.look`."""
        if not self.download:
            there(self.root)
        return self.sketch

    def _train_rows(self) -> int:
        return self.rows[0]

    def load(self) -> DataSet:
        """Read the files.

        Raises:
            DataError: If they are missing, damaged or too large.
        """
        x_train, y_train, names = self._joined(*self._train_splits())
        x_test, y_test, _ = self._joined("test")
        side = x_train.shape[2] * x_train.shape[3] if self.size is None else self.size**2
        pixels = (len(x_train) + len(x_test)) * x_train.shape[1] * side
        guard(pixels, self.max_gib, self.published)
        return DataSet(
            resized(x_train, self.size, self.published),
            y_train,
            resized(x_test, self.size, self.published),
            y_test,
            names,
        )

    def _train_splits(self) -> tuple[str, ...]:
        return ("train",)

    def _joined(self, *splits: str) -> tuple[NDArray[Any], Ints, tuple[str, ...]]:
        parts = [self._read(split) for split in splits]
        if len(parts) == 1:
            return parts[0]
        x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        return x, y, parts[0][2]

    def _read(self, split: str) -> tuple[NDArray[Any], Ints, tuple[str, ...]]:
        from torchvision import datasets  # takes a second: not for every command

        root = resolved(self.root)
        old = root / self.published / "processed"
        if (old / "training.pt").exists():
            raise DataError(f"expected no old-format files, got {old}: they are pickles, remove it")
        which = {"train": split == "train"} if self.flagged else {"split": split}
        try:
            found = getattr(datasets, self.published)(str(root), download=self.download, **which)
        except Exception as error:  # damaged files can fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"expected the files of {self.published} in {root}, got: {reason} (see the "
                "fields root and download)"
            ) from error
        where = f"{self.published} ({split})"
        x = with_channels(np.asarray(found.data), self.layout, where)
        y = to_labels(np.asarray(found.targets if self.flagged else found.labels), len(x), where)
        names = self.names or tuple(map(str, found.classes))
        if len(y) and y.max() >= len(names):
            raise DataError(
                f"expected labels in 0..{len(names) - 1}, got {y.max()} in row {y.argmax()} of "
                f"{where}"
            )
        return x, y, names


class MNIST(_TorchvisionSet):
    """70,000 handwritten digits, (1, 28, 28)."""

    kind: Literal["mnist"] = "mnist"
    paper: ClassVar[str] = "LeCun, Bottou, Bengio, Haffner 1998, Proc. IEEE"
    published: ClassVar[str] = "MNIST"
    image: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    rows: ClassVar[tuple[int, int]] = (60_000, 10_000)
    layout: ClassVar[Layout] = "nhw"
    names: ClassVar[tuple[str, ...] | None] = DIGITS


class FashionMNIST(_TorchvisionSet):
    """70,000 pictures of clothes, (1, 28, 28)."""

    kind: Literal["fashion_mnist"] = "fashion_mnist"
    paper: ClassVar[str] = "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747"
    published: ClassVar[str] = "FashionMNIST"
    image: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    rows: ClassVar[tuple[int, int]] = (60_000, 10_000)
    layout: ClassVar[Layout] = "nhw"


class CIFAR10(_TorchvisionSet):
    """60,000 pictures of ten kinds of things, (3, 32, 32)."""

    kind: Literal["cifar10"] = "cifar10"
    paper: ClassVar[str] = "Krizhevsky 2009, technical report, University of Toronto"
    published: ClassVar[str] = "CIFAR10"
    image: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    rows: ClassVar[tuple[int, int]] = (50_000, 10_000)
    layout: ClassVar[Layout] = "nhwc"


class CIFAR100(_TorchvisionSet):
    """60,000 pictures of a hundred kinds of things, (3, 32, 32)."""

    kind: Literal["cifar100"] = "cifar100"
    paper: ClassVar[str] = "Krizhevsky 2009, technical report, University of Toronto"
    published: ClassVar[str] = "CIFAR100"
    image: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    rows: ClassVar[tuple[int, int]] = (50_000, 10_000)
    class_count: ClassVar[int] = 100
    layout: ClassVar[Layout] = "nhwc"


class SVHN(_TorchvisionSet):
    """99,289 house numbers, (3, 32, 32); 630,420 with `extra`, as in S0 A.2.3."""

    kind: Literal["svhn"] = "svhn"
    paper: ClassVar[str] = "Netzer et al. 2011, NIPS workshop"
    published: ClassVar[str] = "SVHN"
    image: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    rows: ClassVar[tuple[int, int]] = (73_257, 26_032)
    layout: ClassVar[Layout] = "nchw"
    names: ClassVar[tuple[str, ...] | None] = DIGITS
    flagged: ClassVar[bool] = False

    extra: bool = Field(False, description="Add the 531,131 rows of the split `extra`.")

    def _train_splits(self) -> tuple[str, ...]:
        return ("train", "extra") if self.extra else ("train",)

    def _train_rows(self) -> int:
        return self.rows[0] + (EXTRA if self.extra else 0)


class STL10(_TorchvisionSet):
    """13,000 labelled pictures of ten kinds of things, (3, 96, 96)."""

    kind: Literal["stl10"] = "stl10"
    paper: ClassVar[str] = "Coates, Ng, Lee 2011, AISTATS"
    published: ClassVar[str] = "STL10"
    image: ClassVar[tuple[int, int, int]] = (3, 96, 96)
    rows: ClassVar[tuple[int, int]] = (5_000, 8_000)
    layout: ClassVar[Layout] = "nchw"
    names: ClassVar[tuple[str, ...] | None] = STL
    flagged: ClassVar[bool] = False
