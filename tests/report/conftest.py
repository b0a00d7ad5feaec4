"""Records of the profiles, made once for all tests of the report, and a report of them that is rendered once."""

from functools import cache
from pathlib import Path

import pytest

from mmutils.report import rendering, results


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder with made records of a profile, and the parameters of its runs."""
    from made_records import make  # imports torch, which most tests of the report do without

    @cache
    def made(profile: str) -> tuple[Path, dict]:
        folder = tmp_path_factory.mktemp(profile)
        return folder, make(folder, profile)

    return made


@pytest.fixture(scope="session")
def smoke(made):
    """The page of a report of made records of every notebook, and what could not be shown."""
    problems = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "RESAMPLES", 50)  # no interval is read
        return rendering.render(made("smoke")[0], "smoke", problems), problems
