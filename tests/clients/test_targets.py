"""Target labels: policies, shorthands, and labels that the data set does not have."""

from __future__ import annotations

from collections import Counter

import jsonschema
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from clients.data_attacks.base import AgentContext
from clients.data_attacks.parts.targets import (
    DistinctTarget,
    FixedTarget,
    NextTarget,
    RandomTarget,
    SharedTarget,
    Target,
)

ANY = TypeAdapter(Target)


def seat(index: int = 0, count: int = 5, classes: int = 10, seed: int = 0) -> AgentContext:
    return AgentContext(f"m-{index}", "m", index, count, seed, classes)


def labels(target, count: int, classes: int = 10) -> list[int]:
    return [target.single(seat(k, count, classes)) for k in range(count)]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (3, FixedTarget(label=3)),
        ("random", RandomTarget()),
        ("distinct", DistinctTarget()),
        ("next", NextTarget()),
        ({"kind": "distinct", "offset": 2}, DistinctTarget(offset=2)),
        ({"kind": "shared", "label": 4, "share": 0.4}, SharedTarget(label=4, share=0.4)),
    ],
)
def test_shorthands_and_their_schema(written, meant):
    assert ANY.validate_python(written) == meant
    assert ANY.validate_python(ANY.dump_python(meant, mode="json")) == meant
    jsonschema.validate(written, ANY.json_schema())


@pytest.mark.parametrize("written", [True, -1, 1.5, None, "randomly", "shared", {"kind": "fixed"}])
def test_what_is_no_target_is_refused_by_model_and_schema(written):
    with pytest.raises(ValidationError):
        ANY.validate_python(written)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, ANY.json_schema())


def test_random_labels_are_each_agents_own_and_uniform():
    drawn = Counter(labels(RandomTarget(), 2000, classes=4))
    assert set(drawn) == {0, 1, 2, 3}
    assert all(abs(n - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75) for n in drawn.values())
    assert labels(RandomTarget(), 20) == labels(RandomTarget(), 20)


def test_distinct_labels_go_round():
    assert labels(DistinctTarget(), 12) == [*range(10), 0, 1]
    assert labels(DistinctTarget(offset=8), 4) == [8, 9, 0, 1]
    assert labels(DistinctTarget(labels=(0, 2, 4, 6, 8)), 6) == [0, 2, 4, 6, 8, 0]


def test_shared_label_overlap_as_in_s0_e4():
    evens = {"label": 4, "others": (2, 6, 8)}
    assert labels(SharedTarget(share=0.4, **evens), 5) == [4, 4, 2, 6, 8]
    assert labels(SharedTarget(share=1, **evens), 5) == [4] * 5
    assert Counter(labels(SharedTarget(share=0.4, **evens), 100)) == {4: 40, 2: 20, 6: 20, 8: 20}
    assert labels(SharedTarget(label=4, share=0.5), 5) == [4, 4, 4, 0, 1]  # 2.5 rounds up
    assert labels(SharedTarget(label=1, share=0), 4, classes=3) == [0, 2, 0, 2]


def test_shared_targets_whose_rest_draws_from_all_labels_as_in_s0_figure_6():
    drawn = labels(SharedTarget(label=4, share=0.4, rest="random"), 1000)
    assert drawn[:400] == [4] * 400
    assert drawn[400:] == labels(RandomTarget(), 1000)[400:]
    with pytest.raises(ValidationError, match="no others with rest: random"):
        SharedTarget(label=4, share=0.5, others=(1,), rest="random")


def test_next_depends_on_the_input():
    assert NextTarget().single(seat()) is None
    assert NextTarget().wanted(np.array([0, 8, 9]), seat()).tolist() == [1, 9, 0]


@pytest.mark.parametrize(
    "target",
    [
        FixedTarget(label=10),
        DistinctTarget(labels=(0, 10)),
        SharedTarget(label=10, share=1),
        SharedTarget(label=1, share=0, others=(10,)),
    ],
)
def test_labels_that_the_data_set_does_not_have(target):
    with pytest.raises(ValueError, match=r"expected a label in 0\.\.9.*got 10"):
        target.wanted(np.arange(3), seat())


def test_shared_targets_need_another_class():
    assert SharedTarget(label=0, share=1).single(seat(classes=1)) == 0
    with pytest.raises(ValueError, match="two classes"):
        SharedTarget(label=0, share=0).single(seat(classes=1))
    with pytest.raises(ValidationError, match="without the shared label 4"):
        SharedTarget(label=4, share=0.5, others=(4, 5))
