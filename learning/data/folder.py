"""Images in folders, one for each class: train/<class>/*.png and test/<class>/*.png.

The layout of torchvision's `ImageFolder`, as `learning.data.image_folders` reads it. Files are not
trusted: their number, size and pixels are limited before anything is decoded, and links are not
followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import Field

from learning.data.base import DataError, DataSet, DataSource
from learning.data.image_folders import FolderLayout, Rows, laid_out
from learning.data.images import guard, resolved, there
from learning.data.sketch import Sketch
from learning.pool import Floats, Ints

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
MIB = 2**20
TOLD = 5  # of the files that cannot be used


@dataclass
class _ReadSoFar:
    """What is found while images are read: what is wrong, how many are transparent."""

    bad: list[str] = field(default_factory=list)
    transparent: int = 0


class Folder(DataSource):
    """Classes are the folders of train/, in the order of their names; test/ may be missing.

    Without test/ the test set is val/, and without that it is drawn from train/.

    Still images are taken. They are turned as their EXIF orientation says; palettes, CMYK,
    transparency and 16-bit colour become 8-bit RGB as in `ImageFolder` (low bytes are dropped;
    transparency is handled as `background` says, and that there was some is told); animations and
    grey or float images of more than 8 bits are refused. Files that are no images by their suffix
    are left out, and so is what begins with a dot.
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
    fit: Literal["stretch", "pad", "crop"] = Field(
        "stretch",
        description="How an image that is no square comes to size: stretched; whole, with black "
        "margins; or the largest square of its middle.",
        json_schema_extra={"origin": "ours"},
    )
    background: Literal["hidden", "black", "white"] = Field(
        "hidden",
        description="What shows where an image is transparent: the colours stored there, as in "
        "`ImageFolder`, or what it is laid on.",
        json_schema_extra={"origin": "ours"},
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

    def look(self) -> Sketch:
        """Read names, and the first image that can be read; see `DataSource.look`."""
        there(self.path)
        layout = self._layout()
        channels, height, width = self._first(layout)[1]
        return Sketch(
            (channels, height, width), len(layout.classes), len(layout.train), len(layout.test)
        )

    def load(self) -> DataSet:
        """Read the images.

        Raises:
            DataError: If something is not as expected; names the files, the first few of many.
        """
        layout = self._layout()
        first, shape = self._first(layout)
        guard(len(layout) * int(np.prod(shape)), self.max_gib, layout.root)
        found = _ReadSoFar()
        x_train, y_train = self._read(layout.train, shape, first, found)
        x_test, y_test = self._read(layout.test, shape, first, found)
        if found.bad:
            raise DataError(_all_of(found.bad, len(layout)))
        notes = (*layout.notes, *self._seen_through(found.transparent))
        return DataSet(x_train, y_train, x_test, y_test, layout.classes, notes)

    def _seen_through(self, transparent: int) -> Iterator[str]:
        if transparent:
            many = f"{transparent} images have" if transparent > 1 else "1 image has"
            shows = (
                "the colours stored there show"
                if self.background == "hidden"
                else (f"laid on {self.background}")
            )
            yield f"{many} transparent pixels: {shows} (data.background)"

    def _layout(self) -> FolderLayout:
        return laid_out(resolved(self.path), self.max_files)

    def _first(self, layout: FolderLayout) -> tuple[Path, tuple[int, ...]]:
        """Return the first training image that can be read, and its shape."""
        bad: list[str] = []
        for path, _ in layout.train:
            try:
                return path, self._image(path).shape
            except DataError as error:
                bad.append(str(error))
        raise DataError(_all_of(bad, len(layout)))

    def _read(
        self, rows: Rows, shape: tuple[int, ...], first: Path, found: _ReadSoFar
    ) -> tuple[Floats, Ints]:
        """Read the rows of a split, and keep what is found on the way."""
        x = np.empty((len(rows), *shape), np.float32)
        for row, (path, _) in enumerate(rows):
            try:
                image = self._image(path, found)
                if image.shape != shape:
                    raise DataError(
                        f"expected height and width {shape[1:]} as in {first}, got "
                        f"{image.shape[1:]} in {path}: set size"
                    )
                np.divide(image, np.float32(255), out=x[row])
            except DataError as error:
                found.bad.append(str(error))
        return x, np.array([label for _, label in rows], np.int64)

    def _image(self, path: Path, found: _ReadSoFar | None = None) -> NDArray[np.uint8]:
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
                if found is not None:
                    found.transparent += _is_transparent(image)
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
        if "A" in image.getbands() and self.background != "hidden":
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, self.background), image)
        image = image.convert("L" if self.grayscale else "RGB")
        if self.size is None:
            return image
        square, how = (self.size, self.size), Image.Resampling.BILINEAR
        if self.fit == "crop":
            return ImageOps.fit(image, square, how)
        return ImageOps.pad(image, square, how) if self.fit == "pad" else image.resize(square, how)


def _is_transparent(image: Image.Image) -> bool:
    """Return whether any pixel shows what is behind it."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return "A" in image.getbands() and any(image.getchannel("A").histogram()[:255])


def _all_of(bad: Sequence[str], files: int) -> str:
    """Return one line about all that is wrong, the first few of it in full."""
    if len(bad) == 1:
        return bad[0]
    more = f"; and {len(bad) - TOLD} more" if len(bad) > TOLD else ""
    return f"{len(bad)} of {files} images cannot be used: " + "; ".join(bad[:TOLD]) + more
