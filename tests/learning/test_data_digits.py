"""The built-in digits."""

import numpy as np
from sklearn.datasets import load_digits

from learning.data.digits import Digits


def test_digits_are_sklearns_images_divided_by_16():
    data = Digits().load()
    published = load_digits()
    assert data.shape == (1, 8, 8)
    assert data.classes == 10
    assert data.x_train.dtype == np.float32
    assert data.y_train.dtype == np.int64
    # k/16 is exact in float32, so the way back must be exact too
    np.testing.assert_array_equal(data.x_train[:, 0].astype(np.float64) * 16, published.images)
    np.testing.assert_array_equal(data.y_train, published.target)


def test_digits_have_no_official_test_split():
    data = Digits().load()
    assert data.x_test.shape == (0, 1, 8, 8)
    assert data.y_test.shape == (0,)
    assert 0 <= data.x_train.min() <= data.x_train.max() <= 1
