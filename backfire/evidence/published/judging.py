"""The side-by-side table of a reproduction: what a paper prints and concludes, and what we found.

The rules, which the report prints too (`RULES`), are fixed before any game is played. A verdict
speaks of the games of the sweep as they are written down, and of nothing else.

A fifth verdict stands beside the four that a reader expects: *undecided*, where our data cannot
tell. Without it few seeds would read as a refutation.

Sources:
    Holm: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal
        of Statistics 6 (1979) 65-70.
    "About": D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power
        approach for assessing the equivalence of average bioavailability", Journal of
        Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680; both sides at 95 %.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from backfire.evidence.comparisons import ALPHA, MIN_SEEDS, holm, paired_p
from backfire.evidence.estimates import Bounds, Estimate, difference_bounds, estimate
from backfire.evidence.learnt import ACCURACIES, CONSTANT, VOID, is_void, tells_of_attacks
from backfire.evidence.places import DEFENDER, DefendedCell, Places
from backfire.evidence.series import Series, SeriesRow, Setting, bounds_of
from backfire.evidence.words import reach_words
from scenarios.sweep.published import Claim, Operand, Published, PublishedFigure

# A wider interval covers most figures, so that covering says little.
WIDEST: Final = 0.2


class ClaimVerdict(StrEnum):
    """What our data say of a line of the paper."""

    HOLDS = "holds"
    PART = "holds in part"
    FAILS = "does not hold"
    UNDECIDED = "undecided"
    NOT_COMPARABLE = "not comparable"


_PLURAL: Final = {
    ClaimVerdict.HOLDS: ("holds", "hold"),
    ClaimVerdict.PART: ("holds in part", "hold in part"),
    ClaimVerdict.FAILS: ("does not hold", "do not hold"),
    ClaimVerdict.UNDECIDED: ("is undecided", "are undecided"),
    ClaimVerdict.NOT_COMPARABLE: ("is not comparable", "are not comparable"),
}

RULES: Final = (
    "Figures are judged only where the sweep is marked as comparable. Elsewhere they are shown "
    "side by side, and the verdict is “not comparable”.",
    "A figure holds where our 95 % interval over seeds covers it, or where our mean lies within "
    "the spread that the paper prints behind it. Where neither is so it does not hold.",
    f"A figure is undecided where nothing was scored, where there is no interval, or where our "
    f"interval is wider than {100 * WIDEST:.0f} points, and the mean is not within the paper's "
    "spread.",
    "There is no interval of one seed, of seeds that all gave the same score, and where the seeds "
    "fall into two heaps: there the page gives the share of seeds in the upper heap with Wilson's "
    "interval.",
    "A claim is one comparison or several: one for each value of the axes (and each defender) that "
    "it leaves open. Each is a difference paired by seed.",
    "A comparison holds where the mean difference has the claimed sign, beyond the claim's "
    "margin, with p < 0.05 (paired t-test, two-sided) after Holm's correction over all comparisons "
    "of this table, and where its 95 % interval says so too. It is contradicted where both are as "
    f"clear and the sign is the opposite. Otherwise, and with fewer than {MIN_SEEDS} seeds, it is "
    "open.",
    "Where the differences have no interval the exact sign-flip test takes the place of the "
    "t-test; with fewer than six seeds it cannot reach 0.05.",
    "“About as large” holds where the difference is surely within the tolerance (both one-sided "
    "tests, and the interval), is contradicted where it surely lies outside, and is open "
    "otherwise.",
    "A claim holds where all its comparisons hold, holds in part where some hold (the table says "
    "under which readings, and how many of the others are contradicted), does not hold where none "
    "holds and one is contradicted, and is undecided where all are open.",
    "Attack success and interference of a cell are void where its model has not learnt: where its "
    "clean accuracy, under attack or without attackers, is not above that of the best constant "
    "answer by a tenth of what that answer leaves to learn, on the mean or in more than half of "
    "the seeds. A comparison that rests on such a cell is open, a figure is undecided, and both "
    "say so. Scores that were played before the best constant answer was kept are not asked.",
    "Claims are judged where figures are not comparable too: the verdict then says whether the "
    "conclusion carries over to the games that were played here.",
)


@dataclass(frozen=True)
class FigureLine:
    """A printed number beside ours.

    Attributes:
        figure: The paper's.
        spot: Where it was looked up; None where no cell fits.
        group: The group that was read; "" for the defender's own score.
        ours: Mean over seeds, with interval and values.
        std: Standard deviation across the agents of a game (root mean square over seeds).
        verdict: One of the five.
        why: One sentence.
    """

    figure: PublishedFigure
    spot: DefendedCell | None
    group: str
    ours: Estimate
    std: float | None
    verdict: ClaimVerdict
    why: str


@dataclass(frozen=True)
class JudgedComparison:
    """One comparison of a claim.

    Attributes:
        first: Where `less` or `about` was looked up; None for a constant.
        second: Where `than` was looked up; None for a constant.
        one: Mean of the first side over the common seeds.
        two: Mean of the second side.
        difference: ``than - less``, or ``about - than``, paired by seed.
        p: Two-sided p-value after Holm's correction; None where there is none.
        verdict: HOLDS, FAILS (contradicted) or UNDECIDED (open).
        why: Half a sentence where it is open; else "".
    """

    first: DefendedCell | None
    second: DefendedCell | None
    one: Estimate
    two: Estimate
    difference: Estimate
    p: float | None
    verdict: ClaimVerdict
    why: str = ""

    def value(self, name: str) -> Setting | None:
        """Return the value of an axis (or the defender) that both sides share; None if none."""
        values = [spot.value(name) for spot in (self.first, self.second) if spot is not None]
        return values[0] if all(value == values[0] for value in values) else None


@dataclass(frozen=True)
class ClaimLine:
    """A conclusion of the paper, and whether our data draw it too."""

    claim: Claim
    comparisons: tuple[JudgedComparison, ...]
    verdict: ClaimVerdict
    why: str


@dataclass(frozen=True)
class PaperBesideOurs:
    """The whole table.

    Attributes:
        published: What the paper says.
        claims: In order.
        figures: In order; one for each cell that a figure fits.
        seeds: Number of seeds.
        finding: One sentence for the whole.
    """

    published: Published
    claims: tuple[ClaimLine, ...]
    figures: tuple[FigureLine, ...]
    seeds: int
    finding: str


def side_by_side(
    published: Published, rows: Iterable[SeriesRow], together: Sequence[Sequence[str]] = ()
) -> PaperBesideOurs:
    """Set what a paper says beside the scores of a sweep.

    Args:
        published: The paper's figures and claims.
        rows: Lines of the sweep's long table.
        together: Groups of axes that go from value to value together (`SweepSpec.together`).
    """
    places = Places(rows, together)
    figures = tuple(line for one in published.figures for line in _figure(one, published, places))
    claims = _claims(published.claims, places)
    finding = _finding(published, claims, figures)
    return PaperBesideOurs(published, claims, figures, len(places.seeds), finding)


def _figure(figure: PublishedFigure, published: Published, places: Places) -> Iterator[FigureLine]:
    spots = places.matching(figure)
    for spot in spots:
        series = places.series(spot, figure.group, figure.score)
        ours = series.estimate if series else estimate([])
        verdict, why = _figure_verdict(figure, ours, published)
        if ours.value is not None and published.is_comparable and _void(figure.score, spot, places):
            verdict, why = ClaimVerdict.UNDECIDED, VOID
        group = series.group if series else figure.group or ""
        std = series.std_across_agents if series else None
        yield FigureLine(figure, spot, group, ours, std, verdict, why)
    if not spots:
        verdict, why = ClaimVerdict.UNDECIDED, "no such cell was played"
        yield FigureLine(figure, None, figure.group or "", estimate([]), None, verdict, why)


def _figure_verdict(
    figure: PublishedFigure, ours: Estimate, published: Published
) -> tuple[ClaimVerdict, str]:
    if ours.value is None:
        return ClaimVerdict.UNDECIDED, f"{figure.score} was not scored here"
    gap = _points(ours.value - figure.value)
    if not published.is_comparable:
        return ClaimVerdict.NOT_COMPARABLE, f"{published.why_not}; ours is {gap} points from it"
    if figure.spread is not None and abs(ours.value - figure.value) <= figure.spread:
        return ClaimVerdict.HOLDS, f"ours is {gap} points from it, within the paper's spread"
    if ours.low is None or ours.high is None:
        return ClaimVerdict.UNDECIDED, f"ours is {gap} points from it, and has no interval"
    if ours.high - ours.low > WIDEST:
        return (
            ClaimVerdict.UNDECIDED,
            f"our interval is {100 * (ours.high - ours.low):.0f} points wide",
        )
    if ours.holds(figure.value):
        return ClaimVerdict.HOLDS, f"our interval covers it ({gap} points)"
    beyond = (
        "neither our interval nor the paper's spread reaches"
        if figure.spread
        else ("our interval does not reach")
    )
    return ClaimVerdict.FAILS, f"ours is {gap} points from it, which {beyond}"


@dataclass(frozen=True)
class _Open:
    """A comparison before Holm's correction."""

    claim: Claim
    comparison: JudgedComparison
    favours: bool


def _claims(claims: Sequence[Claim], places: Places) -> tuple[ClaimLine, ...]:
    """Judge all claims; the correction is over the comparisons of all of them."""
    compared = [
        [_compare(claim, *pair, places) for pair in places.pairs(claim.first, claim.than)]
        for claim in claims
    ]
    corrected = iter(holm([one.comparison.p for group in compared for one in group]))
    lines = []
    for claim, group in zip(claims, compared, strict=True):
        judged = tuple(_judged(one, next(corrected)) for one in group)
        lines.append(ClaimLine(claim, judged, *_claim_verdict(judged)))
    return tuple(lines)


def _compare(
    claim: Claim, first: DefendedCell | None, second: DefendedCell | None, places: Places
) -> _Open:
    sides = [_values(claim.first, first, places), _values(claim.than, second, places)]
    seeds = sorted(set.intersection(*(set(values) for values in sides if values is not None)))
    one, two = ([_value(side, seed) for seed in seeds] for side in _filled(claim, sides))
    pairs = list(zip(one, two, strict=True))
    differences = [b - a for a, b in pairs] if claim.less else [a - b for a, b in pairs]
    ranges = [_bounds(side) for side in (claim.first, claim.than)]
    found = JudgedComparison(
        first,
        second,
        estimate(one, bounds=ranges[0]),
        estimate(two, bounds=ranges[1]),
        estimate(differences, bounds=difference_bounds(*ranges[:: -1 if claim.less else 1])),
        None,
        ClaimVerdict.UNDECIDED,
    )
    if not seeds:
        return _Open(claim, replace(found, why="not scored on both sides"), False)
    if _void(claim.first.score, first, places) or _void(claim.than.score, second, places):
        return _Open(claim, replace(found, why=VOID), False)
    if len(seeds) < MIN_SEEDS:
        return _Open(claim, replace(found, why=f"{MIN_SEEDS} seeds are needed at least"), False)
    p, favours = _tested(claim, np.array(differences), found.difference)
    return _Open(claim, replace(found, p=p), favours)


def _void(score: str | None, spot: DefendedCell | None, places: Places) -> bool:
    """Return whether a score means nothing at a spot, since the model there has not learnt."""
    if score is None or spot is None or not tells_of_attacks(score):
        return False
    constant = places.series(spot, "", CONSTANT)
    known = (places.series(spot, "", name) for name in ACCURACIES)
    return constant is not None and is_void((s.values for s in known if s), constant.values)


def _bounds(side: Operand) -> Bounds:
    """Return the range of one side; a constant is its own."""
    value = side.value or 0.0
    return (value, value) if side.score is None else bounds_of(side.score)


def _values(side: Operand, spot: DefendedCell | None, places: Places) -> Mapping[int, float] | None:
    """Return the values by seed; None for a constant."""
    if side.score is None or spot is None:
        return None
    series: Series | None = places.series(spot, side.group, side.score)
    return {} if series is None else series.values


def _filled(
    claim: Claim, sides: Sequence[Mapping[int, float] | None]
) -> Iterator[Mapping[int, float] | float]:
    for side, values in zip((claim.first, claim.than), sides, strict=True):
        yield values if values is not None else side.value or 0.0


def _value(side: Mapping[int, float] | float, seed: int) -> float:
    return side if isinstance(side, float) else side[seed]


def _tested(claim: Claim, differences: NDArray[np.float64], found: Estimate) -> tuple[float, bool]:
    """Return the two-sided p-value of what the claim says, and whether the mean speaks for it."""
    mean = float(differences.mean())
    if claim.about is None:
        return _p(differences - claim.margin, found), mean > claim.margin
    tolerance = claim.about.tolerance
    ends = [_p(differences - end, found) for end in (-tolerance, tolerance)]
    if abs(mean) < tolerance:
        return max(ends), True
    return ends[mean > 0], False


def _p(differences: NDArray[np.float64], found: Estimate) -> float:
    p = paired_p(differences, found)
    return 1.0 if p is None else p


def _interval_says_so(one: _Open) -> bool:
    """Return whether the interval of the difference draws the same conclusion; True without one."""
    found = one.comparison.difference
    if found.low is None or found.high is None:
        return True
    if one.claim.about is None:
        return not found.holds(one.claim.margin)
    tolerance = one.claim.about.tolerance
    if one.favours:
        return -tolerance < found.low and found.high < tolerance
    return found.low > tolerance or found.high < -tolerance


def _judged(one: _Open, p: float | None) -> JudgedComparison:
    if p is None:
        return one.comparison
    if p < ALPHA and _interval_says_so(one):
        verdict = ClaimVerdict.HOLDS if one.favours else ClaimVerdict.FAILS
        return replace(one.comparison, p=p, verdict=verdict)
    raw = one.comparison.p
    why = "cannot be told apart"
    if one.comparison.difference.method == "heaps":
        why = "the seeds fall into two heaps"
    elif p < ALPHA:
        why = "the interval does not bear it out"
    elif raw is not None and raw < ALPHA:
        why = "not sure enough after the correction for many comparisons"
    elif one.comparison.difference.method == "equal" and one.favours:
        why = "every seed gave the same difference, and so few seeds cannot be sure of it"
    elif one.claim.about is not None:
        why = "the difference may lie within the tolerance or outside"
    return replace(one.comparison, p=p, why=why)


def _claim_verdict(comparisons: Sequence[JudgedComparison]) -> tuple[ClaimVerdict, str]:
    total = len(comparisons)
    counts = Counter(one.verdict for one in comparisons)
    held, failed = counts[ClaimVerdict.HOLDS], counts[ClaimVerdict.FAILS]
    if not total:
        return ClaimVerdict.UNDECIDED, "no such pair of cells was played"
    if total == 1:
        return comparisons[0].verdict, _told(comparisons[0])
    verdict = (
        ClaimVerdict.HOLDS if held == total
        else ClaimVerdict.PART if held
        else ClaimVerdict.FAILS if failed
        else ClaimVerdict.UNDECIDED
    )  # fmt: skip
    words = f"holds in {held} of {total} comparisons"
    words += f", contradicted in {failed}" if failed else ""
    words += f", open in {counts[ClaimVerdict.UNDECIDED]}" if counts[ClaimVerdict.UNDECIDED] else ""
    return verdict, "; ".join([words, *_breakdown(comparisons)])


def _told(one: JudgedComparison) -> str:
    d = one.difference
    if d.value is None:
        return one.why
    words = f"difference {_points(d.value)} points"
    words += f" ({reach_words(d, signed=True)})"
    if one.p is not None:
        words += f", {p_words(one.p)}"
    return f"{words}; {one.why}" if one.why else words


def _breakdown(comparisons: Sequence[JudgedComparison]) -> Iterator[str]:
    """Yield for each open axis along which verdicts differ how they differ."""
    spots = [spot for one in comparisons for spot in (one.first, one.second) if spot is not None]
    for name in (*(spots[0].at if spots else ()), DEFENDER):
        groups: dict[tuple[bool, Setting], list[JudgedComparison]] = {}
        for one in comparisons:
            value = one.value(name)
            if value is not None:
                groups.setdefault((isinstance(value, bool), value), []).append(one)
        shares = {
            value: (sum(one.verdict is ClaimVerdict.HOLDS for one in found), len(found))
            for (_, value), found in groups.items()
        }
        if len({held / total for held, total in shares.values()}) > 1:
            parts = (f"{value}: {held} of {total}" for value, (held, total) in shares.items())
            yield f"by {name} – " + ", ".join(list(parts)[:12])


def _finding(
    published: Published, claims: Sequence[ClaimLine], figures: Sequence[FigureLine]
) -> str:
    parts = [_counted("claim", [line.verdict for line in claims])] if claims else []
    if figures and published.is_comparable:
        parts.append(_counted("figure", [line.verdict for line in figures]))
    told = "; ".join(parts) or "nothing is claimed"
    if figures and not published.is_comparable:
        told += f"; figures are not comparable: {published.why_not}"
    return f"{published.source}: {told}."


def _counted(what: str, verdicts: Sequence[ClaimVerdict]) -> str:
    counts = Counter(verdicts)
    if len(verdicts) == 1:
        return f"the one {what} {_PLURAL[verdicts[0]][0]}"
    told = (
        f"{counts[verdict]} {_PLURAL[verdict][counts[verdict] > 1]}"
        for verdict in ClaimVerdict
        if counts[verdict]
    )
    return f"of {len(verdicts)} {what}s " + ", ".join(told)


def p_words(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"
