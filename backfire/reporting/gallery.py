"""Triggers and poisoned rows beside the inputs that they were put on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from backfire.reporting.charts.heatmap import class_name
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
    """One input before and after, and what changed: grey is unchanged. Data URIs.

    Attributes:
        label: Its label, where that is known: ``7 → 8`` where it was changed.
    """

    before: str
    after: str
    change: str
    label: str = ""


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


def exhibits(
    images: Mapping[str, Floats], order: list[str], classes: Sequence[str] = ()
) -> list[Exhibit]:
    """Return the pictures of at most 12 agents, as many as fit the budget of the page.

    Args:
        images: As in the run folder's `gallery`; agents that are not in `order` are left out.
        order: Agent names.
        classes: Names of the classes.
    """
    known = [name for name in order if any(f"{kind}/{name}" in images for kind, _, _ in KINDS)]
    shown: list[Exhibit] = []
    spent = 0
    for agent in known[:MAX_AGENTS]:
        strips = tuple(_strips(images, agent, classes))
        spent += sum(len(p.before + p.after + p.change) for s in strips for p in s.pairs)
        if not strips or (shown and spent > BUDGET):
            break
        shown.append(Exhibit(agent, strips))
    return shown


def _strips(images: Mapping[str, Floats], agent: str, classes: Sequence[str]) -> list[ImageStrip]:
    strips = []
    for changed, original, title in KINDS:
        after, before = images.get(f"{changed}/{agent}"), images.get(f"{original}/{agent}")
        if after is None or before is None or after.shape != before.shape or not after.size:
            continue
        inputs = range(min(MAX_INPUTS, len(after)))
        told = images.get(f"{changed}_labels/{agent}")
        labels = _labels(told, classes) if told is not None else {}
        pairs = tuple(_pair(before[k], after[k], labels.get(k, "")) for k in inputs)
        same = all(np.array_equal(before[k], after[k]) for k in inputs)
        strips.append(ImageStrip(title, pairs, same))
    return strips


def _labels(told: Floats, classes: Sequence[str]) -> dict[int, str]:
    """Return what can be said of the labels of inputs, by their position.

    Args:
        told: The true and the contributed label of each, from a file that may hold anything.
        classes: Names of the classes.
    """
    if told.shape[1:] != (2, 1, 1):
        return {}
    found = {}
    for position, pair in enumerate(told[:MAX_INPUTS, :, 0, 0].tolist()):
        if all(label == label // 1 and 0 <= label < len(classes) for label in pair):
            names = [class_name(int(label), classes) for label in pair]
            found[position] = names[0] if names[0] == names[1] else " → ".join(names)
    return found


def _pair(before: Floats, after: Floats, label: str) -> ImagePair:
    before, after = (np.clip(np.nan_to_num(shrunk(x, MAX_SIDE)), 0, 1) for x in (before, after))
    change = np.asarray(0.5 + (after - before) / 2, dtype=np.float32)
    old, new, changed = (data_uri(enlarged(pixels(image))) for image in (before, after, change))
    return ImagePair(old, new, changed, label)
