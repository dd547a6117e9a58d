"""What the gates say, in sentences with the numbers."""

from __future__ import annotations

from backfire.evidence.learnt import Learning
from backfire.leaderboard.gates import CLEAN, COST, COST_ATTACKED, REMOVED, UNLEARNT, Answer
from backfire.leaderboard.standings import Bench, LeaderboardRow
from backfire.reporting.text import NONE, number, plain


def reasons(row: LeaderboardRow, bench: Bench) -> list[str]:
    """Return a sentence for each gate that a defence does not pass."""
    return [_reason(one, plain(bench.attacks[one.attack].name, 200)) for one in row.answers]


def nobody(bench: Bench) -> str:
    """Return why a bench ranks nobody, its undefended model being dead; "" where it lives."""
    if not bench.unlearnt:
        return ""
    attack, found = max(bench.unlearnt.items(), key=lambda one: one[1].needed - one[1].accuracy)
    beside = f" beside {plain(bench.attacks[attack].name, 200)}" if len(bench.attacks) > 1 else ""
    return f"nobody is ranked: undefended, {_unlearnt(found, f'without attackers{beside}')}"


def _reason(answer: Answer, attack: str) -> str:
    head = "not ranked" if answer.grade == "failed" else answer.grade
    if answer.learning is not None:
        where = "without attackers" if answer.gate == UNLEARNT else f"under {attack}"
        return f"{head}: {_unlearnt(answer.learning, where)}"
    return f"{head}: {_found(answer, attack)} (mean over {_seeds(answer.seeds)})"


def _unlearnt(found: Learning, where: str) -> str:
    return (
        f"the model has not learnt {where}: clean accuracy is {_percent(found.accuracy)}, with "
        f"{found.unlearnt} of {_seeds(found.seeds)} not above {_percent(found.needed)} (the best "
        f"constant answer has {_percent(found.constant)})"
    )


def _found(answer: Answer, attack: str) -> str:
    if answer.gate == REMOVED:
        return (
            f"{_percent(answer.value)} of the honest agents' updates were removed under {attack}; "
            f"at most {_percent(answer.limit)} may be"
        )
    cost = COST if answer.gate == CLEAN else COST_ATTACKED
    where = "without attackers" if answer.gate == CLEAN else f"under {attack}"
    undefended = f"undefended without attackers {_percent(answer.limit + cost)}"
    return (
        f"clean accuracy {where} is {_percent(answer.value)}; at least {_percent(answer.limit)} is "
        f"asked ({undefended}, less {100 * cost:g} points)"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _seeds(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")


def trainings(work: float | None) -> str:
    """Return a defence's cost as text."""
    return NONE if work is None else number(work)
