"""What the families' tests know of methods: found by their files, examples given by themselves.

A new method needs no line in any table. Its test cases are its own `examples` (by default its
defaults); the tables of the tests only add cases to methods of the house.
"""

import re

# The papers of the house are called by their letter and number; all others have their year.
SOURCE = re.compile(r"\bS\d\b|\b(1[5-9]|20)\d\d\b")
ORIGINS = {"paper", "code", "deduced", "ours"}


def cases(found, house=None):
    """Return all cases of a family as (kind, fields).

    Args:
        found: The family's classes by kind.
        house: Cases of methods of the house by kind, in place of their examples.
    """
    house = house or {}
    stale = set(house) - set(found)
    assert not stale, f"these methods are gone: {sorted(stale)}"
    return [
        (kind, dict(fields))
        for kind, method in found.items()
        for fields in house.get(kind, method.examples)
    ]


def check_source(method, *, cited=True):
    """Check what a method says of itself: its source, and its parameters with their origin."""
    if cited:
        assert SOURCE.search(method.paper), f"{method.__name__}: {method.paper!r} has no year"
    for name, field in method.model_fields.items():
        if name != "kind":
            assert field.description, name
            assert field.json_schema_extra["origin"] in ORIGINS, name
