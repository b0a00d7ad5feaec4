"""Chapters: the same list of blocks for each study on each data set; those appear that have something to say."""

from functools import partial
from pathlib import Path

from mmutils.report import diagnostics, markdown, questions, systems, tables
from mmutils.report.page import LANGUAGES, Page
from mmutils.report.results import Study

STUDIES = {  # in the order of their chapters
    "gap": "the gap between languages",
    "crisis": "one input and both",
    "transfer": "two languages",
    "memes": "fine-tuning and pretraining",
}
BLOCKS = {  # by title
    "Examples": diagnostics.counts,
    "The gap between the languages": questions.gaps,
    "Chosen systems": tables.chosen,
    "Text, picture and both": partial(tables.comparisons, family="inputs"),
    "Pretrained or not": partial(tables.comparisons, family="finetuning"),
    "Few labels": tables.shares,
    "What pretraining learned": tables.learned,
    "What matters in CASS-MM": partial(tables.comparisons, family="forms"),
    "Did it collapse?": diagnostics.collapse,
    "Retrieval": diagnostics.retrieval,
    "All systems": tables.every,
    "What others published": tables.published,
    "Errors by kind": diagnostics.errors,
    "Parts of the test split": diagnostics.slices,
    "Are both modalities used?": diagnostics.modality_use,
    "Training, confusion, calibration": diagnostics.each,
    "Classes": diagnostics.classes,
    "Failures": diagnostics.failures,
}


def pages(folder: Path, records: list[dict], draw: bool = True) -> list[Page]:
    """A page for each study on each data set, all built-in ones together, which come last."""
    parts: dict[tuple, list[dict]] = {}
    for record in records:
        data = bool(record["data"].get("built_in")) or str(record["data"].get("fingerprint"))
        parts.setdefault((record["study"], data), []).append(record)
    order = [*STUDIES, *{study for study, _ in parts} - {*STUDIES}].index
    keys = sorted(parts, key=lambda key: (key[1] is True, order(key[0])))
    studies = [Study(folder, study, parts[study, data]) for study, data in keys]
    return [Page(study, draw, f"{number}-") for number, study in enumerate(studies, 1) if study.records]


def chapters(pages: list[Page]) -> str:
    """A chapter for each page, of the blocks that are not empty."""
    parts = []
    for page in pages:
        parts.append(f"## {markdown.escape(page.name)}: {STUDIES.get(page.study.name, 'runs')}")
        for name, build in BLOCKS.items():
            block = page.guarded(name, build).strip()
            parts += [f"### {name}\n\n{block}"] if block else []
    return "\n\n".join(parts)


def explorer(page: Page) -> tuple | None:
    """What `explorer_html` shows: the best of each input; None where examples do not come with the package."""
    kinds = systems.kinds(page).values() if page.study.built_in else []
    shown = [(systems.title(system), system, page.study.averaged(system)) for system in kinds]
    if not shown:
        return None
    _, first, _ = shown[0]
    spoken = [code for code in LANGUAGES if code in {system["language"] for system in kinds}] or ["en"]
    examples = {code: diagnostics.examples(page, first["run"], code) for code in spoken}
    return page.warning.rstrip("."), examples, shown, first["classes"]
