"""Files that only their owner may read, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

SECRET: Final = 0o600
PUBLIC: Final = 0o644
FOLDER: Final = 0o700


def make_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter; it must not be there yet."""
    path.mkdir(mode=FOLDER)
    path.chmod(FOLDER)  # whatever the umask says
    return path


def write(path: Path, data: bytes, mode: int = SECRET) -> None:
    """Write a file; a reader finds the old one or the new one, and never one that others read.

    Args:
        path: The file; one of this name is replaced.
        data: Its content.
        mode: Who may read it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def readable_by_others(path: Path) -> bool:
    """Return whether others than its owner may read a file."""
    return bool(path.stat().st_mode & 0o077)
