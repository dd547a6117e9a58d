"""Examples of every aggregation rule and step, found by their names and fields; no table."""

from pydantic_core import PydanticUndefined

from learning.method import discover
from strategies.aggregation.base import Aggregator, PreAggregator

RULES = discover(Aggregator, "strategies.aggregation")
STEPS = discover(PreAggregator, "strategies.preaggregation")


def example(method, f, **fields):
    """Return a method told of `f` malicious agents, without noise, else with its defaults."""
    own = method.model_fields
    told = {"f": f, "noise": 0.0, **fields}
    needed = {name: _least(field, f) for name, field in own.items() if field.is_required()}
    return method(**needed | {name: value for name, value in told.items() if name in own})


def _least(field, f):
    """Return a value that a required number takes, above 0 and above `f` where it counts agents."""
    assert field.default is PydanticUndefined
    return f + 1 if field.annotation is int else 1.0


def rules(f):
    return {kind: example(rule, f) for kind, rule in RULES.items()}


def steps(f):
    return {kind: example(step, f) for kind, step in STEPS.items()}
