"""What data sets on disk have in common: paths, limits, pixels and labels as games use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from learning.data.base import DataError, NotThereError
from learning.pool import Floats, Ints

Layout = Literal["auto", "nhw", "nhwc", "nchw"]

GIB = 2**30
CHANNELS = (1, 3, 4)
CHUNK = 1024
LARGEST_LABEL = 2**31 - 1


def resolved(path: str) -> Path:
    """Return an absolute path; ``~`` is the home, relative paths start at the working directory.

    Raises:
        DataError: If it is no path.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"expected a path, got {path!a}: {error}") from error


def there(path: str) -> Path:
    """Return an absolute path, as `resolved` does, of something that exists.

    Raises:
        NotThereError: If nothing does.
        DataError: If it is no path.
    """
    found = resolved(path)
    if not found.exists():
        raise NotThereError(f"expected a data set, got nothing at {found}")
    return found


def guard(pixels: int, max_gib: float, where: object) -> None:
    """Refuse a data set that takes too much memory as float32, before any of it is allocated.

    Args:
        pixels: Number of values of all inputs, channels counted.
        max_gib: The limit, in GiB.
        where: What is read, for the message.

    Raises:
        DataError: If it is larger.
    """
    size = 4 * pixels / GIB
    if size > max_gib:
        raise DataError(
            f"expected at most max_gib = {max_gib:g} GiB as float32, got {size:.3g} GiB in "
            f"{where}: raise max_gib or take a smaller data set"
        )


def with_channels(x: NDArray[Any], layout: Layout, where: object) -> NDArray[Any]:
    """Return a view (n, C, H, W) of images in the given layout.

    ``auto`` takes three dimensions as (n, H, W), and four as channels first or last by which of
    the two could be channels (1, 3 or 4 of them).

    Raises:
        DataError: If the layout does not fit or cannot be told.
    """
    layout = _guessed(x.shape, where) if layout == "auto" else layout
    if x.ndim != len(layout):
        raise DataError(
            f"expected layout {layout}, {len(layout)} dimensions, got {x.shape} in {where}"
        )
    if 0 in x.shape[1:]:
        raise DataError(f"expected images with pixels, got shape {x.shape} in {where}")
    if layout == "nhw":
        return x[:, None]
    return x.transpose(0, 3, 1, 2) if layout == "nhwc" else x


def _guessed(shape: tuple[int, ...], where: object) -> Layout:
    if len(shape) == 3:
        return "nhw"
    if len(shape) == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first != last:
            return "nchw" if first else "nhwc"
    raise DataError(
        f"expected images (n, H, W), (n, H, W, C) or (n, C, H, W) with 1, 3 or 4 channels, got "
        f"shape {shape} in {where}: set layout to nhw, nhwc or nchw"
    )


def to_unit(x: NDArray[Any], where: object) -> Floats:
    """Return images as float32 in [0, 1]: uint8 is divided by 255, floats must lie there already.

    Args:
        x: Images (n, C, H, W), uint8 or float.
        where: What is read, for the message.

    Raises:
        DataError: On other dtypes, NaN, or floats outside [0, 1].
    """
    if x.dtype == np.uint8:
        out = np.empty(x.shape, np.float32)
        np.divide(x, np.float32(255), out=out)
        return out
    if x.dtype.kind != "f":
        raise DataError(f"expected pixels uint8, or float in [0, 1], got {x.dtype} in {where}")
    if x.size:
        low, high = x.min(), x.max()
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"expected float pixels in [0, 1], got {low:g} to {high:g} in {where}: divide "
                "them by their maximum, or store uint8"
            )
    return np.ascontiguousarray(x, np.float32)


def to_labels(y: NDArray[Any], rows: int, where: object) -> Ints:
    """Return labels as int64 (n,); (n, 1) is taken too.

    Args:
        y: Labels, of an integer dtype.
        rows: n, the number of images.
        where: What is read, for the message.

    Raises:
        DataError: On other dtypes or shapes, or a label outside 0..2^31-1.
    """
    one_hot = y.ndim == 2 and y.shape[1] > 1 and len(y) == rows
    hint = " (of one-hot rows, argmax(axis=1) are the labels)" if one_hot else ""
    if y.dtype.kind not in "iu":
        hint = hint or " (store the positions of the classes, from 0, as int64)"
        raise DataError(f"expected integer labels, got {y.dtype} in {where}{hint}")
    if y.shape not in ((rows,), (rows, 1)):
        raise DataError(
            f"expected {rows} labels, one for each image, got {y.shape} in {where}{hint}"
        )
    flat = y.reshape(rows)
    wrong = np.flatnonzero((flat < 0) | (flat > LARGEST_LABEL))
    if len(wrong):
        row = int(wrong[0])
        raise DataError(
            f"expected labels in 0..{LARGEST_LABEL}, got {flat[row]} in row {row} of {where}"
        )
    return flat.astype(np.int64)


def resized(x: NDArray[Any], size: int | None, where: object) -> Floats:
    """Return images as float32 in [0, 1], squares of `size` pixels where it is given.

    Bilinear with antialiasing, in chunks, so that the full-size float images never exist at once.
    """
    if size is None or x.shape[2:] == (size, size):
        return to_unit(x, where)
    out = np.empty((len(x), x.shape[1], size, size), np.float32)
    for start in range(0, len(x), CHUNK):
        chunk = torch.from_numpy(to_unit(x[start : start + CHUNK], where))
        small = torch.nn.functional.interpolate(
            chunk, (size, size), mode="bilinear", antialias=True
        )
        out[start : start + CHUNK] = small.clamp(0, 1).numpy()
    return out
