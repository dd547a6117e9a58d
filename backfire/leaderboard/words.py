"""What the gates say, in sentences with the numbers."""

from __future__ import annotations

from backfire.leaderboard.gates import CLEAN, COST, COST_ATTACKED, REMOVED, Answer
from backfire.leaderboard.standings import Bench, Standing
from backfire.report.text import NONE, number, plain


def reasons(row: Standing, bench: Bench) -> list[str]:
    """Return a sentence for each gate that a defence does not pass."""
    return [_reason(one, plain(bench.attacks[one.attack].name, 200)) for one in row.answers]


def _reason(answer: Answer, attack: str) -> str:
    head = "not ranked" if answer.grade == "failed" else answer.grade
    return f"{head}: {_found(answer, attack)} (mean over {_seeds(answer.seeds)})"


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
