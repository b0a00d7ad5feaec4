"""A report of whatever runs lie in a folder, which speaks of them alone: a part for each data set and study."""

from collections.abc import Callable
from pathlib import Path

from mmutils import runs
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


def pages(folder: Path, draw: bool = True, prefix: str = "") -> list[Page]:
    """A page for each data set and study of the runs in `folder`/runs; prefix: of the names of their pictures."""
    records = runs.load_records(folder / "runs")
    keys = dict.fromkeys((r["data"].get("fingerprint"), r["study"]) for r in records if r["data"] and r["study"])
    studies = [Study(folder, name, fingerprint) for fingerprint, name in keys]
    warnings = {"crisis": crisis.WARNING, "memes": memes.WARNING}
    return [
        Page(study, "", warnings.get(study.name, crisis.WARNING), draw, prefix=f"{prefix}{number}-")
        for number, study in enumerate(studies, 1)
        if study.records
    ]


def text(folder: Path, own: list[Page]) -> str:
    """The report's Markdown."""
    parts = [f"# Runs in {markdown.escape(folder.resolve().name)}", answers(own), chapters(own)]
    parts += [diagnostics.failures(own[0]) if own else "There are no runs with a record that can be read."]
    return "\n\n".join([*parts, "<!-- begin: explorer -->\n<!-- end: explorer -->\n"])


def chapters(own: list[Page]) -> str:
    """A chapter for each page."""
    parts = []
    for page in own:
        data = next(iter(page.study.records.values()))["data"]
        sizes = ", ".join(f"{size:,} {split}" for split, size in data["splits"].items())
        title = markdown.escape(f"{_name(page)}: {STUDIES.get(page.study.name, 'runs')}")
        parts.append(f"## {title}\n\nExamples: {sizes or 'none'}.")
        for name, build in _blocks(page).items():
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
    """Of each run the fine-tuned system that val picked, and those beside it that needed no training of their own."""
    sentences = []
    for run in page.study.records:
        tuned = [system for system in page.study.systems if system["run"] == run and system.get("share") == 1]
        if tuned:
            best = max(tuned, key=lambda system: system["val"][page.study.score].mean())
            alike = [system for system in tuned if system["inputs"] == best["inputs"]]
            said = []
            for system in sorted(alike, key=lambda system: system is not best):
                interval, accuracy = page.study.interval(system), percent(system["test"]["accuracy"].mean())
                span = f"{percent(interval.estimate)} {between(interval.low, interval.high)}"
                said.append(f"{markdown.escape(system['system'])}: AUROC {span}, accuracy {accuracy}")
            beside = f" Beside it, {'; '.join(said[1:])}." if said[1:] else ""
            sentences.append(f"Run {page.record(run, run)}: best on val is {said[0]}.{beside}")
    return " ".join(sentences)


def _blocks(page: Page) -> dict[str, Callable[[Page], str]]:
    """What can be said of a page's runs, by title."""
    named = {s["run"]: (f"{s['run']}: {s['system']}", s) for s in page.study.systems if s["chosen"]}
    blocks: dict[str, Callable[[Page], str]] = {}
    if page.study.name == "gap":
        blocks["The gap by number and place of the labels"] = gaps.table
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
