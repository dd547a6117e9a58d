"""A benign agent: it contributes its data as it is (the clean agents of S0 2.1 and S1 3.2)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share
from clients.data_attacks.parts.poisoning import contribute


class Benign(Behaviour):
    """Contributes its share unchanged."""

    kind: Literal["benign"] = "benign"
    paper: ClassVar[str] = "S0, Datta & Shadbolt, Backdoors that backfire, 2.1"

    @property
    def malicious(self) -> bool:
        """No."""
        return False

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Return the share; see `Behaviour.play`."""
        none = np.zeros(0, np.int64)
        return contribute(share, none, share.x_train[:0], none)
