"""Counts made into the records of a result."""

from __future__ import annotations

from collections.abc import Sequence

from learning.metrics import mean_std
from learning.pool import Bools
from learning.statistics import Hits, clustered_difference, wilson
from server.referee.results import (
    Difference,
    GroupValue,
    Quantity,
    QuantitySummary,
    Score,
    ScoreValue,
    Summary,
)


def share(hits: float, count: int) -> Score:
    """Return the score of `hits` (0..count, may be fractional) with its Wilson interval."""
    value, low, high = wilson(hits, count)
    return Score(value=value if count else None, hits=hits, count=count, low=low, high=high)


def share_of(hits: Bools) -> Score:
    """Return the score of a vector of hits, bool (n,)."""
    return share(int(hits.sum()), len(hits))


def mean_share(hits: Bools) -> Score:
    """Return the score of the mean over trainings of hits, bool (trainings, n)."""
    return share(float(hits.sum()) / len(hits), hits.shape[1])


def difference(pairs: Sequence[tuple[Hits, Hits]]) -> Difference:
    """Return the mean of ``first - second`` over agents' paired hits, with its interval."""
    (value, low, high), count, trainings = clustered_difference(pairs)
    return Difference(
        value=value if count else None, count=count, low=low, high=high, trainings=trainings
    )


def summary(scores: Sequence[Score | None]) -> Summary:
    """Return mean and spread of the agents' scores; those without inputs are left out."""
    kept = [score for score in scores if score is not None and score.value is not None]
    mean, std = mean_std([score.value for score in kept if score.value is not None])
    pooled = share(sum(score.hits for score in kept), sum(score.count for score in kept))
    return Summary(mean=mean, std=std, agents=len(kept), pooled=pooled)


def over_agents(values: Sequence[ScoreValue]) -> GroupValue:
    """Return mean and spread of the agents' values of one score.

    Shares have their inputs pooled as well. Amounts and differences have none; of these the mean
    is that of the agents that have a value.
    """
    shares = [value for value in values if isinstance(value, Score)]
    if shares and len(shares) == len(values):
        return summary(shares)
    found = [value.value for value in values if value.value is not None]
    mean, std = mean_std(found)
    amounts = [value for value in values if isinstance(value, Quantity)]
    return QuantitySummary(
        mean=mean,
        std=std,
        agents=len(found),
        unit=amounts[0].unit if amounts else "",
        at_least=sum(value.at_least for value in amounts if value.value is not None),
    )
