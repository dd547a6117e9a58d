"""Who stands where: each defence by its worst case over attacks, ties called ties.

Only what was played alike is compared: a *bench* is one data set, model, training and division of
the data, and one score. The ranking number of a defence is its mean score under the attack that
does best against it; only defences that met every attack of the bench are ranked. Two are told
apart by `backfire.analysis.comparisons.rank`, by the values of their worst attack, seed by seed.

A row can be ranked and still not be relied on; `FLAGS` says for which reasons it is marked.

Source of the signs of gradient masking: A. Athalye, N. Carlini, D. Wagner, "Obfuscated Gradients
Give a False Sense of Security", ICML 2018, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from backfire.analysis.card import AttackOnInputs, Card, CardScore, Entry, Identity
from backfire.analysis.comparisons import Place, compare, compare_all, rank
from backfire.analysis.estimates import Estimate, estimate

FEW_SEEDS: Final = 5
# Accuracy this low is as good as gone, and cannot fall further.
_GONE: Final = 0.05
CLEAN: Final = "clean_accuracy"

FLAGS: Final = {
    "few seeds": f"fewer than {FEW_SEEDS} seeds under its worst attack",
    "weak attack": "its worst attack is not surely better than the same triggers on a model that "
    "never saw them (asr_untrained), against any defence: a low score says nothing of the defence",
    "no baseline": "the game without attackers was not played, so that nobody knows whether its "
    "worst attack is better than the same triggers on a model that never saw them (asr_untrained)",
    "gradient masking": "one-step FGSM does surely more harm than PGD of the same norm and radius, "
    "or accuracy does not fall as the radius grows: its accuracy under attacks on inputs is not to "
    "be believed",
    "incomplete": "it did not meet every attack of the bench, and is not ranked",
}


@dataclass(frozen=True)
class Met:
    """One attack against one defence, all cards together.

    Attributes:
        found: Mean score over seeds.
        by_seed: The score by seed.
        clean: Clean accuracy.
        entries: The cards' entries.
    """

    found: Estimate
    by_seed: Mapping[int, float]
    clean: Estimate
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Standing:
    """One defence.

    Attributes:
        defence: Which.
        place: Its rank with its worst case; None where it is not ranked.
        worst: Hash of the attack that does best against it.
        met: By the attacks' hashes.
        flags: Keys of `FLAGS`.
    """

    defence: Identity
    place: Place | None
    worst: str
    met: Mapping[str, Met]
    flags: Sequence[str]

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


@dataclass(frozen=True)
class Bench:
    """What can be compared.

    Attributes:
        bench: Data, model and training.
        score: What attacks are measured by.
        attacks: By hash, in the order in which they were met.
        weak: Hashes of attacks that are not surely better than their baseline against any defence.
        unknown: Hashes of attacks whose baseline was not scored.
        standings: The ranked first, by rank.
    """

    bench: Identity
    score: str
    attacks: Mapping[str, Identity]
    weak: frozenset[str]
    unknown: frozenset[str]
    standings: Sequence[Standing]


def benches(cards: Iterable[Card]) -> list[Bench]:
    """Return the standings of all benches, in the order of the cards."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for card in cards:
        for entry in card.entries:
            if card.score in entry.scores and entry.scores[card.score].by_seed:
                found.setdefault((entry.bench.hash, card.score), []).append(entry)
    return [_bench(entries, score) for (_, score), entries in found.items()]


def _bench(entries: Sequence[Entry], score: str) -> Bench:
    attacks: dict[str, Identity] = {}
    defences: dict[str, Identity] = {}
    grouped: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        attacks.setdefault(entry.attack.hash, entry.attack)
        defences.setdefault(entry.defence.hash, entry.defence)
        grouped.setdefault((entry.defence.hash, entry.attack.hash), []).append(entry)
    met = {key: _met(found, score) for key, found in grouped.items()}
    unknown = frozenset(attack for attack in attacks if not _has_a_baseline(attack, met))
    weak = frozenset(attacks) - unknown
    weak = frozenset(attack for attack in weak if not _beats_its_baseline(attack, met))
    rows = {
        name: {attack: met[name, attack] for attack in attacks if (name, attack) in met}
        for name in defences
    }
    worst = {name: max(row, key=lambda a: row[a].found.value or 0.0) for name, row in rows.items()}
    full = {n: rows[n][worst[n]].by_seed for n in rows if len(rows[n]) == len(attacks)}
    places = {place.name: place for place in rank(full, higher_is_better=False)}
    standings = [
        Standing(
            defences[name],
            places.get(name),
            worst[name],
            rows[name],
            list(_flags(rows[name], worst[name], weak, unknown, name in places)),
        )
        for name in [*places, *(name for name in rows if name not in places)]
    ]
    return Bench(entries[0].bench, score, attacks, weak, unknown, standings)


def _met(entries: Sequence[Entry], score: str) -> Met:
    values, clean = _by_seed(entries, score), _by_seed(entries, CLEAN)
    return Met(estimate(list(values.values())), values, estimate(list(clean.values())), entries)


def _by_seed(entries: Sequence[Entry], score: str) -> dict[int, float]:
    """Return a score by seed; where cards differ in a seed the first one counts."""
    values: dict[int, float] = {}
    for entry in entries:
        found: CardScore | None = entry.scores.get(score)
        for seed, value in (found.seeds if found else {}).items():
            values.setdefault(seed, value)
    return dict(sorted(values.items()))


def _has_a_baseline(attack: str, met: Mapping[tuple[str, str], Met]) -> bool:
    return any(
        _by_seed(one.entries, "asr_untrained") for (_, name), one in met.items() if name == attack
    )


def _beats_its_baseline(attack: str, met: Mapping[tuple[str, str], Met]) -> bool:
    pairs = [
        (
            ("asr", _by_seed(one.entries, "asr")),
            ("baseline", _by_seed(one.entries, "asr_untrained")),
        )
        for (_, name), one in met.items()
        if name == attack
    ]
    return any(one.verdict == "better" for one in compare_all(pairs))


def _flags(
    row: Mapping[str, Met],
    worst: str,
    weak: frozenset[str],
    unknown: frozenset[str],
    ranked: bool,
) -> Iterator[str]:
    if row[worst].found.n < FEW_SEEDS:
        yield "few seeds"
    if worst in weak:
        yield "weak attack"
    if worst in unknown:
        yield "no baseline"
    if any(masks(entry.inputs) for met in row.values() for entry in met.entries):
        yield "gradient masking"
    if not ranked:
        yield "incomplete"


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
