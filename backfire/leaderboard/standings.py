"""Who stands where: each defence by its worst case over attacks, ties called ties.

Only what was played alike is compared: a *bench* is one data set, model, training and division of
the data, and one score of a backdoor. The ranking number of a defence is its mean score under the
attack that does best against it. Ranked are defences that met every attack of the bench and pass
its gates (`backfire.leaderboard.gates`). Two are told apart by
`backfire.evidence.comparisons.rank`, by the values of their worst attack, seed by seed.

A row can be ranked and still not be relied on; `FLAGS` says for which reasons it is marked.

Source of the signs of gradient masking: A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients
Give a False Sense of Security", ICML 2018, section 3.1.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backfire.evidence.card import (
    AttackOnInputs,
    CardEntry,
    CardScore,
    Identity,
    SweepCard,
    is_undefended,
)
from backfire.evidence.comparisons import Rank, compare, compare_all, rank
from backfire.evidence.estimates import Estimate, estimate
from backfire.evidence.learnt import CONSTANT, Learning, learning
from backfire.evidence.series import bounds_of
from backfire.leaderboard import gates
from backfire.leaderboard.gates import Answer, Evidence, answers, costs_too_much
from learning.method import kind_of
from scenarios.narrowing import ONLY, said
from server.referee.registry import all_classes

FEW_SEEDS: Final = 5
# Accuracy this low is as good as gone, and cannot fall further.
_GONE: Final = 0.05
CLEAN: Final = "clean_accuracy"
FREE: Final = "clean_accuracy_attacker_free"
REMOVED: Final = "honest_removed"
# A defence against a backdoor is ranked by one of these, the lower the better.
RANKED: Final = tuple(kind_of(score) for score in all_classes() if score.ranked)

NO_REFERENCE: Final = "no undefended game"
DEAD_REFERENCE: Final = "undefended has not learnt"
EDGE: Final = "at the edge"

_FAR: Final = f"{100 * gates.DOUBT:g} points"
FLAGS: Final = {
    DEAD_REFERENCE: "nobody is ranked: the undefended model without attackers has not learnt, so "
    "that no attack on this bench means anything",
    gates.UNLEARNT: "not ranked: without attackers its clean accuracy is not above that of the "
    "best constant answer by a tenth of what that answer leaves to learn",
    gates.DESTROYED: "not ranked: the same under an attack",
    gates.CLEAN: "not ranked: without attackers its clean accuracy is more than "
    f"{100 * gates.COST:g} points below that of the undefended model without attackers",
    gates.ATTACKED: "not ranked: under an attack its clean accuracy is more than "
    f"{100 * gates.COST_ATTACKED:g} points below that of the undefended model without attackers",
    gates.REMOVED: "not ranked: it removed more than "
    f"{100 * gates.MOST_REMOVED:g} % of the honest agents' updates, counted in each round",
    NO_REFERENCE: "not ranked: nobody played undefended without attackers, so that nobody knows "
    "what accuracy a defence must keep; add a defender without defences to the sweep, and leave "
    "referee.attacker_free on",
    "incomplete": "not ranked: it did not meet every attack of the bench",
    EDGE: f"its mean is on the wrong side of the limit of “{gates.CLEAN}”, “{gates.ATTACKED}” or "
    f"“{gates.REMOVED}”, but not surely and by {_FAR} at most: noise may be why, and more seeds "
    "will tell",
    "few seeds": f"fewer than {FEW_SEEDS} seeds under its worst attack",
    "weak attack": "its worst attack is not surely better than the same triggers on a model that "
    "never saw them (asr_untrained), against any defence: a low score says nothing of the defence",
    "no backdoor": "its worst attack costs the undefended model more than "
    f"{100 * gates.COST_OF_ATTACK:g} points of clean accuracy: it is seen without any trigger",
    "no baseline": "the game without attackers was not played, so that nobody knows whether its "
    "worst attack is better than the same triggers on a model that never saw them (asr_untrained)",
    "old card": "its card was made before removed honest agents were counted; "
    f"the gate “{gates.REMOVED}” was not asked. Start the same sweep again: no game is replayed",
    "gradient masking": "one-step FGSM does surely more harm than PGD of the same norm and radius, "
    "or accuracy does not fall as the radius grows: its accuracy under attacks on inputs is not to "
    "be believed",
}


@dataclass(frozen=True)
class Met:
    """One attack against one defence, all cards together.

    Attributes:
        found: Mean score over seeds.
        by_seed: The score by seed.
        clean: Clean accuracy.
        entries: The cards' entries.
        replay: The commands that play it again, one for each card.
        old: Whether a card is too old to know what the rule removed.
    """

    found: Estimate
    by_seed: Mapping[int, float]
    clean: Estimate
    entries: Sequence[CardEntry]
    replay: Sequence[str]
    old: bool

    @property
    def work(self) -> float | None:
        """Trainings that the defence needs; None where no card says it."""
        known = [entry.work for entry in self.entries if entry.work is not None]
        return max(known, default=None)

    def mean_of(self, score: str) -> float | None:
        """Return another score's mean over seeds; None where no card has it."""
        return estimate(list(_by_seed(self.entries, score).values())).value


@dataclass(frozen=True)
class LeaderboardRow:
    """One defence.

    Attributes:
        defence: Which.
        place: Its rank with its worst case; None where it is not ranked.
        worst: Hash of the attack that does best against it.
        met: By the attacks' hashes.
        flags: Keys of `FLAGS`.
        answers: What the gates say that it does not pass, the worst attack of each gate.
    """

    defence: Identity
    place: Rank | None
    worst: str
    met: Mapping[str, Met]
    flags: Sequence[str]
    answers: Sequence[Answer]

    @property
    def rank(self) -> str:
        """Its rank as shown; "" where it is not ranked."""
        return "" if self.place is None else self.place.text

    @property
    def worst_case(self) -> Estimate:
        """The score under its worst attack."""
        return self.met[self.worst].found

    @property
    def clean(self) -> Estimate:
        """The lowest clean accuracy over the attacks."""
        known = [met.clean for met in self.met.values() if met.clean.value is not None]
        return min(known, key=lambda found: found.value or 0.0, default=estimate([]))

    @property
    def work(self) -> float | None:
        """The most trainings that it needs under an attack; None where no card says it."""
        return max((m.work for m in self.met.values() if m.work is not None), default=None)

    @property
    def replay(self) -> Sequence[str]:
        """The commands that play its worst case again."""
        return self.met[self.worst].replay


@dataclass(frozen=True)
class Bench:
    """What can be compared.

    Attributes:
        bench: Data, model and training.
        score: What attacks are measured by.
        attacks: By hash, in the order in which they were met.
        weak: Hashes of attacks that are not surely better than their baseline against any defence.
        unknown: Hashes of attacks whose baseline was not scored.
        costly: Hashes of attacks that cost the undefended model more than a backdoor may.
        reference: Clean accuracy of the undefended model without attackers, mean over attacks
            and seeds; None where it was not played.
        unlearnt: What the undefended model has learnt without attackers, for each attack (by hash)
            beside which it has not; then nobody is ranked.
        standings: The ranked first, by rank.
    """

    bench: Identity
    score: str
    attacks: Mapping[str, Identity]
    weak: frozenset[str]
    unknown: frozenset[str]
    costly: frozenset[str]
    reference: float | None
    unlearnt: Mapping[str, Learning]
    standings: Sequence[LeaderboardRow]


def benches(cards: Iterable[SweepCard]) -> list[Bench]:
    """Return the standings of all benches, in the order of the cards.

    A card whose score is none of `RANKED` says nothing of backdoors, and is left out.
    """
    found: dict[tuple[str, str], list[_Played]] = {}
    for card in cards:
        for entry in card.entries if card.score in RANKED else ():
            if card.score in entry.scores and entry.scores[card.score].by_seed:
                found.setdefault((entry.bench.hash, card.score), []).append(_Played(card, entry))
    return [_bench(played, score) for (_, score), played in found.items()]


@dataclass(frozen=True)
class _Played:
    card: SweepCard
    entry: CardEntry

    @property
    def replay(self) -> str:
        only = [f"{ONLY} {shlex.quote(f'{axis}={said(v)}')}" for axis, v in self.entry.at.items()]
        return " ".join([self.card.replay, *only])

    @property
    def old(self) -> bool:
        # In a pooled game no rule removes agents: there is nothing that an old card lacks.
        return self.card.card == 1 and not self.entry.bench.name.endswith(", pooled")


def _bench(played: Sequence[_Played], score: str) -> Bench:
    attacks: dict[str, Identity] = {}
    rows: dict[str, tuple[Identity, dict[str, list[_Played]]]] = {}
    for one in played:
        attacks.setdefault(one.entry.attack.hash, one.entry.attack)
        _, row = rows.setdefault(one.entry.defence.hash, (one.entry.defence, {}))
        row.setdefault(one.entry.attack.hash, []).append(one)
    met = {
        defence: {attack: _met(row[attack], score) for attack in attacks if attack in row}
        for defence, (_, row) in rows.items()
    }
    named = {defence: identity for defence, (identity, _) in rows.items()}
    undefended = [met[name] for name, identity in named.items() if is_undefended(identity)]
    free = {attack: _reference(attack, undefended) for attack in attacks}
    reference = {attack: _by_seed(entries, FREE) for attack, entries in free.items()}
    told = {attack: _learning(entries) for attack, entries in free.items()}
    unlearnt = {attack: one for attack, one in told.items() if one is not None and one.failed}
    unknown = frozenset(attack for attack in attacks if not _has_a_baseline(attack, met))
    doubts = _Doubts(
        weak=frozenset(a for a in attacks if a not in unknown and not _beats_baseline(a, met)),
        unknown=unknown,
        costly=frozenset(attack for attack in attacks if _is_costly(attack, undefended)),
        unlearnt=bool(unlearnt),
    )
    return Bench(
        played[0].entry.bench,
        score,
        attacks,
        doubts.weak,
        doubts.unknown,
        doubts.costly,
        estimate([value for values in reference.values() for value in values.values()]).value,
        unlearnt,
        _standings(named, met, reference, doubts),
    )


@dataclass(frozen=True)
class _Doubts:
    weak: frozenset[str]
    unknown: frozenset[str]
    costly: frozenset[str]
    unlearnt: bool


def _standings(
    named: Mapping[str, Identity],
    met: Mapping[str, Mapping[str, Met]],
    reference: Mapping[str, Mapping[int, float]],
    doubts: _Doubts,
) -> list[LeaderboardRow]:
    asked = {name: _asked(row, reference) for name, row in met.items()}
    worst = {name: max(row, key=lambda a: row[a].found.value or 0.0) for name, row in met.items()}
    barred = {
        name: list(_barred(met[name], asked[name], reference, doubts.unlearnt)) for name in named
    }
    full = {name: met[name][worst[name]].by_seed for name in named if not barred[name]}
    places = {place.name: place for place in rank(full, higher_is_better=False)}
    return [
        LeaderboardRow(
            named[name],
            places.get(name),
            worst[name],
            met[name],
            [*barred[name], *_flags(met[name], worst[name], asked[name], doubts)],
            asked[name],
        )
        for name in [*places, *(name for name in named if name not in places)]
    ]


def _met(played: Sequence[_Played], score: str) -> Met:
    entries = [one.entry for one in played]
    values, clean = _by_seed(entries, score), _by_seed(entries, CLEAN)
    return Met(
        estimate(list(values.values()), bounds=bounds_of(score)),
        values,
        estimate(list(clean.values()), bounds=bounds_of(CLEAN)),
        entries,
        list(dict.fromkeys(one.replay for one in played)),
        any(one.old for one in played),
    )


def _by_seed(entries: Sequence[CardEntry], score: str) -> dict[int, float]:
    """Return a score by seed; where cards differ in a seed the first one counts."""
    values: dict[int, float] = {}
    for entry in entries:
        found: CardScore | None = entry.scores.get(score)
        for seed, value in (found.seeds if found else {}).items():
            values.setdefault(seed, value)
    return dict(sorted(values.items()))


def _reference(attack: str, undefended: Sequence[Mapping[str, Met]]) -> list[CardEntry]:
    """Return what knows the undefended model without attackers, of the same agents if it can be.

    Other attacks have other agents, but without attackers the games differ by little.
    """
    rows = [row[attack] for row in undefended if attack in row]
    own = [entry for met in rows for entry in met.entries]
    others = [entry for row in undefended for met in row.values() for entry in met.entries]
    return own if _by_seed(own, FREE) else others


def _learning(entries: Sequence[CardEntry]) -> Learning | None:
    return learning(_by_seed(entries, FREE), _by_seed(entries, CONSTANT))


def _is_costly(attack: str, undefended: Sequence[Mapping[str, Met]]) -> bool:
    entries = [e for row in undefended if attack in row for e in row[attack].entries]
    return costs_too_much(_by_seed(entries, FREE), _by_seed(entries, CLEAN))


def _asked(row: Mapping[str, Met], reference: Mapping[str, Mapping[int, float]]) -> list[Answer]:
    """Return what the gates say that a defence does not pass, of each gate the worst attack."""
    evidence = {
        attack: Evidence(
            free=_by_seed(met.entries, FREE),
            attacked=_by_seed(met.entries, CLEAN),
            removed=_by_seed(met.entries, REMOVED),
            undefended=reference[attack],
            constant=_by_seed(met.entries, CONSTANT),
        )
        for attack, met in row.items()
    }
    open_ = [one for one in answers(evidence) if one.grade != "passed"]
    found: dict[str, Answer] = {}
    for one in sorted(open_, key=lambda one: (one.grade != "failed", -one.beyond)):
        found.setdefault(one.gate, one)
    return list(found.values())


def _barred(
    row: Mapping[str, Met],
    asked: Sequence[Answer],
    reference: Mapping[str, Mapping[int, float]],
    unlearnt: bool,
) -> Iterator[str]:
    """Yield why a defence is not ranked."""
    if unlearnt:
        yield DEAD_REFERENCE
    yield from (one.gate for one in asked if one.grade == "failed")
    if not all(reference.values()):
        yield NO_REFERENCE
    if len(row) < len(reference):
        yield "incomplete"


def _has_a_baseline(attack: str, met: Mapping[str, Mapping[str, Met]]) -> bool:
    return any(
        _by_seed(row[attack].entries, "asr_untrained") for row in met.values() if attack in row
    )


def _beats_baseline(attack: str, met: Mapping[str, Mapping[str, Met]]) -> bool:
    pairs = [
        (
            ("asr", _by_seed(row[attack].entries, "asr")),
            ("baseline", _by_seed(row[attack].entries, "asr_untrained")),
        )
        for row in met.values()
        if attack in row
    ]
    return any(one.verdict == "better" for one in compare_all(pairs))


def _flags(
    row: Mapping[str, Met], worst: str, asked: Sequence[Answer], doubts: _Doubts
) -> Iterator[str]:
    """Yield why a row is not to be relied on, ranked or not."""
    if any(one.grade == EDGE for one in asked):
        yield EDGE
    if row[worst].found.n < FEW_SEEDS:
        yield "few seeds"
    if worst in doubts.weak:
        yield "weak attack"
    if worst in doubts.costly:
        yield "no backdoor"
    if worst in doubts.unknown:
        yield "no baseline"
    if any(met.old for met in row.values()):
        yield "old card"
    if any(masks(entry.inputs) for met in row.values() for entry in met.entries):
        yield "gradient masking"


def masks(inputs: Sequence[AttackOnInputs]) -> bool:
    """Return whether accuracies under attacks on inputs show a sign of gradient masking."""
    steps = [
        (one, other)
        for one in inputs
        for other in inputs
        if (one.kind, other.kind) == ("fgsm", "pgd")
        and (one.norm, one.epsilon) == (other.norm, other.epsilon)
    ]
    radii = [
        (one, other)
        for one in inputs
        for other in inputs
        if one.others == other.others and 0 < one.epsilon < other.epsilon
    ]
    return any(_surely_less(one, other) for one, other in steps) or any(
        _does_not_fall(one, other) for one, other in radii
    )


def _surely_less(one: AttackOnInputs, other: AttackOnInputs) -> bool:
    pair = ("one", one.score.seeds), ("other", other.score.seeds)
    return compare(*pair).verdict == "worse"


def _does_not_fall(small: AttackOnInputs, large: AttackOnInputs) -> bool:
    low, high = small.score.value, large.score.value
    return low is not None and high is not None and high >= low and high > _GONE
