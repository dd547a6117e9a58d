"""Clean-label backdoor: hard-to-learn rows of the target class carry the trigger, labels stay.

Turner et al. 2019 (Label-consistent backdoor attacks), played by many agents in S0 E5. Rows of the
target class are perturbed by PGD so that their own content says little about their class; the
trigger stamped on top is then what the model learns. The gradients come from a surrogate that the
agent trains on its own share: the paper's own one is trained adversarially, S0 does not say.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share
from clients.data_attacks.parts.poisoning import choose_rows, contribute
from clients.data_attacks.parts.stamping import AnyTrigger, stamped, stamped_part
from clients.data_attacks.parts.targets import NextTarget, RandomTarget, Target
from learning.attacks.ascent import Norm, Radius
from learning.attacks.pgd import PGD
from learning.pool import Floats, Ints
from learning.seeds import torch_generator
from learning.surrogate import surrogate
from learning.triggers.random_badnet import RandomBadNet

_CHUNK = 512  # inputs perturbed at once


class CleanLabel(Behaviour):
    """Perturbs and stamps rows of the target class only, and leaves every label as it is."""

    kind: Literal["clean_label"] = "clean_label"
    paper: ClassVar[str] = "Turner et al. 2019, Label-consistent backdoor attacks; S0 E5"

    trigger: AnyTrigger = Field(RandomBadNet(), description="What the backdoor listens for.")
    target: Target = Field(RandomTarget(), description="The label that triggered inputs get.")
    poison_rate: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the rows that is poisoned, rounded as poison_count says.",
        json_schema_extra={"origin": "ours"},
    )
    rate_of: Literal["share", "eligible"] = Field(
        "eligible",
        description="What the rate refers to: the agent's rows of the target class (Turner et "
        "al.), or all rows of the share, as in `backdoor`.",
        json_schema_extra={"origin": "paper"},
    )
    norm: Norm = Field(
        "linf", description="Norm of the perturbation.", json_schema_extra={"origin": "paper"}
    )
    epsilon: Radius = Field(
        16 / 255,
        description="Radius of the perturbation, on inputs in [0, 1]; Turner et al. compare 8, 16 "
        "and 32 / 255.",
        json_schema_extra={"origin": "paper"},
    )
    steps: int = Field(
        20, ge=1, le=10_000, description="PGD steps.", json_schema_extra={"origin": "ours"}
    )
    surrogate_epochs: int = Field(
        10,
        ge=1,
        le=10_000,
        description="Epochs of the agent's surrogate model.",
        json_schema_extra={"origin": "ours"},
    )
    surrogate_lr: float = Field(
        0.05,
        gt=0,
        le=100,
        description="Its learning rate (SGD, momentum 0.9).",
        json_schema_extra={"origin": "ours"},
    )
    surrogate_batch: int = Field(
        32, ge=1, le=65_536, description="Its batch size.", json_schema_extra={"origin": "ours"}
    )

    @model_validator(mode="after")
    def _check_target(self) -> CleanLabel:
        if isinstance(self.target, NextTarget):
            raise ValueError("expected a target with one label, got next: clean labels stay")
        return self

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Perturb and stamp; see `Behaviour.play`.

        Raises:
            ValueError: If the surrogate diverges; it is `surrogate_lr` that is too large.
        """
        eligible = share.y_train == self.target.wanted(share.y_train, seat)
        reference = float(eligible.sum()) if self.rate_of == "eligible" else None
        rows = choose_rows(self.poison_rate, eligible, seat, reference=reference)
        return contribute(
            share,
            rows,
            stamped(self.trigger, self._perturbed(share, rows, seat), seat, "train"),
            share.y_train[rows],
            x_triggered=stamped(self.trigger, share.x_run, seat, "run"),
            targets=self.target.wanted(share.y_run, seat),
            target=self.target.single(seat),
            x_part=stamped_part(self.trigger, share.x_run, seat),
        )

    def _perturbed(self, share: Share, rows: Ints, seat: AgentContext) -> Floats:
        """Return the rows moved away from their class, float32 (k, C, H, W)."""
        if not len(rows):
            return share.x_train[rows]
        x, y = torch.tensor(share.x_train), torch.tensor(share.y_train)
        generator = torch_generator(seat.seed, "clean label", agent=seat.name)
        model = surrogate(
            x,
            y,
            seat.classes,
            generator,
            epochs=self.surrogate_epochs,
            lr=self.surrogate_lr,
            batch_size=self.surrogate_batch,
        )
        # As Turner et al. play it: as far as the steps lead, also beyond the first error.
        attack = PGD(
            norm=self.norm,
            epsilon=self.epsilon,
            steps=self.steps,
            random_start=False,
            loss="cross_entropy",
            schedule="constant",
            keep="last",
        )
        moved = [
            attack.perturb(model, x[chunk], y[chunk], generator)
            for chunk in torch.split(torch.tensor(rows), _CHUNK)
        ]
        return np.asarray(torch.cat(moved).numpy(), dtype=np.float32)
