"""What runs say: intervals and tests of a study are those that the statistics give for one system or two."""

import pytest
from made_records import make

from mmutils import statistics
from mmutils.report.results import Study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    make(folder, "report")
    return folder


@pytest.mark.parametrize("name", ["crisis", "memes"])
def test_draws_shared_by_systems_give_the_intervals_and_tests_of_single_ones(folder, name):
    study = Study(folder, name)
    study.resamples = 50
    for system in study.systems[:2] + study.systems[-2:]:
        alone = statistics.bootstrap_interval(study.predictions(system), study.score, resamples=50)
        assert study.interval(system) == alone
    pairs = {"alike": study.systems[-2:], "itself": [study.systems[0]] * 2}
    tables = {key: tuple(map(study.predictions, pair)) for key, pair in pairs.items()}
    assert study.compare(pairs) == statistics.compare_pairs(tables, study.score, resamples=50)
