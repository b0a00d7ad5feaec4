"""The report of every profile is whole before anyone spends hours on its runs: rendered from made records of them."""

import re
from itertools import combinations

import pytest
import yaml
from made_records import EXAMPLES, EXPERIMENTS

from mmutils.report import rendering as report
from mmutils.report import results
from mmutils.report.page import readable

PROFILES = [*yaml.safe_load(EXPERIMENTS.read_text(encoding="utf-8"))["profiles"]]
PROFILES.remove("real")  # a part of the two studies, in chapters of its own
PARTS = (
    "What pretraining learned",
    "Did it collapse?",
    "Retrieval",
    "Few labels",
    "Are both modalities used?",
    "Examples",
)


@pytest.fixture(scope="module", params=PROFILES)
def profile(request, made):
    """The parameters of a profile's runs, the text of a report from made records of them, and its problems."""
    folder, planned = made(request.param)
    if request.param == "smoke":  # one of them as a page too
        page, problems = request.getfixturevalue("smoke")
        assert "What pretraining learned" in page.read_text(encoding="utf-8")
        return planned, page.with_suffix(".md").read_text(encoding="utf-8"), problems
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "RESAMPLES", 50)
        alone = request.param == "demo"  # as outside report/
        text, pages = report.filled(folder, request.param, alone, draw=False)
    return planned, text, [problem for page in pages for problem in page.problems]


def test_every_table_and_both_answers_are_there(profile):
    planned, text, problems = profile
    assert problems == []
    assert "Not run yet" not in text
    blocks = dict(re.findall(r"<!-- begin: ([\w-]+) -->\n(.*?)<!-- end: \1 -->", text, re.DOTALL))
    assert blocks["answers"].count("**Asked:") == 2 and "- **On " in blocks["answers"]
    built_in = any(run.get("data", "").startswith("emoji") for run in planned.values())
    quiet = {"real", "notebooks"} | (set() if built_in else {"emoji", "explorer"})
    assert not [name for name, content in blocks.items() if not content.strip() and name not in quiet]
    for part in PARTS:
        assert f"### {part}" in text
    variants = [pair for run in planned.values() for pair in combinations(run.get("variants", ()), 2)]
    compared = any(sum(x != y for x, y in zip(old, new, strict=True)) == 1 for old, new in variants)
    assert ("### What matters in CASS-MM" in text) == compared


def test_every_baseline_has_its_comparisons_and_every_start_its_row(profile):
    planned, text, _ = profile
    tuned = {name: run for name, run in planned.items() if "starts" in run}
    cells = re.findall(
        r"^\| (.*) – (.*?) \| (?:all labels|[\d.]+ % of the labels) \((.*)\); (?:one|\d+) pretrainings? \|",
        "".join(re.findall(r"^### Pretrained or not\n(.*?)^##", text, re.MULTILINE | re.DOTALL)),
        re.MULTILINE,
    )
    rows = [(start, baseline.removesuffix(" (other networks)"), counts) for start, baseline, counts in cells]
    names = [start for run in tuned.values() for start in run["starts"]]
    wanted = [
        (
            f"{start} ({name})" if names.count(start) > 1 else start,
            baseline,
            f"{round(900 * share):,} of train, {EXAMPLES} of val",
        )
        for name, run in tuned.items()
        for start, baseline in run["baselines"].items()
        for share in run["shares"]
    ]
    assert sorted(rows) == sorted(wanted)
    assert wanted
    for name, run in tuned.items():
        for start in run["starts"]:
            label = f"{readable(start)}, {100 * max(run['shares']):.3g} % of labels"
            assert re.search(rf"^\| \[[^]]*{re.escape(label)}[^]]*\]\(runs/{name}/record.json\)", text, re.MULTILINE)
        assert set(run["baselines"]) | set(run["baselines"].values()) <= set(run["starts"])


def test_what_pretraining_kept_is_said(profile):
    assert "| last epoch |" in profile[1]
