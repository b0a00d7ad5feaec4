"""The error of a perfectly calibrated model: what the mean of many such models shows."""

import numpy as np
import pytest
from scipy.special import softmax
from test_statistics import table

from mmutils import statistics as st
from mmutils.statistics.calibrated import calibrated_error


def test_calibrated_error_is_the_mean_error_of_models_that_are_right_as_often_as_they_say():
    generator = np.random.default_rng(0)
    probabilities, found = softmax(generator.normal(0, 1.5, (150, 3)), axis=1), []
    for _ in range(300):
        labels = (generator.random((150, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)
        found.append(st.calibration_error(table(labels, probabilities)))
    value = calibrated_error(table(labels, probabilities))
    assert value == pytest.approx(np.mean(found), rel=0.05)
    assert value == calibrated_error(table(1 - labels.clip(max=1), probabilities))  # labels do not count
    assert 0.03 < value < 0.12


def test_it_is_0_where_all_is_certain_and_falls_with_the_number_of_examples():
    assert calibrated_error(table([0, 1], [[1, 0], [0, 1]])) == 0
    few, many = (calibrated_error(table(np.arange(n) % 2, np.full(n, 0.7))) for n in (50, 5000))
    assert many < few / 5
