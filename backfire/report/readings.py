"""What an interval allows to say, in a word; the same rules as the verdict's."""

from __future__ import annotations

from dataclasses import dataclass

from backfire.report.text import points
from server.results import GroupScores, Score, Summary
from server.verdict import BOUND, KEPT, MATERIAL, most_alone


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
    found = [backfiring(scores)]
    if _no_better(scores.asr.pooled, scores.asr_untrained):
        found.append(Reading("ASR as if untrained", "good"))
    return found


def backfiring(scores: GroupScores) -> Reading:
    """Return whether the other attackers made a group's backdoors fail."""
    gap, alone = scores.interference, scores.asr_alone
    if gap is None or gap.value is None or alone is None or alone.pooled.value is None:
        return Reading("not played alone", "open")
    if gap.low > 0 and gap.value >= MATERIAL:
        return Reading("backfires", "good")
    if gap.high < 0 and gap.value <= -MATERIAL:
        return Reading("helped by the others", "bad")
    if scores.asr_untrained and _no_better(alone.pooled, scores.asr_untrained):
        return _without_effect(most_alone(alone.pooled, scores.asr_untrained.pooled))
    if gap.high < MATERIAL:
        return Reading("does not backfire", "same")
    if gap.low <= 0 and gap.high <= KEPT * alone.pooled.value:
        return Reading(f"backfires by {points(gap.high)[1:]} points at most", "same")
    return Reading("backfiring cannot be told", "open")


def _without_effect(most: float) -> Reading:
    if most < MATERIAL:
        return Reading("does not work alone either", "good")
    if most <= BOUND:
        return Reading(f"works alone by {points(most)[1:]} points at most", "good")
    return Reading("backfiring cannot be told", "open")


def _no_better(asr: Score, control: Summary | None) -> bool:
    """Return whether an attack does not surely beat its control."""
    if control is None or control.pooled.value is None or asr.value is None:
        return False
    return asr.low <= control.pooled.high


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
