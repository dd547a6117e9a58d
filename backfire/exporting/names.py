"""Names of files and of scores, as a paper has them."""

from __future__ import annotations

import re
from typing import Final

MAX_NAME: Final = 60


def file_name(*parts: str) -> str:
    """Return ``rounds-my-defender``: small letters, digits and single hyphens, never empty.

    Args:
        parts: Foreign text; what is no letter of the Latin alphabet and no digit is a hyphen.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    return plain[:MAX_NAME].strip("-") or "figure"


def score_words(score: str) -> str:
    """Return ``ASR alone`` for ``asr_alone``."""
    return re.sub(r"\basr\b", "ASR", score.replace("_", " "))


def numbered(names: list[str]) -> list[str]:
    """Return names of which none stands twice: the second ``a`` is ``a-2``."""
    found: list[str] = []
    for name in names:
        number, own = 1, name
        while own in found:
            number += 1
            own = f"{name}-{number}"
        found.append(own)
    return found
