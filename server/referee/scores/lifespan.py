"""How fast a backdoor sets, how much of it there was, and how long it outlives its attack.

All read the attacker's asr after each round that was evaluated (`federation.evaluate_every`), in
the attacked game. Where the game ends first the amount is a lower bound (`at_least`), and a mean
over such amounts is the mean up to the end of the game (a restricted mean).

Sources:
    Lifespan: Z. Zhang, A. Panda, L. Song, Y. Yang, M. W. Mahoney, P. Mittal, K. Ramchandran,
        J. Gonzalez, "Neurotoxin: Durable Backdoors in Federated Learning", ICML 2022,
        Definition 1. Theirs has a fixed threshold of accuracy; here it is a share of what the
        backdoor had reached when its attack ended, so that a weak one has a lifespan, too.
    Restricted mean: P. Royston, M. K. B. Parmar, "Restricted mean survival time", BMC Medical
        Research Methodology 13 (2013) 152.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from server.referee.results import Quantity
from server.referee.scores.base import AMOUNT, NO_INTERVAL, BackdoorScore, Bounds, Computed

if TYPE_CHECKING:
    from server.referee.facts import AgentFacts

ROUNDS = "rounds"


class Lifespan(BackdoorScore):
    """Rounds until a backdoor falls under a share of its ASR after its last attack."""

    kind: Literal["lifespan"] = "lifespan"
    paper: ClassVar[str] = (
        "Zhang et al., Neurotoxin: Durable Backdoors in Federated Learning, ICML 2022, Definition 1"
    )
    definition: ClassVar[str] = (
        "rounds from an attacker's last attack to the first evaluation at which its asr is under "
        "the given share (in %) of its asr after that attack; where the game ends before, the "
        "rounds that were left; none where no round was left, or the asr was 0"
    )
    head: ClassVar[str] = "lifespan"
    interval: ClassVar[str] = NO_INTERVAL
    higher_is_better: ClassVar[bool | None] = False
    bounds: ClassVar[Bounds] = AMOUNT
    unit: ClassVar[str] = ROUNDS
    rank: ClassVar[int] = 110

    share: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="Share of the ASR after the last attack under which the backdoor is gone.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """See `ScoreMethod.title`: ``lifespan:50`` for a share of 0.5."""
        return f"{self.kind}:{100 * self.share:g}"

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        last, after = _since(facts, -1)
        if not after or not after[0][1] or after[-1][0] == last:
            return None
        limit = self.share * after[0][1]
        for at, asr in after:
            if asr < limit:
                return Quantity(value=at - last, unit=ROUNDS)
        return Quantity(value=after[-1][0] - last, unit=ROUNDS, at_least=True)


class TimeToBreak(BackdoorScore):
    """Rounds of attack until a backdoor works."""

    kind: Literal["time_to_break"] = "time_to_break"
    definition: ClassVar[str] = (
        "rounds from an attacker's first attack, that one counted, to the first evaluation at "
        "which its asr is at least the given level (in %); where the game ends before, the rounds "
        "that were played"
    )
    head: ClassVar[str] = "time to break"
    interval: ClassVar[str] = NO_INTERVAL
    higher_is_better: ClassVar[bool | None] = True
    bounds: ClassVar[Bounds] = AMOUNT
    unit: ClassVar[str] = ROUNDS
    rank: ClassVar[int] = 111

    level: float = Field(
        0.5,
        gt=0,
        le=1,
        description="ASR at which the backdoor works.",
        json_schema_extra={"origin": "ours"},
    )

    @property
    def title(self) -> str:
        """See `ScoreMethod.title`: ``time_to_break:50`` for a level of 0.5."""
        return f"{self.kind}:{100 * self.level:g}"

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        first, seen = _since(facts, 0)
        for at, asr in seen:
            if asr >= self.level:
                return Quantity(value=at - first + 1, unit=ROUNDS)
        if not seen:
            return None
        return Quantity(value=seen[-1][0] - first + 1, unit=ROUNDS, at_least=True)


class AreaUnderASR(BackdoorScore):
    """How much of a backdoor there was over the rounds."""

    kind: Literal["area_under_asr"] = "area_under_asr"
    definition: ClassVar[str] = (
        "area under the curve of an attacker's asr over the rounds from its first attack to the "
        "end, by the trapezoidal rule, divided by these rounds: 1 is a backdoor that always worked"
    )
    head: ClassVar[str] = "area under ASR"
    interval: ClassVar[str] = NO_INTERVAL
    higher_is_better: ClassVar[bool | None] = False
    rank: ClassVar[int] = 112

    def of_backdoor(self, facts: AgentFacts) -> Computed:
        """See `BackdoorScore.of_backdoor`."""
        _, seen = _since(facts, 0)
        if not seen:
            return None
        (start, value), end = seen[0], seen[-1][0]
        pairs = pairwise(seen)
        area = sum((there - here) * (one + other) / 2 for (here, one), (there, other) in pairs)
        return Quantity(value=area / (end - start) if end > start else value)


def _since(facts: AgentFacts, which: Literal[0, -1]) -> tuple[int, list[tuple[int, float]]]:
    """Return a round of attack, and round and asr of the evaluations with an asr from it on.

    Args:
        facts: What is known of an attacker; of one that never attacked nothing is returned.
        which: 0 for its first round of attack, -1 for its last.
    """
    rounds = facts.history.rounds if facts.history is not None else ()
    if not rounds:
        return 0, []
    told = sorted(facts.asr_by_round.items())
    start = rounds[which]
    return start, [(at, s.value) for at, s in told if s.value is not None and at >= start]
