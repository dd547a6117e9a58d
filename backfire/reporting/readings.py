"""The finding of a group, and what intervals allow to say, in a word for a badge.

What may be said is decided by `server.referee.findings`; the verdict has the same in sentences.
"""

from __future__ import annotations

from dataclasses import dataclass

from backfire.reporting.text import points
from server.referee.damage.findings import HERE
from server.referee.findings import MATERIAL, UNLEARNT, code_of
from server.referee.results import Difference, Finding, FindingCode, GroupScores
from server.referee.verdict import no_better


@dataclass(frozen=True)
class Reading:
    """A word about a number.

    Attributes:
        words: What can be said.
        tone: ``bad`` (for the defender), ``good``, ``open`` or ``same``: a class of `style.css`.
        meaning: What the word means, in a sentence; shown on hover and in the legend.
    """

    words: str
    tone: str
    meaning: str = ""


_LEGEND: dict[FindingCode, Reading] = {
    "backfired": Reading(
        "backfires",
        "good",
        "the other attackers surely cost this group success, by 5 points or more: its attack beats "
        "its untrained control, and alone it succeeds more often, beyond the noise of inputs and "
        "trainings",
    ),
    "helped": Reading(
        "helped by the others",
        "bad",
        "together the group surely has more success than alone, by 5 points or more",
    ),
    "not_backfired": Reading(
        "does not backfire", "same", "a loss of 5 points or more to the others is ruled out"
    ),
    "bounded": Reading(
        "loses little, if anything",
        "same",
        "the interval holds zero and rules out that the others cost more than half of the success "
        "alone",
    ),
    "open": Reading(
        "unclear", "open", "too few inputs or trainings to say whether the others cost much"
    ),
    "lower": Reading(
        "lower together",
        "open",
        "in this one training together is below alone; another training may come out otherwise",
    ),
    "higher": Reading(
        "higher together",
        "open",
        "in this one training together is above alone; another training may come out otherwise",
    ),
    "alike": Reading(
        "as alone", "open", "in this one training together and alone cannot be told apart"
    ),
    "no_effect": Reading(
        "void: no effect",
        "open",
        "alone and together the attack does not surely beat the same triggers on a model that "
        "never saw them, so there is nothing that the others could take",
    ),
    "not_learnt": Reading(
        "void: not learnt",
        "open",
        "the model answers hardly better than a constant, so no attack on it means anything",
    ),
    "destroyed": Reading(
        "void: model destroyed",
        "open",
        "under attack the model answers hardly better than a constant, so no success rate against "
        "it means anything",
    ),
    "not_learnt_alone": Reading(
        "void: not learnt alone",
        "open",
        "a model that one attacker attacks alone learnt nothing, so nothing can be compared",
    ),
    "no_control": Reading(
        "not judged", "open", "the game without attackers was not played (referee.attacker_free)"
    ),
    "not_alone": Reading(
        "not played alone", "open", "no attacker was played alone (referee.alone)"
    ),
    "single": Reading("only attacker", "open", "there is nobody else who could cost it anything"),
    "no_damage": Reading(
        "no clear damage",
        "good",
        "clean accuracy cannot be told apart from that without attackers, test input by test input",
    ),
    "damages": Reading("does damage", "bad", "the attackers surely cost clean accuracy"),
    "hinder": Reading(
        "hinder each other",
        "good",
        "alone the attackers surely cost more in sum than together, test input by test input",
    ),
    "assist": Reading(
        "help each other",
        "bad",
        "together the attackers surely cost more than the sum of what each costs alone",
    ),
    "add_up": Reading(
        "damage, interplay unclear",
        "bad",
        "the attackers surely cost clean accuracy; whether they hinder or help each other cannot "
        "be told",
    ),
    "beside_others": Reading(
        "not played apart",
        "open",
        "what the group costs cannot be told from what the other attackers cost",
    ),
    "no_backdoor": Reading(
        "no backdoor", "open", "the group has no triggered input that the score counts"
    ),
}
_ONCE = "each game was trained once, and trained again it may come out otherwise"
_NO_EFFECT = Reading(
    "ASR as if untrained",
    "good",
    "input by input, the attack does not surely beat the same triggers on a model that never saw "
    "them",
)


_LOWER = Reading(
    "lower", "bad", "with the attackers this model is surely less accurate on the test inputs"
)
_HIGHER = Reading(
    "higher", "same", "with the attackers this model is surely more accurate on the test inputs"
)
_NO_COST = Reading(
    "no clear loss",
    "same",
    "input by input, clean accuracy cannot be told apart from that without attackers",
)


def group_readings(scores: GroupScores) -> list[Reading]:
    """Return a group's finding, and whether its attack does anything where that is not said."""
    found = [finding_reading(scores)]
    if code_of(scores) not in UNLEARNT | {"no_effect"} and no_better(scores):
        found.append(_NO_EFFECT)
    return found


def finding_reading(scores: GroupScores) -> Reading:
    """Return a group's finding as a badge."""
    found = scores.finding or Finding(code="not_alone")
    said = _LEGEND[found.code]
    if found.code == "bounded" and found.most is not None:
        return Reading(f"loses {points(found.most)[1:]} points at most", *_rest(said))
    if found.code == "no_effect" and _nothing_to_lose(scores):
        return Reading("void: no effect, alone either", *_rest(said))
    if found.trainings == 1:
        return Reading(said.words + HERE, "open", f"{said.meaning}; {_ONCE}")
    return said


def _nothing_to_lose(scores: GroupScores) -> bool:
    compared, found = scores.comparison, scores.finding
    return (
        compared is not None
        and compared.trainings > 1
        and found is not None
        and found.most is not None
        and found.most < MATERIAL
    )


def _rest(said: Reading) -> tuple[str, str]:
    return said.tone, said.meaning


def accuracy_reading(damage: Difference | None) -> Reading | None:
    """Return whether the attack costs clean accuracy, test input by test input."""
    if damage is None or damage.value is None:
        return None
    if damage.low > 0:
        return _LOWER
    return _HIGHER if damage.high < 0 else _NO_COST
