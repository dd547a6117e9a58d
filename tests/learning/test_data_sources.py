"""What every data source must do; a new one is found by its file and played by its examples."""

import numpy as np
import pytest
from found_methods import cases
from pydantic import ValidationError

from learning.data.base import DataSource
from learning.method import discover

FOUND = discover(DataSource, "learning.data")
HOUSE = {"synthetic": [{}, {"classes": 2, "channels": 3, "height": 5, "train_per_class": 3}]}
CASES = cases(FOUND, HOUSE)


@pytest.mark.parametrize("kind", sorted(FOUND))
def test_it_says_where_it_comes_from(kind):
    assert FOUND[kind].paper
    for name, field in FOUND[kind].model_fields.items():
        assert name == "kind" or field.description, name


def test_the_built_in_ones_are_among_those_that_are_played():
    assert {"digits", "synthetic"} <= {kind for kind, _ in CASES}


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_its_data_set_is_well_formed_and_always_the_same(kind, fields):
    state = np.random.get_state()[1].copy()
    data = FOUND[kind](**fields).load()
    assert np.array_equal(np.random.get_state()[1], state)
    names = data.class_names
    assert len(names) == len(set(names)) >= 2
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.shape == (len(y), *data.shape)
        assert np.isfinite(x).all()
        assert ((x >= 0) & (x <= 1)).all()
        assert ((y >= 0) & (y < data.classes)).all()
    assert set(data.y_train.tolist()) == set(range(data.classes))
    again = FOUND[kind](**fields).load()
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert np.array_equal(getattr(data, part), getattr(again, part))
    assert again.class_names == names


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_it_survives_json_and_refuses_unknown_fields(kind, fields):
    source = FOUND[kind](**fields)
    assert FOUND[kind].model_validate_json(source.model_dump_json()) == source
    with pytest.raises(ValidationError, match="no_such_field"):
        FOUND[kind](**fields, no_such_field=1)
