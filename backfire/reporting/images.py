"""Arrays as PNG pictures inside the page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from learning.pool import Floats

SMALLEST = 64


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture, uint8 (H, W) or (H, W, 3), as a data URI."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def pixels(image: Floats) -> NDArray[np.uint8]:
    """Return an image, float32 (C, H, W) in [0, 1], as uint8 (H, W) or (H, W, 3).

    Values outside the range are clipped, values that are not finite are black. Of images with
    two, or with more than three channels the first channel is shown.
    """
    shown = np.clip(np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0), 0, 1)
    array = np.asarray((255 * shown).round(), dtype=np.uint8)
    return array.transpose(1, 2, 0) if len(array) == 3 else array[0]


def enlarged(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a small picture with every pixel repeated, so that it is at least 64 wide or high."""
    factor = -(-SMALLEST // max(array.shape[0], array.shape[1]))
    return array.repeat(factor, axis=0).repeat(factor, axis=1)


def shrunk(image: Floats, side: int) -> Floats:
    """Return the image with every k-th pixel, k such that no side is longer than `side`."""
    step = -(-max(image.shape[1:]) // side)
    return image[:, ::step, ::step]
