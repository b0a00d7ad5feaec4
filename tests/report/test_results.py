"""What runs say: intervals and tests of a study are those that the statistics give for one system or two."""

import pytest

from mmutils import statistics
from mmutils.report.results import Study


@pytest.mark.parametrize("name", ["crisis", "memes"])
def test_draws_shared_by_systems_give_the_intervals_and_tests_of_single_ones(made, name):
    study = Study(made("report")[0], name)
    study.resamples = 50
    for system in study.systems[:2] + study.systems[-2:]:
        alone = statistics.bootstrap_interval(study.predictions(system), study.score, resamples=50)
        assert study.interval(system) == alone
    pairs = {"alike": study.systems[-2:], "itself": [study.systems[0]] * 2}
    tables = {key: tuple(map(study.predictions, pair)) for key, pair in pairs.items()}
    assert study.compare(pairs) == statistics.compare_pairs(tables, study.score, resamples=50)
    first, second = pairs["alike"]  # drawn one after the other, as for two tables
    names = [(system["run"], system["system"]) for system in pairs["alike"]]
    study.difference(second, second, study.score, 40, {names[1]})
    both = study.difference(first, second, study.score, 40, set(names))
    assert both == statistics.paired_difference(*tables["alike"], study.score, resamples=40)
    assert both.estimate != 0
