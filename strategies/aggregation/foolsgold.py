"""FoolsGold: agents whose updates have always pointed the same way are trusted less.

Fung, Yoon, Beschastnikh, The Limitations of Federated Learning in Sybil Settings, RAID 2020 (arXiv
1808.04866), Algorithm 1. H_i is the sum of agent i's updates so far:

    cs_ij = cosine of H_i and H_j,   v_i = max_j cs_ij
    cs_ij <- cs_ij v_i / v_j where v_j > v_i            (pardoning)
    a_i = 1 - max_j cs_ij,   a <- a / max a,   a_i <- confidence (ln(a_i / (1 - a_i)) + 0.5)

with each a_i cut to [0, 1]. As in the authors' code, cosines below 0 count as 0. The paper adds up
gradients times a_i; updates of whole rounds are averaged here: the a_i are divided by their sum.
The paper's weights of single features are left out.

Of directions that are nearly the same, 1 - cos has few digits left: at `ROUNDING`, the least that
counts, the result is off by some 1e-6 of its largest value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.gram import about_origin, combine, cosines
from strategies.aggregation.updates import Updates

if TYPE_CHECKING:
    from torch import Tensor

# An agent this close to another is its copy; the rest is rounding.
ROUNDING = 1e-9


class FoolsGold(Aggregator):
    """Averages by trust in the direction of each agent's history; shares play no part.

    The state holds one vector for each agent that ever took part: of the last layer's size, or of
    the model's with ``layer: all``. Rows that are not an agent's (after bucketing) have no history
    to compare.
    """

    kind: Literal["foolsgold"] = "foolsgold"
    paper: ClassVar[str] = "Fung, Yoon, Beschastnikh, FoolsGold, RAID 2020, Algorithm 1"
    majority: ClassVar[bool] = False
    even: ClassVar[Even | None] = "equal"

    layer: Literal["head", "all"] = Field(
        "head",
        description="Whose updates are compared: of the model's last linear layer (the paper's "
        "indicative features), or of the whole model.",
        json_schema_extra={"origin": "paper"},
    )
    confidence: float = Field(
        1.0,
        gt=0,
        description="Steepness of the last step.",
        json_schema_extra={"origin": "paper"},
    )

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean by trust; 0 where all agents are copies of each other.

        An update of no trust has no part in it: it is not selected.
        """
        state, columns = dict(state), torch.arange(updates.width)
        if self.layer == "head" and context.head is not None:
            columns = columns[context.head]
        history = updates.some(columns)
        for row, agent in zip(history, updates.agents, strict=True):
            row += state.get(f"history/{agent}", torch.zeros_like(row)).to(row)
            state[f"history/{agent}"] = row.clone()
        past = Updates(history, updates.weights, updates.agents, updates.round)
        trust = trust_of(cosines(about_origin(past, context.memory)), self.confidence)
        total, copies = float(trust.sum()), ("all histories are copies: the model stays",)
        trust = trust / (total or 1)
        update = combine(updates, trust, context.memory)
        notes = () if total else copies
        return Aggregate(update, trust=trust, selected=trust > 0, state=state, notes=notes)


def trust_of(similar: Tensor, confidence: float) -> Tensor:
    """Return a_i of the module's formula.

    Args:
        similar: Cosines, float64 (n, n).
        confidence: Factor of the last step.
    """
    similar = similar.clamp(min=0).fill_diagonal_(0)
    most = similar.max(dim=1).values
    pardon = torch.where(most > most[:, None], most[:, None] / most, 1.0)
    doubt = (similar * pardon).max(dim=1).values
    trust = torch.where(1 - doubt > ROUNDING, 1 - doubt, 0.0)
    trust = trust / trust.max().clamp(min=ROUNDING)
    return (confidence * (torch.logit(trust) + 0.5)).clamp(0, 1)
