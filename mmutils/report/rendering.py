"""The report: tables and figures from records, filled into report.md, rendered to one HTML file and one PDF.

Prose lies in report/report.md; between its markers `<!-- begin: NAME -->` and `<!-- end: NAME -->` stand blocks that
are made from records and predictions alone. The same records give the same bytes.
"""

import os
import re
from pathlib import Path

from mmutils import runs
from mmutils.report import crisis, html, memes, own, pdf, transfer
from mmutils.report.explorer import explorer_html
from mmutils.report.markdown import BLOCK, fill
from mmutils.report.results import Study
from mmutils.report.sections import Page
from mmutils.runs import files

REPOSITORY = Path(__file__).parents[2]
STUDIES = {"crisis": crisis, "memes": memes, "transfer": transfer}


def render(
    folder: str | Path | None = None, profile: str = "demo", problems: list[str] | None = None, alone: bool = False
) -> Path:
    """Fills and renders the report of the runs in `folder`/runs; returns the path of report.html.

    alone: speak of these runs alone, without the prose of the repository's report.

    Writes figures/ and the report as .md, .html and .pdf into `folder` (default: the repository's report/, and then the
    results in README.md too), each whole or not at all. What cannot be shown is said there, and added to `problems`.
    """
    folder = Path(folder or REPOSITORY / "report")
    folder.mkdir(parents=True, exist_ok=True)
    files.sweep(folder)
    if alone:
        records = loaded(folder)
        every = own.pages(folder, records)
        text = own.text(folder, records, every)
    else:
        text, pages = filled(folder, profile)
        every = list(pages.values())
    explored = [page for page in every if page.study.name in ("crisis", "memes")]  # no texts of tweets are shown
    explorers = [page.guarded(f"{page.study.name}, explorer", STUDIES[page.study.name].explorer) for page in explored]
    pictures = {name: content for page in every for name, content in page.made.items()}
    for name, content in pictures.items():
        files.write(folder / "figures" / name, content)
    for path in (folder / "figures").glob("*"):
        if path.name not in pictures and not path.is_dir():  # of an earlier report
            path.unlink()
    web = html.render(text, folder, explorer_html([shown for shown in explorers if isinstance(shown, tuple)]))
    files.write(folder / "report.md", text)
    files.write(folder / "report.html", web)
    if folder.samefile(REPOSITORY / "report") and (path := REPOSITORY / "README.md").exists():
        files.write(path, readme(path.read_text(encoding="utf-8"), text))
    files.write(folder / "report.pdf", pdf.render(text, folder))
    if problems is not None:
        problems += [problem for page in every for problem in page.problems]
    return folder / "report.html"


def loaded(folder: Path) -> list[dict]:
    """The records of `folder`/runs, none where there is no such folder."""
    return runs.load_records(folder / "runs") if (folder / "runs").is_dir() else []


def filled(folder: Path, profile: str, draw: bool = True) -> tuple[str, dict[str, Page]]:
    """report.md with all blocks filled, and the page of each study, with its figures where they are drawn."""
    prose = (REPOSITORY / "report" / "report.md").read_text(encoding="utf-8")
    records = loaded(folder)
    studies = {name: Study(folder, name, records=records) for name in STUDIES}
    pages = {name: Page(studies[name], profile, module.WARNING, draw) for name, module in STUDIES.items()}
    sections = [(page, section) for name, page in pages.items() for section in STUDIES[name].SECTIONS]
    blocks = {section.name: section.markdown(page) for page, section in sections}
    told = {name for name, page in pages.items() if not page.study.built_in}  # by their own chapters
    real = [page for page in own.pages(folder, records, draw, "real-") if not page.study.built_in]
    real = [page for page in real if page.study.name not in told]
    blocks |= {"real-answer": own.answers(real), "real": own.chapters(real)}
    pages |= {f"real {number}": page for number, page in enumerate(real)}
    up = Path(os.path.relpath(REPOSITORY, folder.resolve())).as_posix()
    return fill(prose, blocks).replace("](../", f"]({up}/"), pages


def readme(text: str, report: str) -> str:
    """README.md with the answers and the first study's table, links seen from the repository's root."""
    blocks = {name: content.strip() for _, name, content, _ in BLOCK.findall(report)}
    second = f"## The second answer\n\n{blocks['memes-answer']}".replace("(#", "(report/report.md#")
    first = [blocks.get("real-answer", ""), "On the built-in data:", blocks["crisis-answer"]]
    results = [*(first if first[0] else first[2:]), blocks["crisis-results"], second if "> **" in second else ""]
    results = "\n\n".join(filter(None, results))
    return fill(text, {"results": re.sub(r"\]\((?=figures/|runs/)", "](report/", results)})
