"""An agent that its owner plays, on a machine of its own, with data and intentions of its own.

The scenario knows its name and the size of its share, which its owner has agreed to, and nothing
else. Such games need real machines (``--runtime grpc``).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from clients.data_attacks.base import AgentContext, Behaviour, Contribution, Share


class Private(Behaviour):
    """Whatever the owner does; see `clients.private`."""

    kind: Literal["private"] = "private"
    paper: ClassVar[str] = "none: an agent of a real collaboration"
    examples: ClassVar = ()  # its rows come from its owner

    rows: int = Field(
        ge=2,
        le=100_000_000,
        description="Rows of the share that the owner has agreed to: those that it contributes or "
        "trains on, and those that it keeps for run time, as run_time_share has it.",
    )

    @property
    def malicious(self) -> bool:
        """Not known to anybody but the owner; no count of attackers includes it."""
        return False

    def play(self, share: Share, seat: AgentContext) -> Contribution:
        """Refuse: nobody but the owner can play it.

        Raises:
            ValueError: Always.
        """
        raise ValueError("its owner plays it, so it needs --runtime grpc and its kit")
