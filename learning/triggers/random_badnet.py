"""Random-BadNet: scattered pixels of random colours, one pattern for each agent.

S0 (Backdoors that backfire) A.1.8, after BadNets (Gu et al. 2019). A shape mask takes each pixel
with probability epsilon, the same for all channels; each value under the mask is uniform:

    z_i ~ Bernoulli(epsilon)^(H x W),  m_i ~ U(0, 1)^(C x H x W),  x' = x (1 - z_i) + m_i z_i

The paper leaves open in which order and from which generator the values come, so its own patterns
cannot be recovered; `stream` offers our keyed draw and one that follows its two NumPy calls.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from learning.pool import Floats
from learning.seeds import numpy_generator
from learning.triggers.base import Pattern, Trigger, TriggerKey


class RandomBadNet(Trigger):
    """Each pixel is covered with probability `epsilon`, by a colour of its own.

    `rho` moves the agents of a group towards one common pattern: each pixel of an agent (whether
    it is covered, and its colour) is the common pattern's with probability sqrt(rho), and the
    agent's own draw otherwise. Any two agents then both show the common pattern on a share rho of
    the pixels, in expectation; rho = 0 gives independent triggers, rho = 1 one trigger for the
    whole group. With ``draw: per_row`` the same holds for any two rows.
    """

    # The scenario's word is `draw`, which is also the method's name in Python.
    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["random_badnet"] = "random_badnet"
    paper: ClassVar[str] = "S0, Datta & Shadbolt, Backdoors that backfire, A.1.8 Random-BadNet"

    epsilon: float = Field(
        0.55,
        ge=0,
        le=1,
        description="Perturbation rate: the probability that a pixel is covered.",
        json_schema_extra={"origin": "paper"},
    )
    drawn: Literal["per_agent", "per_phase", "per_row"] = Field(
        "per_agent",
        alias="draw",
        description="per_agent: one pattern for each agent. per_phase: one for its contributed "
        "rows and another one at run time. per_row: a new one for every row, also at run time. S0 "
        "says per_agent; docs/reproductions/s0.md shows which tables come out under which.",
        json_schema_extra={"origin": "paper"},
    )
    rho: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Similarity: the expected share of pixels on which two agents of the group "
        "both show the group's common pattern; 0 independent, 1 one trigger for all.",
        json_schema_extra={"origin": "ours"},
    )
    stream: Literal["keyed", "legacy"] = Field(
        "keyed",
        description="`keyed`: Backfire's generators, keyed by seed and agent. `legacy`: the two "
        "NumPy calls that the paper names, seeded by the agent's position in its group.",
        json_schema_extra={"origin": "ours"},
    )

    @model_validator(mode="after")
    def _check_stream(self) -> RandomBadNet:
        if self.stream == "legacy" and (self.rho > 0 or self.drawn != "per_agent"):
            raise ValueError("expected draw: per_agent and rho: 0 with stream: legacy")
        return self

    def draw(self, shape: tuple[int, int, int], rows: int, key: TriggerKey) -> Pattern:
        """Return the pattern; see `Trigger.draw`."""
        if self.stream == "legacy":
            return legacy_pattern(key.index, shape, self.epsilon)
        per_row = self.drawn == "per_row"
        moment = "" if self.drawn == "per_agent" else f"/{key.purpose}"
        own = _uniform("own" + moment, key.seed, key.agent, shape, rows if per_row else 1)
        if self.rho > 0:
            common = _uniform("common", key.seed, key.group, shape, 1)
            own = self._mix(own, common, f"trigger/mix{moment}", key)
        cover = own[:, :1] < self.epsilon
        return Pattern(mask=cover.astype(np.float32), value=np.where(cover, own[:, 1:], 0))

    def _mix(self, own: Floats, common: Floats, purpose: str, key: TriggerKey) -> Floats:
        coins = numpy_generator(key.seed, purpose, agent=key.agent).random(
            (len(own), 1, *own.shape[2:])
        )
        return np.where(coins < np.sqrt(self.rho), common, own).astype(np.float32, copy=False)


def _uniform(purpose: str, seed: int, agent: str, shape: tuple[int, int, int], rows: int) -> Floats:
    """Return float32 (rows, 1 + C, H, W) in [0, 1): a threshold and the colours of each pixel."""
    channels, height, width = shape
    generator = numpy_generator(seed, f"trigger/{purpose}", agent=agent)
    return generator.random((rows, 1 + channels, height, width), dtype=np.float32)


def legacy_pattern(seed: int, shape: tuple[int, int, int], epsilon: float) -> Pattern:
    """Return the pattern drawn by the NumPy calls of S0 A.1.8, on colours of 0..255.

    ``choice([0, 1], size=H*W, p=[1-epsilon, epsilon])`` for the shape, copied to all channels,
    then ``uniform(0, 1, (H, W, C)) * 255`` for the colours, scaled back to [0, 1] here.

    Args:
        seed: Seed of the `RandomState`; S0 takes the attacker's index, from 0.
        shape: Input shape (C, H, W).
        epsilon: Perturbation rate.
    """
    channels, height, width = shape
    draws = np.random.RandomState(seed)
    cover = draws.choice([0, 1], size=height * width, p=[1 - epsilon, epsilon])
    mask = cover.reshape(1, 1, height, width).astype(np.float32)
    colours = draws.uniform(0, 1, (height, width, channels)).transpose(2, 0, 1)
    return Pattern(mask=mask, value=(colours[None] * mask).astype(np.float32))
