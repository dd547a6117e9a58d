"""Labels that are wrong by a rule."""

from __future__ import annotations

from typing import Literal

from learning.pool import Ints

LabelRule = Literal["keep", "mirror", "mirror_mod", "next"]


def by_rule(rule: LabelRule, y: Ints, classes: int) -> Ints:
    """Return labels by a rule.

    S3 writes ``y <- 10 - y``, which maps 0 to 10, no class; `mirror` and `mirror_mod` are the two
    readings.

    Args:
        rule: `keep`: y; `mirror`: ``K - 1 - y``, which leaves the middle of an odd number of
            classes; `mirror_mod`: ``(K - y) mod K``, which leaves 0 and K / 2; `next`:
            ``(y + 1) mod K``.
        y: Labels, int64 (n,), below K.
        classes: K.

    Returns:
        int64 (n,), below K.
    """
    if rule == "mirror":
        return classes - 1 - y
    if rule == "mirror_mod":
        return (classes - y) % classes
    return (y + 1) % classes if rule == "next" else y
