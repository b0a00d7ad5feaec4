"""A report of whatever runs lie in a folder, which speaks of them alone: a part for each data set and study."""

from collections.abc import Callable
from pathlib import Path

from mmutils.report import crisis, diagnostics, gaps, markdown, memes, pretraining, transfer
from mmutils.report.cells import between, percent
from mmutils.report.results import Study
from mmutils.report.sections import NOTES, Page

STUDIES = {
    "crisis": "one input and both",
    "gap": "the gap between languages",
    "memes": "fine-tuning and pretraining",
    "transfer": "two languages",
}
SCORES = {"f1_macro": "macro F1", "auroc": "AUROC"}


def pages(folder: Path, records: list[dict], draw: bool = True, prefix: str = "") -> list[Page]:
    """A page for each data set and study of these records of `folder`/runs; prefix: of the names of their pictures."""
    keys = dict.fromkeys((r["data"].get("fingerprint"), r["study"]) for r in records if r["data"] and r["study"])
    order = [*STUDIES].index
    keys = sorted(keys, key=lambda key: order(key[1]) if key[1] in STUDIES else len(STUDIES))
    studies = [Study(folder, name, fingerprint, records) for fingerprint, name in keys]
    warnings = {"crisis": crisis.WARNING, "memes": memes.WARNING}
    return [
        Page(study, "", warnings.get(study.name, crisis.WARNING), draw, prefix=f"{prefix}{number}-")
        for number, study in enumerate(studies, 1)
        if study.records
    ]


def text(folder: Path, records: list[dict], own: list[Page]) -> str:
    """The report's Markdown; runs that failed before they had a data set stand at its end."""
    parts = [f"# Runs in {markdown.escape(folder.resolve().name)}", answers(own), chapters(own)]
    parts += [] if records else ["There are no runs with a record that can be read."]
    early = [r for r in records if r["status"] != "ok" and not (r["data"] and r["study"])]
    parts += [f"- run `{r['run']}` failed: {markdown.escape(r['reason'])}" for r in early]
    return "\n\n".join([*parts, "<!-- begin: explorer -->\n<!-- end: explorer -->\n"])


def chapters(own: list[Page]) -> str:
    """A chapter for each page."""
    parts = []
    for page in own:
        data = next(iter(page.study.records.values()))["data"]
        sizes = ", ".join(f"{size:,} {split}" for split, size in data["splits"].items())
        title = markdown.escape(f"{_name(page)}: {STUDIES.get(page.study.name, 'runs')}")
        parts.append(f"## {title}\n\nExamples: {sizes or 'none'}.")
        for name, build in (_blocks(page) | {"Failures": diagnostics.failures}).items():
            block = page.guarded(name, build)
            heading = "" if block.lstrip().startswith("#") else f"### {name}\n\n"
            parts += [heading + block.strip()] if block else []
    return "\n\n".join(parts)


def answers(own: list[Page]) -> str:
    """A paragraph for each page: what its runs say of the question that their study asks."""
    said = []
    for page in own:
        name, build = _name(page), {"gap": gaps.answer, "memes": _best}.get(page.study.name)
        text = page.guarded(name, build) if build else ""
        said += [f"**{markdown.escape(name)}.** {text}"] if text else []
    return "\n\n".join(said)


def _name(page: Page) -> str:
    """The data set's name; of a table that of its first run."""
    run, record = next(iter(page.study.records.items()))
    return run if record["data"]["name"] == "table" else record["data"]["name"]


def _best(page: Page) -> str:
    """Of each run the fine-tuned system that val picked, and its scores on test."""
    said = []
    for run in page.study.records:
        if tuned := [s for s in page.study.systems if s["run"] == run and s.get("share") == 1]:
            best = max(tuned, key=lambda system: system["val"][page.study.score].mean())
            interval, accuracy = page.study.interval(best), percent(best["test"]["accuracy"].mean())
            span = f"{percent(interval.estimate)} % {between(interval.low, interval.high)}"
            name = markdown.escape(best["system"])
            said.append(
                f"In run {page.record(run, run)} val picks {name}: AUROC {span}, accuracy {accuracy} % on test."
            )
    return " ".join(said)


def _blocks(page: Page) -> dict[str, Callable[[Page], str]]:
    """What can be said of a page's runs, by title."""
    named = {s["run"]: (f"{s['run']}: {s['system']}", s) for s in page.study.systems if s["chosen"]}
    blocks: dict[str, Callable[[Page], str]] = {}
    if page.study.name == "gap":
        return {"The gap by number and place of the labels": gaps.table}
    if page.study.name == "crisis":
        if set(crisis.FOUR) <= set(crisis.chosen(page)):
            blocks |= {"English and Hindi": crisis.answer, "The gap between the languages": crisis.gaps}
        blocks["Paired tests"] = crisis.comparisons
    if page.study.name == "memes":
        if memes.pairs(page):
            blocks["Pretrained or not"] = memes.answer
        blocks |= {"Paired tests": memes.comparisons, "Few labels": memes.shares}
        blocks |= {"Pretraining": pretraining.learned, "CASS-MM": pretraining.ablation}
        blocks |= {"Collapse": pretraining.collapse, "Retrieval": pretraining.retrieval}
    if page.study.name == "transfer":
        return {"Trained in English, asked in Hindi": transfer.results}
    score = SCORES[page.study.score]
    blocks |= {"All systems": lambda page: diagnostics.systems(page, score)}
    if any(record["data"]["name"] == "harmeme" for record in page.study.records.values()):
        blocks["What others published"] = lambda page: NOTES["harmeme-published"]
    if named:
        blocks["Confusion"] = lambda page: diagnostics.confusions(page, named)
        blocks["Classes"] = lambda page: diagnostics.classes(page, named)
        blocks["Calibration"] = lambda page: diagnostics.calibration(page, named)
        blocks["Training"] = lambda page: diagnostics.losses(page, named)
    blocks["Both modalities"] = lambda page: diagnostics.modality_use(page, score)
    return blocks
