"""The base of every block that a user writes: what is read is checked, and then stays."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """A block of validated fields that cannot change; unknown fields and NaN are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )
