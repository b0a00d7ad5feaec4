"""What report.md and README.md name is there: tests, runs and starts of profiles, terms where they first occur."""

import re

import pytest
import yaml
from made_records import EXPERIMENTS

from mmutils.report.rendering import REPOSITORY

REPORT = (REPOSITORY / "report" / "report.md").read_text(encoding="utf-8")
PROFILES = yaml.safe_load(EXPERIMENTS.read_text(encoding="utf-8"))["profiles"]
RUNS = {name: {run["name"]: run for run in profile["runs"]} for name, profile in PROFILES.items()}
PROSE = re.sub(r"<!-- begin: (\w+) -->.*?<!-- end: \1 -->", "", REPORT, flags=re.DOTALL)
AUDIT = PROSE[PROSE.index("## What we changed against the source projects, and why") :]


def test_every_test_that_is_cited_is_in_its_file():
    cited = re.findall(r"\[([^]]+)\]\(\.\./(tests/[\w/]+\.py)\)", AUDIT)
    assert len(cited) > 30
    for name, path in cited:
        assert f"def test_{name.replace(' ', '_')}(" in (REPOSITORY / path).read_text(encoding="utf-8"), name


def test_files_that_are_linked_are_there():
    for path in re.findall(r"\]\(\.\./([\w/.]+)(?:#[\w-]+)?\)", PROSE):
        assert (REPOSITORY / path).exists(), path
    for run in re.findall(r"\]\(runs/([\w-]+)/record\.json\)", PROSE):
        assert any(run in RUNS[profile] for profile in RUNS.keys() - {"paper", "smoke"}), run


def test_every_published_row_has_a_run_of_the_paper_profile():
    first, second = re.findall(r"^\| Published row .*?\n\n", AUDIT, re.MULTILINE | re.DOTALL)
    runs = [re.search(r"\| `([^`]+)` \|$", line)[1] for line in first.strip().splitlines()[2:]]
    assert len(runs) == 7 and set(runs) <= RUNS["paper"].keys()
    rows = [re.search(r"(224|384) px .*\| ([^|]+) \|$", line).groups() for line in second.strip().splitlines()[2:]]
    assert len(rows) == 15
    for pixels, start in rows:
        starts = RUNS["paper"][f"finetuning-both-{pixels}"]["parameters"]["starts"]
        assert any(name.startswith(start) for name in starts), start


@pytest.mark.parametrize(
    "term", ["Macro F1", "AUROC", "bootstrap", "seed", "Holm", "start", "probe", "Share of labels"]
)
def test_terms_are_defined_before_the_first_table(term):
    assert re.search(rf"\*\*?[^*]*{term}[^*]*\*", PROSE[: PROSE.index("## Real data")])


def test_the_audit_is_the_last_chapter_and_is_advertised_at_the_top():
    assert AUDIT.count("\n## ") == 0
    first = REPORT[: REPORT.index("<!-- begin: answers")]
    assert "](#what-we-changed-against-the-source-projects-and-why)" in first
