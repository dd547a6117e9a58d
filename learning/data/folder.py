"""Images in folders, one for each class: train/<class>/*.png and test/<class>/*.png.

The layout of torchvision's `ImageFolder`. Files are not trusted: their number, size and pixels
are limited before anything is decoded, and links are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from learning.data.base import DataError, DataSet, DataSource
from learning.data.images import guard, resolved
from learning.pool import Floats, Ints

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
DEEPEST = 16
MIB = 2**20

Files = dict[str, list[Path]]


class Folder(DataSource):
    """Classes are the folders of train/, in the order of their names; test/ may be missing.

    Still images are taken. They are turned as their EXIF orientation says; palettes, CMYK,
    transparency and 16-bit colour become 8-bit RGB as in `ImageFolder` (transparency and low
    bytes are dropped); animations and grey or float images of more than 8 bits are refused. Files
    that are no images by their suffix are left out, and so is what begins with a dot.
    """

    kind: Literal["folder"] = "folder"
    paper: ClassVar[str] = "layout of torchvision.datasets.ImageFolder"
    examples: ClassVar = ()  # its files are its owner's

    path: str = Field(
        min_length=1,
        description="Folder that holds train/; ~ is the home, relative paths start at the "
        "working directory.",
    )
    size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Resize to squares of this many pixels; unset: all images must be alike.",
    )
    grayscale: bool = Field(False, description="One channel (ITU-R 601 luma) instead of three.")
    max_files: int = Field(
        200_000,
        ge=1,
        le=100_000_000,
        description="Most files in train/ or test/.",
        json_schema_extra={"origin": "ours"},
    )
    max_file_mib: float = Field(
        32.0,
        gt=0,
        le=4096,
        description="Largest file, in MiB.",
        json_schema_extra={"origin": "ours"},
    )
    max_pixels: int = Field(
        50_000_000,
        ge=1,
        le=150_000_000,
        description="Largest image, width times height.",
        json_schema_extra={"origin": "ours"},
    )

    def load(self) -> DataSet:
        """Read the images.

        Raises:
            DataError: On the first file that is not as expected; names it.
        """
        root = resolved(self.path)
        train = self._files(root / "train")
        test = self._files(root / "test") if (root / "test").exists() else {}
        strange = sorted(set(test) - set(train))
        if strange:
            raise DataError(f"expected a class of train/, got {root / 'test' / strange[0]}")
        classes = tuple(train)
        first = next(iter(train.values()))[0]
        shape = self._image(first).shape
        files = sum(map(len, (*train.values(), *test.values())))
        guard(files * int(np.prod(shape)), self.max_gib, root)
        x_train, y_train = self._read(train, classes, shape, first)
        x_test, y_test = self._read(test, classes, shape, first)
        return DataSet(x_train, y_train, x_test, y_test, classes)

    def _files(self, split: Path) -> Files:
        if split.is_symlink() or not split.is_dir():
            raise DataError(
                f"expected a folder with one folder for each class, got none at {split}"
            )
        found: Files = {}
        left = self.max_files
        for entry in _entries(split, self.max_files):
            if entry.is_dir(follow_symlinks=False):
                found[entry.name] = list(
                    islice(_images(Path(entry.path), self.max_files), left + 1)
                )
                left -= len(found[entry.name])
                if not found[entry.name]:
                    raise DataError(f"expected images, got none in {entry.path}")
                if left < 0:
                    raise DataError(f"expected at most max_files = {self.max_files} in {split}")
        if not found:
            raise DataError(f"expected one folder for each class, got none in {split}")
        return found

    def _read(
        self, files: Files, classes: tuple[str, ...], shape: tuple[int, ...], first: Path
    ) -> tuple[Floats, Ints]:
        rows = [(path, classes.index(name)) for name, paths in files.items() for path in paths]
        x = np.empty((len(rows), *shape), np.float32)
        for row, (path, _) in enumerate(rows):
            image = self._image(path)
            if image.shape != shape:
                raise DataError(
                    f"expected height and width {shape[1:]} as in {first}, got {image.shape[1:]} "
                    f"in {path}: set size"
                )
            np.divide(image, np.float32(255), out=x[row])
        return x, np.array([label for _, label in rows], np.int64)

    def _image(self, path: Path) -> NDArray[np.uint8]:
        """Return one image, uint8 (C, H, W)."""
        size = path.stat().st_size
        if size > self.max_file_mib * MIB:
            raise DataError(
                f"expected at most max_file_mib = {self.max_file_mib:g} MiB, got "
                f"{size / MIB:.3g} MiB in {path}"
            )
        try:
            with Image.open(path, formats=FORMATS) as image:
                self._check(image, path)
                pixels = np.asarray(self._converted(image))
        except DataError:
            raise
        except Exception as error:  # a hostile file can make a decoder fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"expected a sound image, got {path}: {reason}") from error
        return pixels[None] if self.grayscale else pixels.transpose(2, 0, 1)

    def _check(self, image: Image.Image, path: Path) -> None:
        if image.width * image.height > self.max_pixels:
            raise DataError(
                f"expected at most max_pixels = {self.max_pixels}, got {image.width} x "
                f"{image.height} in {path}"
            )
        # MPO is how cameras pack a preview behind an ordinary JPEG photograph
        if getattr(image, "is_animated", False) and image.format != "MPO":
            raise DataError(f"expected a still image, got several frames in {path}")
        if image.mode[0] in "IF":
            raise DataError(f"expected 8 bits a channel, got more in {path}: convert it")

    def _converted(self, image: Image.Image) -> Image.Image:
        image = ImageOps.exif_transpose(image)
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("L" if self.grayscale else "RGB")
        if self.size is None:
            return image
        return image.resize((self.size, self.size), Image.Resampling.BILINEAR)


def _images(folder: Path, most: int, depth: int = 0) -> Iterator[Path]:
    if depth > DEEPEST:
        raise DataError(f"expected folders at most {DEEPEST} deep, got {folder}")
    for entry in _entries(folder, most):
        if entry.is_dir(follow_symlinks=False):
            yield from _images(Path(entry.path), most, depth + 1)
        elif Path(entry.name).suffix.lower() in SUFFIXES:
            if not entry.is_file(follow_symlinks=False):
                raise DataError(f"expected a regular file, got {entry.path}")
            yield Path(entry.path)


def _entries(folder: Path, most: int) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name; no links, nothing hidden."""
    try:
        with os.scandir(folder) as listing:
            entries = list(islice(listing, most + 1))
    except OSError as error:
        raise DataError(f"expected a readable folder, got {folder}: {error.strerror}") from error
    if len(entries) > most:
        raise DataError(f"expected at most max_files = {most} entries in {folder}")
    shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in shown:
        if entry.is_symlink():
            raise DataError(f"expected no links (they are not followed), got {entry.path}")
        if not entry.name.isprintable():
            raise DataError(f"expected a printable name, got {entry.name!a} in {folder}")
    return shown
