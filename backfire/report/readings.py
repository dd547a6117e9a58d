"""What an interval allows to say, in a word; the same rules as the verdict's."""

from __future__ import annotations

from dataclasses import dataclass

from server.results import Difference, GroupScores, Score
from server.verdict import MATERIAL


@dataclass(frozen=True)
class Reading:
    """A word about a number.

    Attributes:
        words: What can be said.
        tone: ``bad`` (for the defender), ``good``, ``open`` or ``same``: a class of `style.css`.
    """

    words: str
    tone: str


def group_readings(scores: GroupScores) -> list[Reading]:
    """Return whether a group backfired, and whether its backdoor does anything at all."""
    found = [backfiring(scores.interference)]
    control = scores.asr_untrained
    if control is not None and overlap(scores.asr.pooled, control.pooled):
        found.append(Reading("ASR as if untrained", "good"))
    return found


def backfiring(gap: Difference | None) -> Reading:
    """Return whether the other attackers made a backdoor fail."""
    if gap is None or gap.value is None:
        return Reading("backfiring unknown: not played alone", "open")
    if gap.low > 0 and gap.value >= MATERIAL:
        return Reading("backfires", "good")
    if gap.high >= MATERIAL:
        return Reading("backfiring not ruled out", "open")
    return Reading("does not backfire", "same")


def accuracy_reading(attacked: Score, free: Score | None) -> Reading | None:
    """Return whether the attack costs clean accuracy that its intervals can show."""
    if free is None or free.value is None or attacked.value is None:
        return None
    if overlap(attacked, free):
        return Reading("no cost shown", "same")
    return Reading("lower" if attacked.value < free.value else "higher", "bad")


def overlap(one: Score, other: Score) -> bool:
    """Return whether two intervals overlap, so that the scores cannot be told apart."""
    if one.value is None or other.value is None:
        return False
    return one.low <= other.high and other.low <= one.high
