"""What may be said of a group's interference: gates, in their order, then a conclusion.

1. Has the model learnt? Its clean accuracy must surely be above what the best constant answer has,
   and by `LEARNT` of what that answer leaves to learn: without attackers, under attack, and in each
   game that an attacker attacks alone. A constant answer that happens to be somebody's target is no
   attack.
2. Does the attack do anything? Alone or together it must surely beat the same triggers on a model
   that never saw them, input by input.
3. Only then `interference`, alone - together. With several trainings of each game its interval
   holds the noise of training, and a conclusion is drawn: a group backfired where interference is
   surely above zero and at least `MATERIAL`. It did not where that much is ruled out; where the
   interval holds zero and rules out the loss of `KEPT` of the attack's strength alone, it did not
   beyond the bound that is named; else it cannot be told. With one training of each the game only
   describes what happened in it.

What fails a gate is void for all that lies behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from server.referee.damage.findings import damage_finding
from server.referee.learnt import has_learnt
from server.referee.results import (
    ControlComparison,
    DefenderScores,
    Difference,
    Finding,
    GroupScores,
    Score,
)

MATERIAL = 0.05
KEPT = 0.5
# More than this an attack without an effect may do alone only if few inputs tell.
BOUND = 0.2

# Findings of a game that passed all gates: what one training describes, what several conclude.
DESCRIBED = frozenset({"lower", "higher", "alike"})
CONCLUDED = frozenset({"backfired", "helped", "not_backfired", "bounded", "open"})
# Findings of a model that has not learnt: no attack on it means anything.
UNLEARNT = frozenset({"not_learnt", "destroyed"})


def code_of(group: GroupScores) -> str:
    """Return the code of a group's finding; "" where it was not judged."""
    return "" if group.finding is None else group.finding.code


def is_void(group: GroupScores) -> bool:
    """Return whether a group's interference says nothing, since a gate was not passed."""
    return code_of(group) not in DESCRIBED | CONCLUDED


def judged(
    scores: DefenderScores,
    attackers: int,
    damaging: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> DefenderScores:
    """Return the scores with the finding of each group, and of all attackers together.

    Args:
        scores: Of one defender.
        attackers: Admitted attackers in the game.
        damaging: The agents that aim at damage, by group; they are judged by
            `server.referee.damage.findings`.
    """

    def found(group: GroupScores, agents: int) -> GroupScores:
        said = (
            damage_finding(group, scores, whole=agents == attackers)
            if agents
            else finding(group, scores, attackers)
        )
        return group.model_copy(update={"finding": said})

    sizes = {name: len(damaging.get(name, ())) for name in scores.groups}
    groups = {name: found(own, sizes[name]) for name, own in scores.groups.items()}
    # Attackers of both aims are judged as the backdoors among them are.
    of_all = sum(sizes.values()) if all(sizes.values()) else 0
    everybody = None if scores.malicious is None else found(scores.malicious, of_all)
    return scores.model_copy(update={"groups": groups, "malicious": everybody})


def finding(group: GroupScores, scores: DefenderScores, attackers: int) -> Finding:
    """Return what may be said of one group against one defender.

    Args:
        group: The group's scores.
        scores: The defender's.
        attackers: Admitted attackers in the game.
    """
    if group.asr.agents == 0:
        return Finding(code="no_backdoor")
    if (gate := _learnt(scores)) is not None:
        return gate
    if attackers == 1:
        return Finding(code="single")
    compared = group.comparison
    if compared is None:
        return Finding(code="not_alone")
    if _learnt_nothing_alone(compared, scores.constant_accuracy):
        return Finding(code="not_learnt_alone")
    if compared.alone_effect is None or compared.together_effect is None:
        return Finding(code="no_control")
    if not (_surely(compared.alone_effect) or _surely(compared.together_effect)):
        return Finding(code="no_effect", most=_bound(compared.alone_effect))
    gap = compared.interference
    return _described(gap) if gap.trainings == 1 else _concluded(gap, compared.alone)


def _learnt(scores: DefenderScores) -> Finding | None:
    """Return the finding of a model that has not learnt; None for one that has."""
    constant, free = scores.constant_accuracy, scores.clean_accuracy_attacker_free
    if constant is None:
        return None
    if free is not None and not has_learnt(free, constant):
        return Finding(code="not_learnt")
    if not has_learnt(scores.clean_accuracy, constant):
        return Finding(code="not_learnt" if free is None else "destroyed")
    return None


def _learnt_nothing_alone(compared: ControlComparison, constant: float | None) -> bool:
    accuracy = compared.clean_accuracy_alone
    return accuracy is not None and constant is not None and not has_learnt(accuracy, constant)


def _surely(effect: Difference) -> bool:
    return effect.value is not None and effect.low > 0


def _bound(effect: Difference) -> float:
    return max(0.0, effect.high)


def _described(gap: Difference) -> Finding:
    if gap.low > 0:
        return Finding(code="lower")
    return Finding(code="higher" if gap.high < 0 else "alike")


def _concluded(gap: Difference, alone: Score) -> Finding:
    if gap.value is None or alone.value is None:
        return Finding(code="open")
    if gap.low > 0 and gap.value >= MATERIAL:
        return Finding(code="backfired")
    if gap.high < 0 and gap.value <= -MATERIAL:
        return Finding(code="helped")
    if gap.high < MATERIAL:
        return Finding(code="not_backfired")
    if gap.low <= 0 and gap.high <= KEPT * alone.value:
        return Finding(code="bounded", most=gap.high)
    return Finding(code="open")
