"""A report of whatever runs lie in a folder, which speaks of them alone: a part for each data set and study."""

from collections.abc import Callable
from pathlib import Path

from mmutils import runs
from mmutils.report import crisis, diagnostics, markdown, memes, pretraining, transfer
from mmutils.report.results import Study
from mmutils.report.sections import Page

STUDIES = {
    "crisis": "one input and both",
    "gap": "the gap between languages",
    "memes": "few labels",
    "transfer": "two languages",
}
SCORES = {"f1_macro": "macro F1", "auroc": "AUROC"}


def pages(folder: Path, draw: bool = True) -> list[Page]:
    """A page for each data set and study of the runs in `folder`/runs."""
    records = runs.load_records(folder / "runs")
    keys = dict.fromkeys((r["data"].get("fingerprint"), r["study"]) for r in records if r["data"] and r["study"])
    studies = [Study(folder, name, fingerprint) for fingerprint, name in keys]
    warnings = {"crisis": crisis.WARNING, "memes": memes.WARNING}
    return [
        Page(study, "", warnings.get(study.name, crisis.WARNING), draw, prefix=f"{number}-")
        for number, study in enumerate(studies, 1)
        if study.records
    ]


def text(folder: Path, own: list[Page]) -> str:
    """The report's Markdown."""
    parts = [f"# Runs in {markdown.escape(folder.resolve().name)}"]
    for page in own:
        data = next(iter(page.study.records.values()))["data"]
        sizes = ", ".join(f"{size:,} {split}" for split, size in data["splits"].items())
        title = f"{data['name']}: {STUDIES.get(page.study.name, page.study.name)}"
        parts.append(f"## {markdown.escape(title)}\n\n{sizes or 'No'} examples.")
        blocks = [(title, page.guarded(title, build)) for title, build in _blocks(page).items()]
        for title, block in blocks:
            heading = "" if block.lstrip().startswith("#") else f"### {title}\n\n"
            parts += [heading + block.strip()] if block else []
    parts += [diagnostics.failures(own[0]) if own else "There are no runs with a record that can be read."]
    return "\n\n".join([*parts, "<!-- begin: explorer -->\n<!-- end: explorer -->\n"])


def _blocks(page: Page) -> dict[str, Callable[[Page], str]]:
    """What can be said of a page's runs, by title."""
    named = {s["run"]: (f"{s['run']}: {s['system']}", s) for s in page.study.systems if s["chosen"]}
    blocks: dict[str, Callable[[Page], str]] = {}
    if page.study.name in ("crisis", "gap"):
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
    blocks = {"All systems": lambda page: diagnostics.systems(page, score)} | blocks
    if named:
        blocks["Confusion"] = lambda page: diagnostics.confusions(page, named)
        blocks["Classes"] = lambda page: diagnostics.classes(page, named)
        blocks["Calibration"] = lambda page: diagnostics.calibration(page, named)
        blocks["Training"] = lambda page: diagnostics.losses(page, named)
    blocks["Both modalities"] = lambda page: diagnostics.modality_use(page, score)
    return blocks
