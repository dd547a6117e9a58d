"""FLTrust: the defender trains too, and trusts updates that point the way of its own.

Cao, Fang, Liu, Gong, FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping, NDSS
2021 (arXiv 2012.13995), section IV, with the defender's own update g_0:

    TS_i = max(0, cos(g_i, g_0)),   g = sum_i TS_i |g_0| / |g_i| g_i / sum_i TS_i

Computed in float64; beside exact arithmetic the result is off by some 1e-11 of its largest value at
most, where updates hardly differ.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from strategies.aggregation.base import Aggregate, Aggregator, Context, Even, State
from strategies.aggregation.parts.gram import combine, norms, products_with
from strategies.aggregation.updates import Updates


class FLTrust(Aggregator):
    """Averages by cosine with the defender's own update, at its norm; shares play no part."""

    kind: Literal["fltrust"] = "fltrust"
    paper: ClassVar[str] = "Cao et al., FLTrust, NDSS 2021, section IV"
    needs_own: ClassVar[bool] = True
    majority: ClassVar[bool] = False
    even: ClassVar[Even | None] = "equal"

    def apply(self, updates: Updates, state: State, context: Context) -> Aggregate:
        """Return the mean by trust; 0 where no update points the defender's way.

        An update of no trust has no part in it: it is not selected.

        Raises:
            ValueError: If the context has no update of the defender's own, or one of another
                shape.
        """
        if context.own is None or context.own.shape != (updates.width,):
            found = "none" if context.own is None else f"one of shape {tuple(context.own.shape)}"
            raise ValueError(
                f"fltrust needs the defender's own update of shape ({updates.width},), got "
                f"{found}: give the defender a share of the data"
            )
        own = context.own.to(updates.matrix.device, torch.float64)
        length = float(torch.linalg.vector_norm(own))
        # An update of norm 0 has no direction: 1 stands for its norm, its product is 0.
        lengths = norms(updates, context.memory)
        lengths = torch.where(lengths > 0, lengths, 1.0)
        scores = (products_with(own, updates, context.memory) / lengths).clamp(min=0)
        if length == 0 or float(scores.sum()) == 0:
            notes = ("no update points the way of the defender's own: the model stays",)
            stays = torch.zeros_like(updates.matrix[0])
            return Aggregate(stays, 0 * scores, torch.zeros(len(scores)).bool(), notes=notes)
        trust = scores / scores.sum()
        update = combine(updates, trust * length / lengths, context.memory)
        return Aggregate(update, trust=trust, selected=trust > 0)
