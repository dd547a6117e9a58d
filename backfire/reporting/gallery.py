"""Triggers and poisoned rows beside the inputs that they were put on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backfire.reporting.images import data_uri, enlarged, pixels, shrunk
from learning.pool import Floats

BUDGET = 700_000
MAX_AGENTS = 12
MAX_INPUTS = 4
MAX_SIDE = 128
KINDS = (
    ("triggered", "original", "asking at run time"),
    ("part", "original", "its own part of the trigger"),
    ("poisoned", "poisoned_from", "contributed"),
)


@dataclass(frozen=True)
class ImagePair:
    """One input before and after, and what changed: grey is unchanged. Data URIs."""

    before: str
    after: str
    change: str


@dataclass(frozen=True)
class ImageStrip:
    """Inputs of one kind.

    Attributes:
        title: What they are.
        pairs: The inputs.
        same: Whether no input differs (only labels were changed).
    """

    title: str
    pairs: tuple[ImagePair, ...]
    same: bool


@dataclass(frozen=True)
class Exhibit:
    """The pictures of one agent."""

    agent: str
    strips: tuple[ImageStrip, ...]


def exhibits(images: Mapping[str, Floats], order: list[str]) -> list[Exhibit]:
    """Return the pictures of at most 12 agents, as many as fit the budget of the page.

    Args:
        images: As in the run folder's `gallery`; agents that are not in `order` are left out.
        order: Agent names.
    """
    known = [name for name in order if any(f"{kind}/{name}" in images for kind, _, _ in KINDS)]
    shown: list[Exhibit] = []
    spent = 0
    for agent in known[:MAX_AGENTS]:
        strips = tuple(_strips(images, agent))
        spent += sum(len(p.before + p.after + p.change) for s in strips for p in s.pairs)
        if not strips or (shown and spent > BUDGET):
            break
        shown.append(Exhibit(agent, strips))
    return shown


def _strips(images: Mapping[str, Floats], agent: str) -> list[ImageStrip]:
    strips = []
    for changed, original, title in KINDS:
        after, before = images.get(f"{changed}/{agent}"), images.get(f"{original}/{agent}")
        if after is None or before is None or after.shape != before.shape or not after.size:
            continue
        inputs = range(min(MAX_INPUTS, len(after)))
        pairs = tuple(_pair(before[k], after[k]) for k in inputs)
        same = all(np.array_equal(before[k], after[k]) for k in inputs)
        strips.append(ImageStrip(title, pairs, same))
    return strips


def _pair(before: Floats, after: Floats) -> ImagePair:
    before, after = (np.clip(np.nan_to_num(shrunk(x, MAX_SIDE)), 0, 1) for x in (before, after))
    change = np.asarray(0.5 + (after - before) / 2, dtype=np.float32)
    return ImagePair(*(data_uri(enlarged(pixels(image))) for image in (before, after, change)))
