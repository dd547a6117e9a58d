"""The made-up data set."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from learning.data.base import DataError
from learning.data.synthetic import Synthetic


def test_shapes_and_classes():
    data = Synthetic(classes=5, channels=3, height=6, width=7, train_per_class=4).load()
    assert data.x_train.shape == (20, 3, 6, 7)
    assert data.x_test.shape == (100, 3, 6, 7)
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int64
    assert np.bincount(data.y_train).tolist() == [4] * 5
    assert len(set(data.class_names)) == 5
    assert 0 <= data.x_train.min() <= data.x_train.max() <= 1


def test_pixels_are_those_of_eight_bit_images():
    data = Synthetic().load()
    levels = data.x_train.astype(np.float64) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


def test_without_noise_a_class_is_one_smooth_image():
    data = Synthetic(noise=0, height=32, width=32).load()
    for label in range(4):
        rows = data.x_train[data.y_train == label]
        assert (rows == rows[0]).all()
    # three waves of at most 1.5 periods: the slope is at most pi * 1.5 a side
    step = np.pi * 1.5 / 31 + 1 / 255
    assert abs(np.diff(data.x_train, axis=2)).max() <= step
    assert abs(np.diff(data.x_train, axis=3)).max() <= step
    assert data.x_train.std() > 0.05


def test_noise_has_the_asked_deviation():
    quiet, noisy = Synthetic(noise=0).load(), Synthetic(noise=0.02).load()
    inside = (quiet.x_train > 0.1) & (quiet.x_train < 0.9)
    deviation = (noisy.x_train - quiet.x_train)[inside].std()
    # rounding to 1/255 adds twice a uniform error, variance 1/12 each
    assert deviation == pytest.approx(np.sqrt(0.02**2 + 2 / 12 / 255**2), rel=0.05)


def test_it_can_be_learned_and_noise_hides_it():
    def accuracy(noise):
        data = Synthetic(noise=noise).load()
        model = LogisticRegression().fit(data.x_train.reshape(200, -1), data.y_train)
        return model.score(data.x_test.reshape(80, -1), data.y_test)

    assert accuracy(0.1) > 0.95
    assert accuracy(10) < 0.6


def test_same_fields_same_data_other_seed_other_data():
    first, again, other = Synthetic().load(), Synthetic().load(), Synthetic(seed=1).load()
    np.testing.assert_array_equal(first.x_train, again.x_train)
    np.testing.assert_array_equal(first.x_test, again.x_test)
    assert not np.array_equal(first.x_train, other.x_train)
    assert not np.array_equal(first.x_train[:80], first.x_test)


def test_limits():
    with pytest.raises(DataError, match=r"expected at most max_gib = 0\.001 GiB"):
        Synthetic(height=256, width=256, max_gib=0.001).load()
    with pytest.raises(DataError, match="8 GiB as float32"):
        Synthetic(classes=1000, train_per_class=1_000_000).load()
    with pytest.raises(ValidationError):
        Synthetic(noise=float("nan"))
    assert Synthetic(test_per_class=0).load().x_test.shape == (0, 1, 8, 8)
