"""The report: chapters and answers from records, filled into report.md, rendered to one HTML file and one PDF.

Prose lies in report/report.md; between its markers `<!-- begin: NAME -->` and `<!-- end: NAME -->` stand blocks that
are made from records and predictions alone. The same records give the same bytes.
"""

import gc
import os
import re
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from mmutils import report, runs
from mmutils.report import chosen, diagnostics, diagrams, html, markdown, pdf, questions, systems, tables
from mmutils.report.explorer import examples, explorer_html
from mmutils.report.page import DATA, LANGUAGES, NOTES, Page
from mmutils.report.results import Study
from mmutils.report.robustness import add_averages, robust
from mmutils.runs import files

REPOSITORY = Path(__file__).parents[2]
WANTED = ("data", "text-en", "text-hi", "image", "fusion-en", "fusion-hi", "finetuning")  # of the committed report
STUDIES = {  # in the order of their chapters
    "gap": "the gap between languages",
    "crisis": "one input and both",
    "transfer": "two languages",
    "memes": "fine-tuning and pretraining",
}
MANY = 2_000  # scores in all records, from which on several processes write them up
BLOCKS = {  # by title
    "Examples": diagnostics.counts,
    "The gap between the languages": questions.gaps,
    "How robust is the part that is closed?": robust,
    "Is the picture worth adding?": partial(tables.comparisons, family=questions.worth),
    "Chosen systems": tables.chosen,
    "Text, picture and both": partial(tables.comparisons, family=systems.inputs),
    "The same by the usual tests": tables.single,
    "Which encoder, which fusion": partial(tables.comparisons, family=systems.choices),
    "Pretrained or not": partial(tables.comparisons, family=systems.finetuning),
    "Methods against each other": partial(tables.comparisons, family=systems.methods),
    "Few labels": tables.shares,
    "What pretraining learned": tables.learned,
    "What matters in CASS-MM": partial(tables.comparisons, family=systems.forms),
    "Did it collapse?": diagnostics.collapse,
    "Retrieval": diagnostics.retrieval,
    "All systems": tables.every,
    "What others published": tables.published,
    "Errors by kind": diagnostics.errors,
    "Parts of the test split": diagnostics.slices,
    "Are both modalities used?": diagnostics.modality_use,
    "Training, confusion, calibration": chosen.each,
    "Classes": tables.classes,
    "Failures": diagnostics.failures,
}


def render(
    folder: str | Path | None = None, profile: str = "report", problems: list[str] | None = None, alone: bool = False
) -> Path:
    """Fills and renders the report of the runs in `folder`/runs; returns the path of report.html.

    alone: speak of these runs alone, without the prose of the repository's report.

    Writes figures/ and the report as .md, .html and .pdf into `folder` (default: the repository's report/, and then the
    results in README.md too), each whole or not at all. What cannot be shown is said there, and added to `problems`.
    """
    folder = Path(folder or REPOSITORY / "report")
    folder.mkdir(parents=True, exist_ok=True)
    files.sweep(folder)
    alone = alone and not folder.samefile(REPOSITORY / "report")  # whose prose is in no other place
    text, pages = filled(folder, profile, alone)
    pictures = {name: content for name, content in diagrams.drawn().items() if f"(figures/{name})" in text}
    pictures |= {name: content for page in pages for name, content in page.made.items()}
    for name, content in pictures.items():
        files.write(folder / "figures" / name, content)
    before = folder / "report.md"
    before = before.read_text(encoding="utf-8", errors="replace") if before.exists() else ""
    linked = re.findall(r"\]\(figures/([\w.-]+\.(?:svg|png))\)", before)
    for name in set(linked) - set(pictures):  # of the report before this one
        (folder / "figures" / name).unlink(missing_ok=True)
    with _beside([record for page in pages for record in page.study.records.values()], 1) as pool:
        printed = pool.submit(pdf.render, text, pictures)
        web = html.render(text, pictures, explorer_html([page.explorer for page in pages if page.explorer]))
    files.write(folder / "report.md", text)
    files.write(folder / "report.html", web)
    files.write(folder / "report.pdf", printed.result())
    if folder.samefile(REPOSITORY / "report") and (path := REPOSITORY / "README.md").exists():
        files.write(path, readme(path.read_text(encoding="utf-8"), text))
    if problems is not None:
        problems += [problem for page in pages for problem in page.problems]
    return folder / "report.html"


def filled(folder: Path, profile: str, alone: bool = False, draw: bool = True) -> tuple[str, list[Page]]:
    """The report's Markdown with all blocks filled, and its pages, with their figures where they are drawn."""
    prose = (REPOSITORY / "report" / "report.md").read_text(encoding="utf-8")
    records = runs.load_records(folder / "runs") if (folder / "runs").is_dir() else []
    done = [record["run"] for record in records if record["status"] == "ok"]
    missing = [name for name in WANTED if not any(f"{run}-".startswith(f"{name}-") for run in done)]
    said = f"*Not run yet: {', '.join(missing)}.* Command: `python -m mmutils.reproduce --profile {profile}`"
    if alone:
        markers = "\n".join(block[0] for block in markdown.BLOCK.finditer(prose))
        prose, missing = f"# Runs in {markdown.escape(folder.resolve().name)}\n\n{markers}", []
        said = "There are no runs with a record that can be read."
    pages = pages_of(folder, records, draw)
    kinds = {"real": False, "emoji": True}
    blocks = {n: "\n\n".join(p.chapter for p in pages if p.study.built_in is kind) for n, kind in kinds.items()}
    blocks["answers"] = "\n\n".join([questions.answers(pages), *[said] * bool(missing or not records)])
    blocks["explorer"] = f"## Explorer\n\n{NOTES['explorer']}" if any(page.explorer for page in pages) else ""
    executed = sorted(path.name for path in (folder / "notebooks").glob("*.ipynb"))
    links = ", ".join(f"[{markdown.escape(Path(name).stem)}](notebooks/{name})" for name in executed)
    blocks["notebooks"] = f"Executed, with all outputs: {links}." if executed else ""
    up = Path(os.path.relpath(REPOSITORY, folder.resolve())).as_posix()
    return markdown.fill(prose, blocks).replace("](../", f"]({up}/"), pages


def pages_of(folder: Path, records: list[dict], draw: bool = True) -> list[Page]:
    """A page for each study on each data set, all built-in ones together, which come last; of many in processes."""
    parts: dict[tuple, list[dict]] = {}
    for record in records:
        data = bool(record["data"].get("built_in")) or str(record["data"].get("fingerprint"))
        parts.setdefault((record["study"], data), []).append(record)
    for study, _ in [key for key in parts if key[1] == "None"]:  # runs that failed before they had read data
        if others := [key for key in parts if key[0] == study and key[1] != "None"]:
            parts[others[-1]] += parts.pop((study, "None"))
    order = {study: number for number, study in enumerate(STUDIES)}
    keys = sorted(parts, key=lambda key: (key[1] is True, order.get(key[0], len(order))))
    tasks = [(folder, key[0], parts[key], draw, f"{number}-") for number, key in enumerate(keys, 1)]
    tasks.sort(key=lambda task: -sum(len(record["scores"]) for record in task[2]))  # the longest first
    with _beside(records, len(tasks)) as pool:
        pages = list(pool.map(written, *zip(*tasks, strict=True))) if tasks else []
    return sorted((page for page in pages if page.study.records), key=lambda page: int(page.prefix[:-1]))


def _beside(records: list[dict], tasks: int) -> Executor:
    """What works while this process goes on: for many scores processes, for few a thread, which is there at once."""
    if sum(len(record["scores"]) for record in records) < MANY:
        return ThreadPoolExecutor(1)
    report.start_processes()
    count = min(tasks, os.cpu_count() or 1)
    return ProcessPoolExecutor(count, report.PROCESSES, _alone)


def _alone() -> None:
    """For a process beside others: no collection goes through what is imported, one thread for products of matrices."""
    gc.freeze()
    threadpool_limits(1)


def written(folder: Path, study: str, records: list[dict], draw: bool, prefix: str) -> Page:
    """The page of a study on one data set, with its chapter, its answer and what the explorer shows of it."""
    page = Page(Study(folder, study, records), draw, prefix)
    if page.study.records:
        add_averages(page.study)
        page.chapter = chapter(page)
        page.answer = questions.answer(page)
        shown = page.guarded("explorer", explorer)
        page.explorer = shown if isinstance(shown, tuple) else None
    return page


def chapter(page: Page) -> str:
    """A page's chapter, of the blocks that are not empty."""
    title = DATA.get(page.name, page.name)
    parts = [f"## {markdown.escape(title[:1].upper() + title[1:])}: {STUDIES.get(page.study.name, 'runs')}"]
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
    tables = {code: examples(page, first["run"], code) for code in spoken}
    return page.warning.rstrip("."), tables, shown, first["classes"]


def readme(text: str, report: str) -> str:
    """README.md with the answers and the table of the chosen systems, links seen from the repository's root."""
    blocks = {name: content.strip() for _, name, content, _ in markdown.BLOCK.findall(report)}
    tables = re.findall(r"^### Chosen systems\n\n(.*?)\n\n(?=#)", f"{blocks['real']}\n{blocks['emoji']}", re.M | re.S)
    results = "\n\n".join([blocks["answers"], *tables[:1]])
    return markdown.fill(text, {"results": re.sub(r"\]\((?=figures/|runs/)", "](report/", results)})
