"""Runs the notebooks of a profile, those whose record is missing or stale, then renders the report.

    python -m mmutils.reproduce --profile demo [--out DIR] [--only NAME ...] [--list] [--force] [--jobs N]
                                              [--timeout SECONDS]
    python -m mmutils.reproduce --profile paper --root crisismmd=DIR --root hateful_memes=DIR
    python -m mmutils.reproduce --profile paper --dry-run     # mmutils/dry_run.py

The profiles stand in report/experiments.yaml:

    profiles:
      demo:
        report: true                     # render the report at the end (default true)
        jobs: 2                          # runs at the same time, which share the cores (default 1)
        out: report                      # folder for runs/ and the report, from the repository root (default report)
        roots: [crisismmd]               # data sets whose folder is given by --root NAME=DIR; no record holds it
        defaults:                        # for every run of the profile; a run's own entries go first
          study: crisis
          timeout: 600                   # seconds of wall time for one notebook (default 3600)
          parameters: {epochs: 5}        # goes to those notebooks that have the parameter
        runs:
          - name: text-en                # folder of the run: DIR/runs/text-en
            notebook: notebooks/text_models.ipynb
            parameters: {language: en, seeds: [0, 1, 2, 3, 4]}
          - name: fusion-en
            notebook: notebooks/fusion.ipynb
            needs: [text-en]             # runs it reads: they go first, and it is stale when what they made changed

Every notebook has a parameter `out: str`, the folder of its run; a run that it needs lies beside it, in
`Path(out).parent / name`. Names and types of parameters are checked before anything runs: papermill would only warn.
A run that fails leaves a record that says so, and the others go on. A run that was stopped and is started again
unchanged finds its checkpoints (in `out`/checkpoints); they are deleted when it is done or anything has changed.
Exit status 0: all is fresh; 1: something failed; 2: wrong use; 130: interrupted.
"""

import argparse
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout
from tqdm import tqdm

from mmutils import execute, fingerprints, runs
from mmutils.experiments import Run, read, rooted
from mmutils.fingerprints import ROOT, digest

STARTED = Path("checkpoints", "started")  # hash of what the run in this folder was started with


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _options(arguments)
    try:
        profile = read(ROOT / options.experiments, options.profile)
        default = "outputs/dry-run" if options.dry_run else profile.out
        out = (Path.cwd() / options.out if options.out else ROOT / default).resolve()
        all_runs = profile.runs if options.dry_run else rooted(profile, dict(options.root))
        chosen = _chosen(all_runs, options.only)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        return _list(chosen, out, {run.name for run in profile.runs})
    jobs = options.jobs or profile.jobs
    if jobs > 1:  # else each of them would use all cores, and they would stand in each other's way
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    sys.stdout.reconfigure(line_buffering=True)  # whoever reads through a pipe sees each line at once
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no kernel is left behind
    (out / "runs").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / "runs" / ".lock", timeout=0):  # the system frees it, even when a runner is killed
            if options.dry_run:
                return 0 if _dry_run(chosen, out, options.timeout) else 1
            names = set(options.only or [run.name for run in chosen])
            good = Runner(chosen, out, names if options.force else set()).run_all(options.timeout, jobs)
            return 0 if (not profile.report or _render(out, options.profile)) and good else 1
    except Timeout:
        print(f"another runner works in {out}: wait for it, or give another --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept; start again to go on", file=sys.stderr)
        return 130


def _dry_run(chosen: list[Run], out: Path, timeout: float | None) -> bool:
    from mmutils import dry_run  # imports nothing heavy, but only this needs it

    try:
        with dry_run.prepared(chosen) as short:
            return Runner(short, out, {run.name for run in short}).run_all(timeout)
    finally:
        dry_run.finish(out / "runs")


class State(NamedTuple):
    """What became of a run: "ok", "fresh", "failed" or "skipped"; why; seconds; most bytes of memory."""

    state: str
    reason: str = ""
    seconds: float = 0.0
    memory: int = 0

    def __str__(self) -> str:
        took = f" in {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.state}{took}{f' ({self.reason})' if self.reason else ''}"


class Runner:
    """Brings runs up to date in a folder; `states` says what became of each."""

    def __init__(self, chosen: list[Run], out: Path, forced: set[str] = frozenset()):
        self.runs, self.out, self.forced = chosen, out, forced
        self.states: dict[str, State] = {}
        self.stopped = threading.Event()

    def run_all(self, timeout: float | None = None, jobs: int = 1) -> bool:
        """Run what is not fresh, `jobs` at a time, each after those it needs; True when nothing failed.

        timeout: seconds, in place of the runs' own.
        """
        begun, unreadable, waiting, running = time.monotonic(), self._without_weights(), list(self.runs), {}
        layout = "{desc} |{bar:20}| {n_fmt} of {total_fmt} runs, {elapsed}"
        bar = tqdm(total=len(self.runs), bar_format=layout, disable=None, leave=False, file=sys.stdout)
        with bar, ThreadPoolExecutor(jobs) as pool:
            try:
                while waiting or running:
                    ready = [run for run in waiting if all(name in self.states for name in run.needs)]
                    for run in ready[: jobs - len(running)]:
                        waiting.remove(run)
                        head = f"[{self.runs.index(run) + 1} of {len(self.runs)}] {run.name}"
                        job = pool.submit(self._bring_up_to_date, run, timeout or run.timeout, unreadable, bar, head)
                        running[job] = run.name, head
                    for job in wait(running, return_when=FIRST_COMPLETED).done:
                        name, head = running.pop(job)
                        self.states[name] = job.result()
                        bar.write(f"{head}: {self.states[name]}")
                        bar.update()
            except BaseException:
                self.stopped.set()  # the pool is left only when its threads have ended what they had started
                raise
        _summary({run.name: self.states[run.name] for run in self.runs}, time.monotonic() - begun)
        return all(became.state in ("ok", "fresh") for became in self.states.values())

    def reasons(self, run: Run) -> list[str]:
        """Why the record of a run is not fresh; empty when it is."""
        try:
            record = runs.load(self.folder(run.name))
        except FileNotFoundError:
            return ["no record"]
        except ValueError as error:
            return [str(error)]
        changed = [name for name in run.needs if record["needs"].get(name) != self._results([name])[name]]
        reasons = runs.stale(record, notebook=run.notebook, parameters=run.parameters)
        return reasons + ([f"{', '.join(changed)} changed"] if changed and record["status"] == "ok" else [])

    def folder(self, name: str) -> Path:
        """Where a run lies."""
        return self.out / "runs" / name

    def record(self, name: str) -> dict:
        """The record of a run, or an empty one where there is none that can be read."""
        try:
            return runs.load(self.folder(name))
        except (FileNotFoundError, ValueError):
            return {"status": None, "reason": None, "files": {}}

    def _bring_up_to_date(self, run: Run, timeout: float, unreadable: dict, bar: tqdm, head: str) -> State:
        lacking = [name for name in run.needs if self.states[name].state in ("failed", "skipped")]
        if lacking:
            return State("skipped", f"needs {', '.join(lacking)}")
        reasons = ["forced"] if run.name in self.forced else self.reasons(run) or unreadable.get(run.name)
        if not reasons:
            return State("fresh")
        bar.write(f"{head}: running ({'; '.join(reasons)})")

        def tick(where: str) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            bar.set_description_str(f"{head} {where}")

        outcome = self._run(run, timeout, tick)
        return State("failed" if outcome.reason else "ok", outcome.reason or "", outcome.seconds, outcome.memory)

    def _run(self, run: Run, timeout: float, tick) -> execute.Outcome:
        """Run the notebook, and see to it that there is a record that fits what happened."""
        folder, planned = self.folder(run.name), fingerprints.planned(run.notebook, run.parameters)
        start = runs.fingerprint(run.notebook, planned)
        self._clean(run, start)
        before = _stamp(folder / runs.RECORD)
        values = run.parameters | {"out": folder.as_posix()}
        outcome = execute.execute(fingerprints.locate(run.notebook), folder, values, timeout, ROOT, tick)
        written = _stamp(folder / runs.RECORD) != before
        reason = outcome.reason or self._misfit(run, written, start)
        if not reason:
            shutil.rmtree((folder / STARTED).parent, ignore_errors=True)
        elif not (written and self.record(run.name)["status"] == "failed"):
            extra = {"log": execute.last_lines(folder)}
            runs.fail(folder, reason, notebook=run.notebook, parameters=planned, study=run.study, extra=extra)
        return outcome._replace(reason=reason)

    def _misfit(self, run: Run, written: bool, start: dict) -> str | None:
        """What is wrong with the record of a notebook that went through, if anything; completes the record."""
        if not written:
            return "the notebook wrote no record: its last cell must call runs.save(out, ...)"
        record = self.record(run.name)
        if record["status"] == "ok":  # the code that ran is that of the start, whatever was edited since
            hashes = record["fingerprints"] | {key: start[key] for key in ("notebook", "code", "files")}
            runs.add(self.folder(run.name), needs=self._results(run.needs), fingerprints=hashes)
        reasons = [
            reason for reason in self.reasons(run) if not reason.startswith(("code changed", "notebook changed"))
        ]
        return record["reason"] or "; ".join(f"its record does not fit: {reason}" for reason in reasons) or None

    def _results(self, names) -> dict[str, str | None]:
        records = {name: self.record(name) for name in names}
        return {name: runs.result(record) if record["status"] == "ok" else None for name, record in records.items()}

    def _without_weights(self) -> dict[str, list[str]]:
        """Runs whose weights (not committed) are missing where a run that is not fresh reads them, and why."""
        found: dict[str, list[str]] = {}
        for run in reversed(self.runs):  # what needs comes after what is needed
            if run.needs and (run.name in self.forced or run.name in found or self.reasons(run)):
                for name in run.needs:
                    gone = [file for file in self.record(name)["files"] if not (self.folder(name) / file).is_file()]
                    found |= {name: [f"{run.name} reads its {', '.join(gone)}, not here"]} if gone else {}
        return found

    def _clean(self, run: Run, start: dict) -> None:
        """Delete checkpoints and weights of an earlier start, unless that was stopped and is the same again."""
        folder, key = self.folder(run.name), digest([start, self._results(run.needs)])
        file = folder / STARTED
        if run.name in self.forced or not file.is_file() or file.read_text() != key:
            shutil.rmtree(file.parent, ignore_errors=True)
            for weights in folder.glob("*.safetensors"):
                weights.unlink()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(key)


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def _chosen(all_runs: list[Run], only: list[str] | None) -> list[Run]:
    """The runs named and those they need, in order; ValueError for an unknown name."""
    names = [run.name for run in all_runs]
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise ValueError(f"no run {', '.join(unknown)} in this profile; there are {', '.join(names)}")
    wanted = set(only or names)
    for run in reversed(all_runs):
        wanted |= set(run.needs) if run.name in wanted else set()
    return [run for run in all_runs if run.name in wanted]


def _list(chosen: list[Run], out: Path, known: set[str]) -> int:
    runner = Runner(chosen, out)
    for run in chosen:
        reasons, status = runner.reasons(run), runner.record(run.name)["status"]
        state = "fresh" if not reasons else "missing" if reasons == ["no record"] else "stale"
        state = "failed" if status == "failed" else state
        print(
            f"{run.name:<28} {state:<8} {run.notebook:<36} {'' if state == 'missing' else '; '.join(reasons)}".rstrip()
        )
    others = {path.name for path in (out / "runs").glob("*/") if path.is_dir()} - known
    if others:
        print(f"also in {out / 'runs'}: {', '.join(sorted(others))}")
    return 0


def _summary(states: dict[str, State], seconds: float) -> None:
    width = max(map(len, states), default=0)
    print(f"\n{'run':<{width}}  state    seconds  GB of memory  reason")
    for name, (state, reason, taken, memory) in states.items():
        print(f"{name:<{width}}  {state:<7}  {taken:7.1f}  {memory / 1e9:12.1f}  {reason[:200]}".rstrip())
    counts = [became.state for became in states.values()]
    print(", ".join(f"{counts.count(s)} {s}" for s in dict.fromkeys(counts)) + f"; {seconds:.0f} s in all")


def _render(out: Path, profile: str) -> bool:
    begun = time.monotonic()
    try:
        from mmutils import report  # draws, so it takes a while to import

        report.render(out, profile)
    except Exception as error:  # whatever it is, the runs are there and the caller learns of it
        traceback.print_exc()
        print(f"the runs are kept, but the report could not be rendered: {error!r}", file=sys.stderr)
        return False
    print(f"report rendered into {out} in {time.monotonic() - begun:.1f} s")
    return True


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mmutils.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo", help="profile of the experiments file (default: demo)")
    parser.add_argument("--out", help="folder for runs and report (default: the profile's, else report)")
    parser.add_argument("--only", nargs="+", action="extend", metavar="NAME", help="only these runs and what they need")
    parser.add_argument("--list", action="store_true", help="say which runs are fresh, stale or missing, and why")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="runs at the same time (default: the profile's)")
    parser.add_argument("--force", action="store_true", help="run even what is fresh")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="limit for each notebook, in place of the file's"
    )
    parser.add_argument(
        "--root", action="append", default=[], type=_root, metavar="DATA=DIR", help="folder of a data set; repeatable"
    )
    parser.add_argument("--dry-run", action="store_true", help="all at full size, on made data, with random weights")
    parser.add_argument("--experiments", default="report/experiments.yaml", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"at least 1, not {number}")
    return number


def _root(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: give DATA=DIR, as crisismmd=/data/CrisisMMD_v2.0")
    return name, str(Path(folder).expanduser())


if __name__ == "__main__":
    sys.exit(main())
