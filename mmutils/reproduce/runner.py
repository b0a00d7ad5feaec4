"""Brings the runs of a profile up to date: each after those it needs, several at a time, only what is stale."""

import queue
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from mmutils import runs
from mmutils.reproduce import execute, staleness
from mmutils.reproduce.experiments import Run
from mmutils.runs.files import write
from mmutils.runs.fingerprints import ROOT, digest, notebook_code, of_run, planned
from mmutils.runs.parameters import printable

STARTED = Path("checkpoints", "started")  # hash of what the run in this folder was started with


class State(NamedTuple):
    """What became of a run."""

    state: str  # "ok", "fresh", "failed" or "skipped"
    reason: str = ""
    seconds: float = 0.0
    memory: int = 0  # most bytes

    def __str__(self) -> str:
        took = f" in {self.seconds:.0f} s" if self.seconds else ""
        return f"{self.state}{took}{f' ({self.reason})' if self.reason else ''}"


class Runner:
    """Brings runs up to date in a folder; `states` says what became of each.

    Args:
        chosen: each after those it needs.
        forced: names of runs that run even when they are fresh.
        execute: runs a notebook, as `execute.execute`.
        gpus: each of the runs at a time gets its own; where there are fewer, they share in turn. None: all GPUs.
    """

    def __init__(
        self,
        chosen: list[Run],
        out: Path,
        forced: set[str] = frozenset(),
        execute: Callable = execute.execute,
        gpus: Sequence[str | None] = (None,),
    ):
        self.runs, self.out, self.forced, self.execute, self.gpus = chosen, out, forced, execute, gpus
        self.free_gpus: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.states: dict[str, State] = {}
        self.stopped = threading.Event()

    def run_all(self, timeout: float | None = None, jobs: int = 1) -> bool:
        """Run what is not fresh, `jobs` at a time; True when nothing failed.

        timeout: seconds without a sign of life, in place of the runs' own.
        """
        for job in range(jobs):
            self.free_gpus.put(self.gpus[job % len(self.gpus)])
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
                        bar.write(printable(f"{head}: {self.states[name]}"))
                        bar.update()
            except BaseException:
                self.stopped.set()  # the pool is left only when its threads have ended what they had started
                raise
        width = max((len(run.name) for run in self.runs), default=0)
        print(f"\n{'run':<{width}}  state    seconds  GB of memory  reason")
        for run in self.runs:
            state, reason, taken, memory = self.states[run.name]
            line = f"{run.name:<{width}}  {state:<7}  {taken:7.1f}  {memory / 1e9:12.1f}  {reason[:200]}"
            print(printable(" ".join(line.splitlines())).rstrip())
        states = [self.states[run.name].state for run in self.runs]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        print(f"{counts}; {time.monotonic() - begun:.0f} s in all")
        return all(became.state in ("ok", "fresh") for became in self.states.values())

    def reasons(self, run: Run) -> list[str]:
        """Why the record of a run is not fresh; empty when it is."""
        try:
            record = runs.load_record(self.folder(run.name))
        except FileNotFoundError:
            return ["no record"]
        except ValueError as error:
            return [str(error)]
        changed = [name for name, result in self._results(run.needs).items() if record["needs"].get(name) != result]
        reasons = staleness.stale(record, run.notebook, run.parameters)
        return reasons + ([f"{', '.join(changed)} changed"] if changed and record["status"] == "ok" else [])

    def folder(self, name: str) -> Path:
        """Where a run lies."""
        return self.out / "runs" / name

    def record(self, name: str) -> dict:
        """The record of a run, or an empty one where there is none that can be read."""
        try:
            return runs.load_record(self.folder(name))
        except (FileNotFoundError, ValueError):
            return {"status": None, "reason": None, "files": {}}

    def _bring_up_to_date(self, run: Run, timeout: float, unreadable: dict, bar: tqdm, head: str) -> State:
        lacking = [name for name in run.needs if self.states[name].state in ("failed", "skipped")]
        if lacking:
            return State("skipped", f"needs {', '.join(lacking)}")
        reasons = ["forced"] if run.name in self.forced else self.reasons(run) or unreadable.get(run.name)
        if not reasons:
            return State("fresh")
        bar.write(printable(f"{head}: running ({'; '.join(reasons)})"))

        def tick(where: str) -> None:
            if self.stopped.is_set():
                raise KeyboardInterrupt
            bar.set_description_str(f"{head} {where}")

        outcome = self._run(run, timeout, tick)
        return State("failed" if outcome.reason else "ok", outcome.reason or "", outcome.seconds, outcome.memory)

    def _run(self, run: Run, timeout: float, tick) -> execute.Outcome:
        """Run the notebook, and see to it that there is a record that fits what happened."""
        folder, values = self.folder(run.name), planned(run.notebook, run.parameters)
        start = of_run(run.notebook, values)
        started, key = folder / STARTED, digest([start, self._results(run.needs)])
        if run.name in self.forced or not started.is_file() or started.read_text() != key:  # else it goes on
            shutil.rmtree(started.parent, ignore_errors=True)
            for weights in folder.glob("*.safetensors"):
                weights.unlink()
        write(started, key)
        before = _stamp(folder / runs.RECORD)
        parameters = run.parameters | {"out": folder.as_posix()}
        gpu = self.free_gpus.get()
        try:
            outcome = self.execute(ROOT / run.notebook, folder, parameters, timeout, ROOT, tick, gpu)
        finally:
            self.free_gpus.put(gpu)
        written = _stamp(folder / runs.RECORD) != before
        reason = outcome.reason or self._misfit(run, written)
        if not reason:
            shutil.rmtree(started.parent, ignore_errors=True)
        elif not (written and self.record(run.name)["status"] == "failed"):
            entries = {"study": run.study, "extra": {"log": execute.last_lines(folder)}, "fingerprints": start}
            runs.save_failure(folder, reason, notebook=run.notebook, parameters=values, **entries)
        return outcome._replace(reason=reason)

    def _misfit(self, run: Run, written: bool) -> str | None:
        """What is wrong with the record of a notebook that went through, if anything; completes the record."""
        if not written:
            return "the notebook wrote no record: its last cell must call runs.save_record(out, ...)"
        record = self.record(run.name)
        if record["status"] == "ok":
            folder = self.folder(run.name)
            ran = digest(notebook_code(folder / Path(run.notebook).name))  # it was read before the package
            hashes = record["fingerprints"]
            hashes |= {"notebook": ran, "code": digest([ran, hashes["files"]])}
            runs.update_record(folder, needs=self._results(run.needs), fingerprints=hashes)
        edited = ("code changed", "notebook changed")  # while it ran: not its fault, and it counts as stale
        reasons = [reason for reason in self.reasons(run) if not reason.startswith(edited)]
        return record["reason"] or "; ".join(f"its record does not fit: {reason}" for reason in reasons) or None

    def _results(self, names: Sequence[str]) -> dict[str, str | None]:
        """Run -> hash of what others can read from it, its predictions and weights; None for one that failed."""
        results = {}
        for name in names:
            record = self.record(name)
            good = record["status"] == "ok"
            results[name] = digest([record["fingerprints"].get("predictions"), record["files"]]) if good else None
        return results

    def _without_weights(self) -> dict[str, list[str]]:
        """Runs whose weights (not committed) are missing where a run that is not fresh reads them, and why."""
        reasons: dict[str, list[str]] = {}
        for run in reversed(self.runs):  # what needs comes after what is needed
            if run.needs and (run.name in self.forced or run.name in reasons or self.reasons(run)):
                for name in run.needs:
                    gone = [file for file in self.record(name)["files"] if not (self.folder(name) / file).is_file()]
                    reasons |= {name: [f"{run.name} reads its {', '.join(gone)}, not here"]} if gone else {}
        return reasons


def _stamp(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None
