"""Which images a folder holds, of which class, and what of the folder is left out.

Nothing is decoded here. The number of entries is limited, links are not followed, and what is
left out is counted, so that it can be told.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from learning.data.base import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
DEEPEST = 16
NAMED = 5

TRAIN, TEST, VALIDATION = "train", "test", "val"

Rows = list[tuple[Path, int]]


@dataclass(frozen=True)
class FolderLayout:
    """The images of a data set, in the order of their rows.

    Attributes:
        root: The folder.
        classes: Names by label.
        train: Path and label of each training image.
        test: Likewise of the test set; empty where there is none.
        notes: What was left out and why, and what else may surprise; one line each.
    """

    root: Path
    classes: tuple[str, ...]
    train: Rows
    test: Rows
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.train) + len(self.test)


@dataclass
class _Split:
    """What is found in train/ or test/: images by class; left out by suffix and class; hidden."""

    files: dict[str, list[Path]] = field(default_factory=dict)
    other: dict[str, Counter[str]] = field(default_factory=dict)
    hidden: int = 0


def laid_out(root: Path, most: int) -> FolderLayout:
    """Look through a folder of train/ and perhaps test/, or val/ in its place.

    Args:
        root: The folder.
        most: Most files of a split.

    Raises:
        DataError: On what cannot be used; names it.
    """
    train = _split(root / TRAIN, most)
    name, test, notes = _test_of(root, train, most)
    classes = tuple(train.files)
    splits = {TRAIN: train, name: test}
    return FolderLayout(
        root,
        classes,
        _rows(train, classes),
        _rows(test, classes),
        (
            *notes,
            *_passed_over(root, most),
            *(line for split, found in splits.items() for line in _left_out(split, found)),
            *_numbered(classes),
        ),
    )


def _test_of(root: Path, train: _Split, most: int) -> tuple[str, _Split, list[str]]:
    """Return which split is the test set, its files, and what is to be said of that."""
    validation = f"{VALIDATION}/ of the data set"
    if os.path.lexists(root / TEST):
        test = _split(root / TEST, most)
        if strange := sorted(set(test.files) - set(train.files)):
            raise DataError(f"expected a class of train/, got {root / TEST / strange[0]}")
        extra = os.path.lexists(root / VALIDATION)
        return TEST, test, [f"{validation} was not read: test/ is the test set"] if extra else []
    if not os.path.lexists(root / VALIDATION):
        return TEST, _Split(), []
    drawn = "the test set was drawn from train/"
    try:
        found = _split(root / VALIDATION, most)
    except DataError as error:
        return TEST, _Split(), [f"{validation} was not read ({error}): {drawn}"]
    if strange := sorted(set(found.files) - set(train.files)):
        why = f"its folder {strange[0]}/ is no class of train/"
        return TEST, _Split(), [f"{validation} was not read ({why}): {drawn}"]
    return VALIDATION, found, [f"{validation} was taken as the test set, since there is no test/"]


def _split(folder: Path, most: int) -> _Split:
    if folder.is_symlink():
        raise DataError(f"expected no links (they are not followed), got {folder}")
    if not folder.is_dir():
        raise DataError(f"expected a folder with one folder for each class, got none at {folder}")
    found, left = _Split(), most
    for entry in _entries(folder, most, found):
        if not entry.is_dir(follow_symlinks=False):
            continue
        files = list(islice(_images(Path(entry.path), most, found, entry.name), left + 1))
        if not files:
            raise DataError(f"expected images, got none in {entry.path}{_instead(found, entry)}")
        found.files[entry.name] = files
        left -= len(files)
        if left < 0:
            raise DataError(f"expected at most max_files = {most} in {folder}")
    if not found.files:
        raise DataError(f"expected one folder for each class, got none in {folder}")
    return found


def _instead(found: _Split, entry: os.DirEntry[str]) -> str:
    """Return of which suffix the files of a class are that has no images."""
    suffixes = sorted(suffix for suffix, by in found.other.items() if by[entry.name])
    return f" (files of {', '.join(suffixes[:NAMED])} are not read)" if suffixes else ""


def _rows(split: _Split, classes: tuple[str, ...]) -> Rows:
    return [(path, classes.index(name)) for name, files in split.files.items() for path in files]


def _images(folder: Path, most: int, found: _Split, name: str, depth: int = 0) -> Iterator[Path]:
    """Yield the images below the folder of a class; count what is none."""
    if depth > DEEPEST:
        raise DataError(f"expected folders at most {DEEPEST} deep, got {folder}")
    for entry in _entries(folder, most, found):
        suffix = Path(entry.name).suffix.lower()
        if entry.is_dir(follow_symlinks=False):
            yield from _images(Path(entry.path), most, found, name, depth + 1)
        elif suffix not in SUFFIXES:
            found.other.setdefault(suffix or "no suffix", Counter())[name] += 1
        elif not entry.is_file(follow_symlinks=False):
            raise DataError(f"expected a regular file, got {entry.path}")
        else:
            yield Path(entry.path)


def _entries(folder: Path, most: int, found: _Split) -> list[os.DirEntry[str]]:
    """Return what is in a folder, by name; no links, nothing hidden."""
    try:
        with os.scandir(folder) as listing:
            entries = list(islice(listing, most + 1))
    except OSError as error:
        raise DataError(f"expected a readable folder, got {folder}: {error.strerror}") from error
    if len(entries) > most:
        raise DataError(f"expected at most max_files = {most} entries in {folder}")
    shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    found.hidden += sum(_would_be_read(e) for e in entries if e.name.startswith("."))
    for entry in shown:
        if entry.is_symlink():
            raise DataError(f"expected no links (they are not followed), got {entry.path}")
        if not entry.name.isprintable():
            raise DataError(f"expected a printable name, got {entry.name!a} in {folder}")
    return shown


def _would_be_read(entry: os.DirEntry[str]) -> bool:
    """Return whether a hidden entry is one that would count if it were not hidden."""
    return Path(entry.name).suffix.lower() in SUFFIXES


def _passed_over(root: Path, most: int) -> Iterator[str]:
    """Say which folders beside the splits are not read."""
    splits = (TRAIN, TEST, VALIDATION)
    with os.scandir(root) as listing:
        names = sorted(
            entry.name
            for entry in islice(listing, most)
            if entry.is_dir() and entry.name not in splits and not entry.name.startswith(".")
        )
    if names:
        yield f"of the data set's folder {_some(f'{_shown(name)}/' for name in names)} was not read"


def _left_out(split: str, found: _Split) -> Iterator[str]:
    for suffix, by_class in sorted(found.other.items()):
        total = sum(by_class.values())
        many = f"{total} files" if total > 1 else "1 file"
        where = _some(f"{count} in {_shown(name)}/" for name, count in by_class.items())
        yield f"{split}/: {many} of {_shown(suffix)} left out, as no image's suffix ({where})"
    if found.hidden:
        many = f"{found.hidden} hidden image" + "s" * (found.hidden > 1)
        yield f"{split}/: {many} left out, as the name begins with a dot"


def _shown(name: str) -> str:
    """Return a name of which nobody has checked that it prints."""
    return name if name.isprintable() else ascii(name)


def _some(names: Iterable[str]) -> str:
    """Return the first few of some names, and how many there are beyond."""
    listed = list(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more


def _numbered(classes: tuple[str, ...]) -> Iterator[str]:
    """Say which label a class has where its name is the number of another one."""
    if not all(name.isascii() and name.isdecimal() for name in classes):
        return
    if [int(name) for name in classes] == list(range(len(classes))):
        return
    pairs = [f"{label}: {name}" for label, name in enumerate(classes) if int(name) != label]
    shown = ", ".join(pairs[:12]) + (", ..." if len(pairs) > 12 else "")
    yield (
        "labels count the class folders in the order of their names as text, so that these are not "
        f"the numbers that they are called by (label: folder): {shown}"
    )
