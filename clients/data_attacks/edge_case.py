"""Edge-case backdoor: rare but unchanged inputs of one class are called another.

H. Wang et al., "Attack of the Tails: Yes, You Really Can Backdoor Federated Learning", NeurIPS
2020. No trigger is stamped: the backdoor listens for inputs from the tail of the distribution,
which honest agents hardly hold. The paper takes them from another data set (Southwest Airlines
planes called trucks on CIFAR-10, ARDIS sevens called ones on EMNIST). Backfire's agents have no
data but their share, so here the tail is the agent's own: the rows of `source` that lie farthest
from the class's mean, which are those of lowest density under a round Gaussian (the paper's
p-edge-case set, of inputs of density below p, with a plain density). Two things follow. Honest
agents hold tail rows too, under their true label. And the distance is one of pixels, not of the
features of a model: it is cheap, exact and needs no rows beyond those of the class, of which a
small share has few.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share
from clients.data_attacks.parts.poisoning import contribute
from clients.data_attacks.parts.targets import FixedTarget, Label, NextTarget, Target, check_label
from learning.data.partitioning import poison_count
from learning.pool import Floats, Ints


class EdgeCase(Behaviour):
    """Relabels the tail of one class, and asks with the tail of it at run time.

    A run-time row belongs to the tail where it is at least as far from the mean of the agent's
    contributed rows of the class as the nearest relabelled one. An agent with fewer than two
    such rows has no tail: it contributes its share unchanged and has nothing to ask. So has, at
    run time, one of whose kept rows none is that far. Both keep it in the game.
    """

    kind: Literal["edge_case"] = "edge_case"
    paper: ClassVar[str] = "Wang et al. 2020, Attack of the tails, NeurIPS, section 3"
    examples: ClassVar = ({"source": 1}, {"source": 2, "target": 0, "tail": 1})

    source: Label = Field(description="The class whose rarest rows are relabelled.")
    target: Target = Field(
        NextTarget(), description="The label that they get; `next`: the class after the source."
    )
    tail: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Share of the agent's rows of the source class that is its tail, rounded as "
        "poison_count says; at least one row.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_source(self) -> EdgeCase:
        if isinstance(self.target, FixedTarget) and self.target.label == self.source:
            raise ValueError(f"expected a source other than the target label {self.source}")
        return self

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Relabel the tail; see `Behaviour.play`."""
        source = np.array([check_label(self.source, seat)])
        target = int(self.target.wanted(source, seat)[0])
        rows, run_rows = self._tails(share, seat)
        return contribute(
            share,
            rows,
            share.x_train[rows],
            np.full(len(rows), target),
            x_triggered=share.x_run[run_rows],
            targets=np.full(len(run_rows), target),
            run_rows=run_rows,
            target=target,
            source=self.source,
        )

    def _tails(self, share: Share, seat: AgentContext) -> tuple[Ints, Ints]:
        """Return the positions of the tail among the contributed and the kept rows, ascending."""
        own = np.flatnonzero(share.y_train == self.source)
        kept = np.flatnonzero(share.y_run == self.source)
        if len(own) < 2:
            return own[:0], kept[:0]
        mean = share.x_train[own].mean(axis=0, dtype=np.float64)
        far = _distances(share.x_train[own], mean)
        count = max(1, poison_count(self.tail, len(own), rounding=seat.rounding))
        farthest = np.argsort(-far, kind="stable")[:count]
        beyond = _distances(share.x_run[kept], mean) >= far[farthest].min()
        return np.sort(own[farthest]), kept[beyond]


def _distances(x: Floats, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared Euclidean distance of each input to `mean`, float64 (n,)."""
    return np.asarray(np.square(x - mean).reshape(len(x), mean.size).sum(axis=1))
