"""How well a rule of a federated game tells who cheats, against the truth.

Scored is the rule's judgement of the updates that were admitted in a round of the attacked game.
Positive is an update of a malicious agent that cheats in that round, so not one that it hands over
while its window is closed; the defender's own virtual agent is neither. *Removed* is an admitted
update that the rule did not select. Rules that only weigh (the geometric median, clipping) remove
nobody and have an AUROC alone; rules that do neither (the median of each coordinate, the plain
mean) have no detection, and nor have rounds that were skipped or fell back to another rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from learning.metrics import auroc
from learning.pool import Bools, Floats
from scenarios.participation import Participation
from scenarios.scenario import Scenario
from server.referee.results import AgentDetection, DetectionScores, RoundDetection, RoundScores
from server.referee.scoring.scores import share

if TYPE_CHECKING:
    from torch import Tensor

# Trusts that differ by rounding alone are ties.
DECIMALS = 12


class CheatingAgents:
    """Who cheats in which round, as the referee knows it."""

    def __init__(self, scenario: Scenario) -> None:
        self._participation = Participation(scenario)
        self._malicious = {p.name: p for p in scenario.roster() if p.group.malicious}

    def among(self, agents: Iterable[str], round: int) -> tuple[str, ...]:
        """Return those of a round's agents that cheat in it, in order."""
        return tuple(
            name
            for name in agents
            if name in self._malicious and self._participation.cheats(self._malicious[name], round)
        )


def round_detection(
    agents: Sequence[str],
    cheated: Sequence[str],
    selected: Sequence[str] | None,
    weights: Tensor | None,
) -> RoundDetection | None:
    """Score a rule's judgement of one round.

    Args:
        agents: Whose updates were admitted, in the order of `weights`.
        cheated: Those of them that cheated.
        selected: Those that the rule took; None for a rule that does not select.
        weights: `strategies.federated.RoundResult.weights`, float64 (n,), n >= the number of
            agents: rows of the defender's own come after theirs. None for a rule whose trust is
            no judgement.

    Returns:
        The scores; None for a rule that judges nobody. The AUROC is that of the weights, where
        there are any, else of not being selected; ties count half.
    """
    if selected is None and weights is None:
        return None
    heard = None
    if weights is not None:
        values = weights.tolist()[: len(agents)]
        heard = {n: round(max(0.0, v), DECIMALS) for n, v in zip(agents, values, strict=True)}
    precision = recall = None
    if selected is not None:
        removed = set(agents) - set(selected)
        caught = len(removed & set(cheated))
        precision, recall = share(caught, len(removed)), share(caught, len(cheated))
    return RoundDetection(
        cheated=tuple(cheated),
        precision=precision,
        recall=recall,
        auroc=auroc(_suspicion(agents, selected, heard), np.isin(agents, cheated)),
        weights=heard,
    )


def detection_scores(rounds: Sequence[RoundScores]) -> DetectionScores | None:
    """Return the sums over all rounds that were judged; None where none was."""
    judged = [(entry, entry.detection) for entry in rounds if entry.detection is not None]
    if not judged:
        return None
    ledgers: dict[str, _Ledger] = {}
    for entry, found in judged:
        suspicion = _suspicion(entry.admitted, entry.selected, found.weights)
        cheats = np.isin(entry.admitted, found.cheated)
        hits, pairs = _ordered(suspicion, cheats)
        taken = entry.admitted if entry.selected is None else entry.selected
        for at, name in enumerate(entry.admitted):
            ledger = ledgers.setdefault(name, _Ledger())
            ledger.book(name not in taken, bool(cheats[at]), float(hits[at]), int(pairs[at]))
    selects = any(entry.selected is not None for entry, _ in judged)
    return _summed(list(ledgers.values()), len(judged), selects, ledgers)


class _Ledger:
    """What happened to one agent over the rounds."""

    def __init__(self) -> None:
        self.judged = self.removed = self.cheated = self.caught = 0
        self.hits, self.pairs = 0.0, 0
        self.hits_of_cheats, self.pairs_of_cheats = 0.0, 0

    def book(self, removed: bool, cheats: bool, hits: float, pairs: int) -> None:
        self.judged += 1
        self.removed += removed
        self.cheated += cheats
        self.caught += removed and cheats
        self.hits += hits
        self.pairs += pairs
        if cheats:
            self.hits_of_cheats += hits
            self.pairs_of_cheats += pairs

    def scores(self, selects: bool) -> AgentDetection:
        return AgentDetection(
            judged=self.judged,
            cheated=self.cheated,
            removed=self.removed if selects else None,
            caught=self.caught if selects else None,
            auroc=self.hits / self.pairs if self.pairs else None,
        )


def _summed(
    every: Sequence[_Ledger], rounds: int, selects: bool, by_agent: dict[str, _Ledger]
) -> DetectionScores:
    removed, caught = sum(one.removed for one in every), sum(one.caught for one in every)
    cheating = sum(one.cheated for one in every)
    # Each pair of a cheating and another update counts once: on the side that cheats.
    pairs = sum(one.pairs_of_cheats for one in every)
    hits = sum(one.hits_of_cheats for one in every)
    return DetectionScores(
        rounds=rounds,
        updates=sum(one.judged for one in every),
        cheating=cheating,
        removed=removed if selects else None,
        true_positives=caught if selects else None,
        precision=share(caught, removed) if selects else None,
        recall=share(caught, cheating) if selects else None,
        auroc=hits / pairs if pairs else None,
        by_agent={name: ledger.scores(selects) for name, ledger in by_agent.items()},
    )


def _suspicion(
    agents: Sequence[str], selected: Sequence[str] | None, weights: dict[str, float] | None
) -> Floats:
    if weights is not None:
        return np.asarray([-weights[name] for name in agents], dtype=np.float64)
    taken = set(selected or ())
    return np.asarray([name not in taken for name in agents], dtype=np.float64)


def _ordered(suspicion: Floats, cheats: Bools) -> tuple[Floats, Floats]:
    """Return how often each update and one of the other kind are in order, and of how many.

    A pair is in order where the one that cheats is the more suspicious; a tie is half of one.
    """
    bad, good = np.sort(suspicion[cheats]), np.sort(suspicion[~cheats])
    below = _mid_rank(good, suspicion)
    above = len(bad) - _mid_rank(bad, suspicion)
    return np.where(cheats, below, above), np.where(cheats, len(good), len(bad))


def _mid_rank(values: Floats, at: Floats) -> Floats:
    ends = [np.searchsorted(values, at, side) for side in ("left", "right")]
    return np.asarray((ends[0] + ends[1]) / 2)
