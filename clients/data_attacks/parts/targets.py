"""Which label an agent wants its triggered inputs to get.

S0 2.1 lets every attacker choose its target label; E4 (A.2.5) lets a share of them choose the
same one. In a scenario a target is a mapping with a `kind`, or one of three shorthands: a whole
number (`fixed`), `random` or `distinct`.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from clients.data_attacks.base import AgentContext
from learning.pool import Ints
from learning.shares import count_of

Label = Annotated[int, Field(ge=0, le=1_000_000, strict=True)]
Labels = Annotated[tuple[Label, ...], Field(min_length=1, max_length=10_000)]


class TargetPolicy(BaseModel):
    """How an agent picks its target label."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    @abstractmethod
    def single(self, seat: AgentContext) -> int | None:
        """Return the agent's one target label; None where it depends on the input's true label.

        Raises:
            ValueError: If the label is none of the data set's; one line.
        """

    def wanted(self, y: Ints, seat: AgentContext) -> Ints:
        """Return the label wanted for each input, int64 (n,), given the true labels `y` (n,).

        Raises:
            ValueError: If a label is none of the data set's; one line.
        """
        label = self.single(seat)
        if label is None:
            raise NotImplementedError(f"{type(self).__name__} must override `wanted`")
        return np.full(len(y), label, dtype=np.int64)


class FixedTarget(TargetPolicy):
    """Every agent of the group takes `label`."""

    kind: Literal["fixed"] = "fixed"
    label: Label = Field(description="The target label, from 0.")

    def single(self, seat: AgentContext) -> int:
        """Return `label`."""
        return check_label(self.label, seat)


class RandomTarget(TargetPolicy):
    """Each agent draws its own label, uniformly (S0, Table 5)."""

    kind: Literal["random"] = "random"

    def single(self, seat: AgentContext) -> int:
        """Return the agent's draw."""
        return int(seat.generator("target").integers(seat.classes))


class DistinctTarget(TargetPolicy):
    """The agents of a group take the labels in turn, so that few or none coincide (S0 E4)."""

    kind: Literal["distinct"] = "distinct"
    offset: Label = Field(0, description="Position of the first agent's label.")
    labels: Labels | None = Field(None, description="Labels to take in turn; null: all.")

    def single(self, seat: AgentContext) -> int:
        """Return label number ``(offset + index) mod n``."""
        labels = _checked(self.labels, seat)
        return labels[(self.offset + seat.index) % len(labels)]


class SharedTarget(TargetPolicy):
    """The first ``share * count`` agents (halves up) take `label`, the rest other labels.

    S0 E4's label overlap; A.2.5 spreads the rest evenly over the other labels in its tables, and
    "redistribute[s] 10 labels out randomly" in its Figure 6.
    """

    kind: Literal["shared"] = "shared"
    label: Label = Field(description="The label that the first agents share.")
    share: float = Field(ge=0, le=1, description="Share of the group that takes it (halves up).")
    others: Labels | None = Field(
        None, description="Labels that the rest take in turn; null: all but `label`."
    )
    rest: Literal["in_turn", "random"] = Field(
        "in_turn",
        description="in_turn: the rest take `others` in turn. random: each draws one of all "
        "labels, `label` too.",
        json_schema_extra={"origin": "paper"},
    )

    @model_validator(mode="after")
    def _check_others(self) -> SharedTarget:
        if self.others is not None and self.label in self.others:
            raise ValueError(f"expected others without the shared label {self.label}")
        if self.others is not None and self.rest == "random":
            raise ValueError("expected no others with rest: random, which draws from all labels")
        return self

    def single(self, seat: AgentContext) -> int:
        """Return the shared label, or the agent's turn among the others."""
        label = check_label(self.label, seat)
        sharing = count_of(self.share, seat.count)
        if seat.index < sharing:
            return label
        if self.rest == "random":
            return RandomTarget().single(seat)
        others = [other for other in _checked(self.others, seat) if other != label]
        if not others:
            raise ValueError("expected at least two classes for a shared target, got one")
        return others[(seat.index - sharing) % len(others)]


class NextTarget(TargetPolicy):
    """All-to-all (Gu et al. 2019): each input is to get the class after its own, y + 1 mod K."""

    kind: Literal["next"] = "next"

    def single(self, seat: AgentContext) -> None:
        """Return None: the target depends on the input."""

    def wanted(self, y: Ints, seat: AgentContext) -> Ints:
        """Return the next class of each label."""
        return (y + 1) % seat.classes


AnyTarget = Annotated[
    FixedTarget | RandomTarget | DistinctTarget | SharedTarget | NextTarget,
    Field(discriminator="kind"),
]


def _expand(value: object) -> object:
    """Write a shorthand out; anything else is left to the union to judge."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"kind": "fixed", "label": value}
    if isinstance(value, str):
        return {"kind": value}
    return value


Target = Annotated[
    AnyTarget,
    BeforeValidator(
        _expand,
        json_schema_input_type=Annotated[
            AnyTarget | Label | Literal["random", "distinct", "next"],
            Field(union_mode="left_to_right"),
        ],
    ),
]


def check_label(label: int, seat: AgentContext) -> int:
    """Return `label`.

    Raises:
        ValueError: If it is none of the data set's classes; names the range.
    """
    if not 0 <= label < seat.classes:
        raise ValueError(
            f"expected a label in 0..{seat.classes - 1}, the classes of this data set, got {label}"
        )
    return label


def _checked(labels: tuple[int, ...] | None, seat: AgentContext) -> tuple[int, ...]:
    if labels is None:
        return tuple(range(seat.classes))
    return tuple(check_label(label, seat) for label in labels)
