"""What the numbers say, in sentences, and no more than they say.

The first sentence is the finding: which groups of attackers backfired. What may be said of a group
is decided by `server.referee.findings` alone; here it is put into words. A lower ASR than alone is
the only sign of backfiring: an ASR that is low in both games is dilution, or an attack that does
not work. A sentence speaks of the agents that were played alone, and says of how many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from learning.statistics import MIN_CLUSTERS
from server.referee.damage.findings import HERE
from server.referee.damage.sentences import Damaging, damage_sentence, lost_words, named
from server.referee.findings import (
    BOUND,
    DESCRIBED,
    MATERIAL,
    UNLEARNT,
    code_of,
    is_void,
)
from server.referee.learnt import needed_accuracy
from server.referee.results import (
    AgentRecord,
    ControlComparison,
    DefenderScores,
    Difference,
    Finding,
    GroupScores,
    Quarantine,
    Score,
)
from server.referee.wording import many, percent, points_of

NAMED = 5
UNTOLD = "cannot be told apart"
UNSEEN = "a model that never saw the trigger"
CAVEAT = (
    "Intervals are 95 % and speak of this one deal of the data (interference of fewer than "
    f"{MIN_CLUSTERS} agents: of those agents only). Only where a game was trained several times do "
    "they hold the noise of training, too. Another seed deals other data."
)
CAVEAT_OF_DAMAGE = (
    "Intervals are 95 % and speak of these agents and this one deal of the data; their noise is "
    "that of the test inputs, of which all games have the same. Only where a game was trained "
    "several times do they hold the noise of training, too. Another seed deals other data."
)
ASK_FOR_REPEATS = (
    "Each game was trained once, so this describes what happened and concludes nothing: trained "
    "again, the same game may come out otherwise. With --set referee.repeats=5 the intervals hold "
    "that noise; a sweep over seeds holds that of the data, too."
)


def verdict(
    defenders: Mapping[str, DefenderScores],
    roster: Sequence[AgentRecord],
    quarantined: Sequence[Quarantine],
    notes: Sequence[str] = (),
    game: str = "",
) -> tuple[str, ...]:
    """Return the sentences; the first is the finding.

    The first defender without any defence is what the others are set beside; without one, the
    first defender.

    Args:
        defenders: Scores by name, in scenario order; at least one.
        roster: All agents.
        quarantined: Refused contributions and run-time sets.
        notes: What the training has to say (a model diverged, ...), one line each.
        game: The game to name, where the scenario plays both.
    """
    name = reference_of(defenders)
    reference = defenders[name]
    of = f" of the {game} game" if game else ""
    called = f"the undefended model{of}" if not reference.defences else f"the defender {name}"
    where = f"In the {game} game: " if game else ""
    others = {other: scores for other, scores in defenders.items() if other != name}
    damaging = _damaging(roster)
    only = _only_damage(roster)
    first = [] if only else [_finding(reference, called, roster)]
    return (
        *first,
        *_damage(damaging, only, called, reference),
        *_repeats(reference),
        *_baselines(reference, called),
        f"{_capital(called)} has {_clean(reference)}.",
        *_removals(name, reference),
        *(
            s
            for other, scores in others.items()
            for s in _defender(other, scores, reference, lossy=bool(damaging))
        ),
        *(where + sentence for sentence in _quarantines(quarantined)),
        *(f"{where}{_capital(note)}." for note in notes),
        CAVEAT_OF_DAMAGE if only else CAVEAT,
    )


def _damaging(roster: Sequence[AgentRecord]) -> dict[str, tuple[str, ...]]:
    """Return the admitted agents that aim at damage, by group."""
    groups: dict[str, list[str]] = {}
    for agent in roster:
        if agent.admitted and agent.damages:
            groups.setdefault(agent.group, []).append(agent.name)
    return {name: tuple(agents) for name, agents in groups.items()}


def _only_damage(roster: Sequence[AgentRecord]) -> bool:
    """Return whether there are attackers and all of them aim at damage."""
    cheats = [agent for agent in roster if agent.admitted and agent.malicious]
    return bool(cheats) and all(agent.damages for agent in cheats)


def _damage(
    groups: Mapping[str, tuple[str, ...]], only: bool, called: str, reference: DefenderScores
) -> list[str]:
    """Say what the attackers cost that aim at damage: all in one where nobody else attacks."""
    if not groups:
        return []
    if only:
        agents = tuple(name for names in groups.values() for name in names)
        name, several = named(list(groups)), len(groups) > 1
        who = [Damaging(name, agents, reference.malicious, whole=True, several=several)]
    else:
        who = [
            Damaging(name, agents, reference.groups.get(name), whole=False)
            for name, agents in groups.items()
        ]
    return [damage_sentence(one, called, reference) for one in who]


def reference_of(defenders: Mapping[str, DefenderScores]) -> str:
    """Return the defender that the others are set beside: the first undefended, else the first."""
    return next(
        (name for name, scores in defenders.items() if not scores.defences), next(iter(defenders))
    )


def _finding(reference: DefenderScores, called: str, roster: Sequence[AgentRecord]) -> str:
    cheats = [agent for agent in roster if agent.admitted and agent.malicious]
    if not cheats:
        return "No admitted agent attacked, so there is nothing that could backfire."
    if not reference.groups:
        return "Nothing can be said of any attack: no attacker could be scored."
    if (void := _void(reference, called)) is not None:
        return void
    if len(cheats) == 1:
        return (
            f"{cheats[0].name} is the only attacker, so no other attacker could make it fail"
            f"{_alone_at(reference)}."
        )
    damaging = _damaging(roster)
    said = [
        _group(name, scores, reference)
        for name, scores in reference.groups.items()
        if name not in damaging
    ]
    return f"Against {called}, " + "; ".join(said) + "."


def _void(reference: DefenderScores, called: str) -> str | None:
    """Return the one sentence on a game whose model has learnt nothing; None where it has."""
    codes = set(map(code_of, reference.groups.values()))
    constant, free = reference.constant_accuracy, reference.clean_accuracy_attacker_free
    if constant is None or not codes & UNLEARNT:
        return None
    clean = percent(reference.clean_accuracy.value)
    bar = (
        f"where a constant answer has {percent(constant)} and more than "
        f"{percent(needed_accuracy(constant))} counts as learnt"
    )
    if "destroyed" in codes and free is not None:
        return (
            f"Void: under attack {called} is no better than a constant answer (clean accuracy "
            f"{clean}, {percent(free.value)} without attackers, {bar}). The attack destroyed the "
            "model, so no success rate against it means anything."
        )
    beside = "" if free is None else f", {percent(free.value)} without attackers"
    return (
        f"Void: {called} learnt nothing (clean accuracy {clean}{beside}, {bar}), so nothing can be "
        "said of any attack on it. Train longer, or with another learning rate."
    )


def _alone_at(reference: DefenderScores) -> str:
    asr = reference.malicious.asr.pooled if reference.malicious else None
    return "" if asr is None or asr.value is None else f"; its ASR is {_share(asr)}"


def _group(name: str, scores: GroupScores, reference: DefenderScores) -> str:
    words, compared = judgement(name, scores, reference), scores.comparison
    if scores.asr.agents == 0:
        return words
    if compared is None:
        return f"{words} (ASR {_share(scores.asr.pooled)} together)"
    return f"{words}: {figures(compared, is_void(scores))}"


def figures(compared: ControlComparison, void: bool) -> str:
    """Return the figures behind a finding, all of the same agents, inputs and trainings.

    Args:
        compared: The group's.
        void: Whether interference says nothing, and is left out.
    """
    gap = compared.interference
    control = (
        "" if compared.untrained is None else f", {percent(compared.untrained.value)} untrained"
    )
    means = "" if compared.trainings == 1 else f", means of {compared.trainings} trainings"
    between = (
        ""
        if void
        else f"interference {_points(gap)}, 95 % interval {points_of(gap.low)} to "
        f"{points_of(gap.high)}, "
    )
    return (
        f"ASR {percent(compared.together.value)} together, {percent(compared.alone.value)} alone"
        f"{control} ({between}{agents_of(compared)}, {many(gap.count, 'input')}{means})"
    )


def agents_of(compared: ControlComparison) -> str:
    """Return whom a comparison speaks of, such as ``2 of 10 agents``."""
    if compared.agents == compared.of:
        return many(compared.of, "agent")
    return f"{compared.agents} of {many(compared.of, 'agent')}"


def judgement(name: str, scores: GroupScores, defender: DefenderScores, where: str = "") -> str:
    """Return what may be said of a group's interference, in words.

    Args:
        name: Of the group.
        scores: Against one defender.
        defender: All scores of that defender.
        where: What comes behind the verb, such as `` in the pooled game``.
    """
    found = scores.finding or Finding(code="not_alone")
    code, most = found.code, found.most
    if code == "no_effect":
        return _without_effect(name, where, scores.comparison, most)
    if code == "not_learnt_alone":
        return _unlearnt_alone(name, where, scores.comparison, defender.constant_accuracy)
    bound = "" if most is None else f", or by {points_of(most)} points at most"
    said = {
        "no_backdoor": f"{name} plays no backdoor that could backfire or has no input that could "
        "show it",
        "single": f"{name} is the only attacker{where}",
        "not_learnt": f"nothing can be said of {name}{where}: the model learnt nothing",
        "destroyed": f"nothing can be said of {name}{where}: the attack destroyed the model",
        "no_control": f"nothing can be said of {name}{where}, as the game without attackers was "
        "not played (referee.attacker_free)",
        "not_alone": f"nothing can be said of {name}{where}, as none of its attackers was played "
        "alone (referee.alone)",
        "lower": f"{name} has less success together than alone{where}, in this training",
        "higher": f"{name} has more success together than alone{where}, in this training",
        "alike": f"{name} has about the same success together and alone{where}, in this training",
        "backfired": f"{name} backfired{where}",
        "helped": f"{name} did not backfire{where} (the other attackers help it)",
        "not_backfired": f"{name} did not backfire{where}",
        "bounded": f"{name} did not backfire{where}{bound}",
        "open": f"whether {name} backfired{where} is unclear, with so few inputs or trainings",
        "no_damage": f"{name} does no damage{where} that can be told from none",
        "damages": f"{name} costs clean accuracy{where}",
        "hinder": f"{name}'s agents hinder each other{where}: alone they cost more in sum",
        "assist": f"{name}'s agents help each other{where}: together they cost more than the sum",
        "add_up": f"{name}'s agents cost clean accuracy{where}; whether they hinder or help each "
        "other cannot be told",
        "beside_others": f"what {name} costs{where} cannot be told from what the others cost",
    }[code]
    return f"{said}{HERE}" if found.trainings == 1 else said


def _without_effect(
    name: str, where: str, compared: ControlComparison | None, most: float | None
) -> str:
    """Judge an attack that does no better than its control: few inputs prove nothing."""
    said = (
        f"{name}'s attack{where} does not surely beat the same triggers on {UNSEEN}, alone or "
        "together"
    )
    if compared is None or compared.trainings == 1 or most is None or most > BOUND:
        return f"{said}, so nothing can be said of what the others cost it"
    if most < MATERIAL:
        return f"{said}: it had no success to lose"
    return f"{said}: it had no success to lose, or {points_of(most)} points at most"


def _unlearnt_alone(
    name: str, where: str, compared: ControlComparison | None, constant: float | None
) -> str:
    accuracy = None if compared is None else compared.clean_accuracy_alone
    least = "" if accuracy is None else f" (clean accuracy {percent(accuracy.value)}"
    bar = "" if constant is None else f", where a constant answer has {percent(constant)})"
    return (
        f"nothing can be said of {name}{where}: a model that one of its attackers attacks alone "
        f"learnt nothing{least}{bar}"
    )


def _baselines(reference: DefenderScores, called: str) -> list[str]:
    return [
        f"{name}'s ASR of {_share(scores.asr.pooled)} against {called} {worse} {_share(control)}."
        for name, scores in reference.groups.items()
        if code_of(scores) not in UNLEARNT
        and (control := _untrained(scores))
        and (worse := no_better(scores))
    ]


def _repeats(reference: DefenderScores) -> list[str]:
    """Ask for more trainings where one of each has described something."""
    found = [group.finding for group in reference.groups.values() if group.finding is not None]
    told = any(one.code in DESCRIBED or one.trainings == 1 for one in found)
    return [ASK_FOR_REPEATS] if told else []


def _defender(
    name: str, scores: DefenderScores, reference: DefenderScores, *, lossy: bool
) -> list[str]:
    """Say how a defender does beside the reference.

    Args:
        name: Of the defender.
        scores: Its scores.
        reference: Those of the reference.
        lossy: Whether agents aim at damage.
    """
    void = _void(scores, f"the defender {name}")
    if void is not None:
        return [f"{name}: {void}", *_removals(name, scores)]
    parts = [
        f"ASR of {group} {_beside(own, reference.groups[group])}{_unseen(own)}"
        for group, own in scores.groups.items()
        if own.asr.agents and group in reference.groups
    ]
    clean = f"{_clean(scores)}, {_compared(scores.clean_against)}"
    lost = [words] if lossy and (words := lost_words(scores.damage)) else []
    return [f"{name}: " + "; ".join([*parts, clean, *lost]) + ".", *_removals(name, scores)]


def _beside(own: GroupScores, other: GroupScores) -> str:
    values = own.asr.pooled.value, other.asr.pooled.value
    if None in values:
        return "has no inputs"
    one, two = map(percent, values)
    return f"{one} against {two}, {_compared(own.against)}"


def _compared(gap: Difference | None) -> str:
    """Say how a score of the same inputs differs from the reference's, in this training."""
    if gap is None or gap.value is None:
        return "not comparable"
    if gap.low <= 0 <= gap.high:
        return f"which {UNTOLD}"
    return f"{'lower' if gap.value < 0 else 'higher'} by {points_of(abs(gap.value))} points"


def _unseen(scores: GroupScores) -> str:
    control = _untrained(scores)
    worse = no_better(scores)
    return f"; it {worse} {_share(control)}" if control and worse else ""


def _clean(scores: DefenderScores) -> str:
    free = scores.clean_accuracy_attacker_free
    beside = (
        "" if free is None or free.value is None else f" ({percent(free.value)} without attackers)"
    )
    return f"clean accuracy {percent(scores.clean_accuracy.value)}{beside}"


def _removals(name: str, scores: DefenderScores) -> list[str]:
    said = [
        f"{name}: {one.kind} removed {many(one.removed, 'row')}, {one.true_positives} of the "
        f"{one.poisoned} poisoned ones among them."
        for one in scores.filters
    ]
    found = scores.detection
    if found is not None and found.removed is not None:
        said.append(
            f"{name}: over {many(found.rounds, 'round')} its rule removed "
            f"{many(found.removed, 'update')}, {found.true_positives} of the {found.cheating} "
            "cheating ones among them."
        )
    if scores.guess_accuracy is not None and scores.guess_accuracy.value is not None:
        right = percent(scores.guess_accuracy.value)
        said.append(f"{name} guesses the asking agent right for {right} of the triggered inputs.")
    return said


def _quarantines(quarantined: Sequence[Quarantine]) -> list[str]:
    kinds = {
        "contribution": ("contribution", "the game is the one without"),
        "run_time_set": (
            "run-time set",
            "not scored, and no row known as poisoned, also in the games without attackers, for "
            "lack of",
        ),
    }
    said = []
    for stage, (what, effect) in kinds.items():
        refused = [one for one in quarantined if one.stage == stage]
        if refused:
            named = ", ".join(f"{one.agent} ({one.code})" for one in refused[:NAMED])
            more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
            it = "it" if len(refused) == 1 else "them"
            said.append(f"{many(len(refused), what)} quarantined, {effect} {it}: {named}{more}.")
    return said


def _untrained(scores: GroupScores) -> Score | None:
    control = scores.asr_untrained
    return None if control is None or control.pooled.value is None else control.pooled


def no_better(scores: GroupScores) -> str:
    """Say how an attack fails to beat its control, input by input; empty where it does."""
    effect = scores.effect
    if effect is None or effect.value is None or effect.low > 0:
        return ""
    return f"is below that of {UNSEEN}," if effect.high < 0 else f"{UNTOLD} from {UNSEEN},"


def _points(gap: Difference) -> str:
    return "unknown" if gap.value is None else f"{points_of(gap.value)} points"


def _share(score: Score) -> str:
    return f"{percent(score.value)} ({points_of(score.low)} to {points_of(score.high)})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
