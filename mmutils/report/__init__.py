"""The report: records become tables, figures, one page and one PDF. Nothing here imports torch. Read in this order:

- `rendering`: from the records to report.md, report.html and report.pdf; the list of a chapter's blocks;
- `results`: the runs of one study; `page`: where blocks write to; `systems`: what is compared with what;
- `questions`, `tables`, `chosen`, `diagnostics`: the blocks of a chapter, `notes.md` their words;
- `plots`, `curves`, `answers`, `markdown`, `html`, `explorer`, `pdf`: how it is drawn and set.
"""

from multiprocessing import get_all_start_methods, get_context

# Never "fork": a lock that a thread of this process holds, as the PDF's compiler does, would stay locked in its copy.
PROCESSES = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")


def start_processes() -> None:
    """Let the server that forks page writers import `rendering`, while this process imports it too."""
    PROCESSES.set_forkserver_preload([f"{__name__}.rendering"])
    if PROCESSES.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()
