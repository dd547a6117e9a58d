"""An estimate's interval in words, and why there is none."""

from __future__ import annotations

from collections.abc import Sequence

from backfire.evidence.estimates import Estimate


def reach_words(found: Estimate, *, signed: bool = False) -> str:
    """Return the interval, or why there is none, in per cent or points without the sign for it.

    Such as ``82.5 to 96.0``, ``no interval``, ``all seeds alike, no interval``, ``two heaps, no
    interval: 1 seed at 9.5, 3 at 93.1 to 97.0; above 75 % [30 to 95]``.

    Args:
        found: A mean over seeds.
        signed: Of a difference.
    """
    form = "+.1f" if signed else ".1f"
    if found.low is not None and found.high is not None:
        return f"{100 * found.low:{form}} to {100 * found.high:{form}}"
    if found.heaps is not None:
        share = found.heaps.share
        below, above = (_heap(heap, form) for heap in (found.heaps.below, found.heaps.above))
        seeds = "seed" if len(found.heaps.below) == 1 else "seeds"
        return (
            f"two heaps, no interval: {len(found.heaps.below)} {seeds} at {below}, "
            f"{len(found.heaps.above)} at {above}; above {100 * share.value:.0f} % "
            f"[{100 * share.low:.0f} to {100 * share.high:.0f}]"
        )
    return "all seeds alike, no interval" if found.method == "equal" else "no interval"


def _heap(values: Sequence[float], form: str) -> str:
    ends = dict.fromkeys(f"{100 * value:{form}}" for value in (values[0], values[-1]))
    return " to ".join(ends)
