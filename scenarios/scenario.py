"""The scenario: one file of it is all that a game needs to be replayed."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from scenarios import checks
from scenarios.schema import Draft


class Scenario(Draft):
    """Everything needed to replay a game."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = checks.problems(self)
        if problems:
            message = "; ".join(problem.message for problem in problems)
            context = {"message": message, "problems": problems}
            raise PydanticCustomError("cross_check", "{message}", context)
        return self
